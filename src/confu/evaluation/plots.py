"""Figures: training curves, bars, lines and heat maps; those of sweeps and what shows or saves them come along."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from confu.evaluation.canvas import (
    INK,
    PALETTE,
    PAPER,
    PLATE,
    WIDTH,
    add_legend,
    canvas,
    check_lengths,
    fill_style,
    line_style,
    save_figure,
    to_svg,
)
from confu.evaluation.sweep_plots import boxes, pareto, pareto_front

__all__ = [
    "PALETTE",
    "bars",
    "boxes",
    "heatmap",
    "lines",
    "pareto",
    "pareto_front",
    "save_figure",
    "stacked_bars",
    "to_svg",
    "training_curves",
]

_SMALLEST = 6.0  # points

Series = tuple[Sequence[float], Sequence[float]]
"""x and y of a curve, of the same length."""

Band = tuple[Sequence[float], Sequence[float] | None]
"""Means and standard deviations at each x; None where there is one seed."""


def training_curves(
    train: Mapping[str, Series],
    validation: Mapping[str, Series] | None = None,
    x_label: str = "epoch",
    y_label: str = "loss (nats)",
) -> Figure:
    """The loss of each term over training, one panel a term, train thin and validation thick.

    Args:
        train: term -> (x, y), e.g. `{"total": ([1, 2], [5.5, 4.9]), "image ~ text": ...}`.
        validation: term -> (x, y); a term that is missing here has no validation curve.
        x_label: with its unit.
        y_label: with its unit.

    Returns:
        a figure for `to_svg` or `save_figure`.

    Example:
        >>> "image ~ text" in to_svg(training_curves({"image ~ text": ([1, 2], [5.5, 4.9])}))
        True
    """
    validation = validation or {}
    terms = list(dict.fromkeys((*train, *validation)))
    if not terms:
        raise ValueError("train must hold at least one term's curve; got none")
    columns = 1 if len(terms) == 1 else 2 if len(terms) <= 4 else 3
    rows = math.ceil(len(terms) / columns)
    with canvas(min(WIDTH, 1.7 + 1.95 * columns), 0.9 + 1.9 * rows) as figure:
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, term in zip(grid.flat, terms):
            for part, curves, width, colour in (("train", train, 1.1, 0), ("validation", validation, 2.2, 1)):
                if term in curves:
                    x, y = curves[term]
                    check_lengths(f"{part} curve of {term}", len(x), y, "x")
                    marker = "o" if len(x) == 1 else None
                    axes.plot(x, y, color=PALETTE[colour], linewidth=width, label=part, marker=marker)
            axes.set_title(term)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        for axes in grid.flat[len(terms) :]:
            axes.set_visible(False)
        for axes in grid.flat[max(0, len(terms) - columns) : len(terms)]:
            axes.xaxis.set_tick_params(labelbottom=True)
        figure.supxlabel(x_label, fontsize=11)
        figure.supylabel(y_label, fontsize=11)
        add_legend(figure, grid.flat[0])
    return figure


def bars(
    labels: Sequence[str],
    means: Mapping[str, Sequence[float]],
    stds: Mapping[str, Sequence[float]] | None = None,
    references: Mapping[str, float | Sequence[float]] | None = None,
    x_label: str = "accuracy (%)",
) -> Figure:
    """Horizontal bars by label, one group member a method, with standard deviations and reference values.

    Args:
        labels: what is measured, e.g. query names, from top to bottom.
        means: method -> one value per label; NaN leaves a gap.
        stds: method -> one standard deviation per label; NaN draws none.
        references: name -> one number, drawn as a dashed line, or one per label, drawn as marks (NaN draws none).
        x_label: with its unit.

    Returns:
        a figure for `to_svg` or `save_figure`.
    """
    stds, references = stds or {}, references or {}
    for name, values in (*means.items(), *stds.items()):
        check_lengths(name, len(labels), values, "label")
    thickness = 0.8 / max(len(means), 1)
    middle = np.arange(len(labels), dtype=float)
    with canvas(WIDTH, 1.1 + 0.28 * len(labels) * (len(means) + 0.6)) as figure:
        axes = figure.subplots()
        for i, (method, values) in enumerate(means.items()):
            place = middle + (i - (len(means) - 1) / 2) * thickness
            error = np.asarray(stds.get(method, [math.nan] * len(labels)), dtype=float)
            axes.barh(place, values, height=thickness * 0.88, label=method, **fill_style(i))
            known = ~np.isnan(error)
            numbers = np.asarray(values, dtype=float)
            if known.any():
                axes.errorbar(
                    numbers[known], place[known], xerr=error[known], fmt="none", ecolor=INK, capsize=2.5, elinewidth=1
                )
            for y, value, spread in zip(place, numbers, np.where(known, error, 0.0)):
                if not math.isnan(value):
                    at = (value + spread, y)
                    axes.annotate(
                        f"{value:.1f}", at, (5, 0), textcoords="offset points", va="center", fontsize=10, bbox=PLATE
                    )
        for i, (name, reference) in enumerate(references.items()):
            if isinstance(reference, Sequence):
                check_lengths(name, len(labels), reference, "label")
                axes.scatter(reference, middle, marker="D", s=34, facecolor="none", edgecolor=INK, label=name, zorder=3)
            else:
                axes.axvline(reference, color=INK, linestyle=("--", ":", "-.")[i % 3], linewidth=1.2, label=name)
        axes.set_yticks(middle, labels)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.1)
        axes.set_xlim(left=0)
        axes.set_xlabel(x_label)
        add_legend(figure, axes, list(means))
    return figure


def stacked_bars(
    labels: Sequence[str], parts: Mapping[str, Sequence[float]], x_label: str = "share of samples (%)"
) -> Figure:
    """One horizontal bar a label, made of parts that add up, e.g. by which modalities samples are right (Fig 5).

    Args:
        labels: what is divided, e.g. methods, from top to bottom.
        parts: name -> one size per label, in the order from left to right; 0 or NaN draws none. Sizes that are wide
            enough are written in their part, rounded to whole numbers.
        x_label: with its unit.

    Returns:
        a figure for `to_svg` or `save_figure`.

    Raises:
        ValueError: if a part lacks a label's size, or one is negative.

    >>> figure = stacked_bars(["confu", "clip"], {"image only": [30, 35], "both": [60, 50], "none": [10, 15]})
    """
    for name, sizes in parts.items():
        check_lengths(name, len(labels), sizes, "label")
        if any(size < 0 for size in sizes):
            raise ValueError(f"{name}: sizes that are stacked must be 0 or more; got {min(sizes)}")
    middle = np.arange(len(labels), dtype=float)
    start = np.zeros(len(labels))
    table = np.nan_to_num(np.array(list(parts.values()), dtype=float).reshape(len(parts), len(labels)))
    longest = table.sum(0).max(initial=0)
    with canvas(WIDTH, 1.4 + 0.42 * len(labels)) as figure:
        axes = figure.subplots()
        for i, (name, sizes) in enumerate(zip(parts, table)):
            axes.barh(middle, sizes, left=start, height=0.72, label=name, **fill_style(i))
            for y, left, size in zip(middle, start, sizes):
                if size > 0.045 * longest:
                    at = (left + size / 2, y)
                    axes.text(*at, f"{size:.0f}", ha="center", va="center", fontsize=9, bbox={**PLATE, "pad": 1.2})
            start = start + sizes
        axes.set_yticks(middle, labels)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, longest or 1)
        axes.set_xlabel(x_label)
        add_legend(figure, axes, list(parts))
    return figure


def lines(
    x: Sequence[float],
    series: Mapping[str, Band],
    references: Mapping[str, float | Sequence[float]] | None = None,
    x_label: str = "p",
    y_label: str = "accuracy (%)",
    log_x: bool = False,
    stars: Mapping[str, float] | None = None,
    star_label: str = "zero-shot",
) -> Figure:
    """Curves with a band of one standard deviation, and reference curves dashed.

    Args:
        x: shared by all series.
        series: name -> (means, standard deviations or None), one per x; NaN leaves a gap.
        references: name -> one number or one per x, e.g. chance and the ceiling.
        x_label: with its unit.
        y_label: with its unit.
        log_x: a logarithmic axis whose ticks are the values of x themselves, e.g. shots 1, 2, 4, 8, 16.
        stars: name of a series -> its value at x = 0, drawn as a star, e.g. zero-shot beside few-shot (Fig 4). On a
            logarithmic axis, 0 stands one step before the first x.
        star_label: what the stars are.

    Returns:
        a figure for `to_svg` or `save_figure`.

    Raises:
        ValueError: values that are not one per x; a star of no series; an x of 0 or less on a logarithmic axis.
    """
    if log_x and any(value <= 0 for value in x):
        raise ValueError(f"x must be positive on a logarithmic axis; got {min(x)}. Give values at 0 as stars")
    if unknown := [name for name in stars or {} if name not in series]:
        raise ValueError(f"stars: {unknown[0]!r} is none of the series: {', '.join(series)}")
    with canvas(WIDTH, 3.8) as figure:
        axes = figure.subplots()
        for i, (name, (means, stds)) in enumerate(series.items()):
            check_lengths(name, len(x), means, "x")
            axes.plot(x, means, label=name, **line_style(i))
            if stds is not None:
                check_lengths(f"stds of {name}", len(x), stds, "x")
                low, high = np.subtract(means, stds), np.add(means, stds)
                axes.fill_between(x, low, high, color=PALETTE[i % len(PALETTE)], alpha=0.2, linewidth=0)
        for i, (name, reference) in enumerate((references or {}).items()):
            values = reference if isinstance(reference, Sequence) else [reference] * len(x)
            check_lengths(name, len(x), values, "x")
            axes.plot(x, values, color=INK, linestyle=("--", ":", "-.")[i % 3], linewidth=1.2, label=name)
        zero = _place_of_zero(x) if log_x else 0.0
        if stars:
            for i, name in enumerate(series):
                if name in stars:
                    face, colour = line_style(i)["markerfacecolor"], PALETTE[i % len(PALETTE)]
                    # Stars that overlap are told apart by a rim of paper; hollow ones have their own.
                    rim, size = (PAPER, 13) if face == colour else (colour, 10)
                    axes.plot(zero, stars[name], "*", markersize=size, markerfacecolor=face, markeredgecolor=rim)
            axes.plot([], [], "*", markersize=11, color=INK, label=star_label)
        if log_x:
            _tick_values(axes, x, zero if stars else None)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        add_legend(figure, axes)
    return figure


def _place_of_zero(x: Sequence[float]) -> float:
    first, second = [*sorted({*x}), 0.0, 0.0][:2]
    return first**2 / second if second else (first or 1.0) / 2


def _tick_values(axes: Axes, x: Sequence[float], zero: float | None) -> None:
    """A logarithmic axis with the values of x as ticks, in plain numbers; those that would touch are left out."""
    axes.set_xscale("log")
    values: list[float] = sorted({*x} if zero is None else {*x, zero})
    shown: list[float] = []
    for value in values:
        if not shown or math.log(value / shown[-1]) >= math.log(values[-1] / values[0]) / 12:
            shown.append(value)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(shown, ["0" if value == zero else f"{value:g}" for value in shown])


def heatmap(
    matrix: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    value_label: str = "recall@10 (%)",
    x_label: str = "target",
    y_label: str = "query",
) -> Figure:
    """A matrix of numbers, each written in its cell; NaN cells are left empty.

    More than 20 rows are drawn closer, with the columns' names on top. Where a number would have to be too small to be
    read, only the colours remain.

    Args:
        matrix: one sequence of values per row.
        rows: the names of the rows.
        columns: the names of the columns.
        value_label: what the numbers are, with the unit.
        x_label: what the columns are.
        y_label: what the rows are.

    Returns:
        a figure for `to_svg` or `save_figure`.
    """
    check_lengths("matrix", len(rows), matrix, "row name")
    for name, line in zip(rows, matrix):
        check_lengths(f"row {name} of matrix", len(columns), line, "column")
    values = np.asarray(matrix, dtype=float).reshape(len(rows), len(columns))
    many = len(rows) > 20
    height = 0.42 if not many else min(0.2, max(0.12, 16 / len(rows)))
    label_size = min(11.0, 44 * height)
    width = min(WIDTH, 2.6 + 0.75 * len(columns))
    longest = max((len(f"{value:.1f}") for value in values.flat if not math.isnan(value)), default=1)
    cell = 72 * (width - 1.1 - max(map(len, rows), default=0) * 0.5 * label_size / 72) / max(1, len(columns))
    size = min(11.0, 44 * height, 1.6 * cell / longest)  # points: a digit is about 0.6 as wide as it is high
    with canvas(width, (2.2 if many else 1.3) + height * len(rows)) as figure:
        axes = figure.subplots()
        image = axes.imshow(values, cmap="cividis", aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            if not math.isnan(value) and size >= _SMALLEST:
                red, green, blue, _ = image.cmap(image.norm(value))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                colour = "#ffffff" if dark else "#010101"
                axes.text(j, i, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=size)
        side = "left" if many else "right"
        axes.set_xticks(
            range(len(columns)), columns, rotation=30 if len(columns) < 6 else 45, ha=side, rotation_mode="anchor"
        )
        axes.set_yticks(range(len(rows)), rows, fontsize=label_size)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if many:  # the names of the columns and the scale are where reading begins
            axes.xaxis.tick_top()
            axes.xaxis.set_label_position("top")
        figure.colorbar(
            image, ax=axes, label=value_label, **({"location": "bottom", "aspect": 40, "pad": 0.01} if many else {})
        )
    return figure
