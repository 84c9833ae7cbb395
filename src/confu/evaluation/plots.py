"""Figures: curves, bars, lines, heat maps and maps of points.

Each function returns a figure for `to_svg` or `save_figure`, and draws NaN as a gap. Labels of axes are given with
their unit.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from confu.evaluation.plot_style import (
    INK,
    PALETTE,
    PAPER,
    WIDTH,
    add_legend,
    check_lengths,
    fill_style,
    line_style,
    new_figure,
    save_figure,
    shortened,
    styled,
    to_svg,
)

__all__ = [
    "bars",
    "heatmap",
    "interval_bars",
    "lines",
    "point_map",
    "save_figure",
    "stacked_bars",
    "to_svg",
    "training_curves",
]

OTHERS = "others"
_PLATE = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}  # keeps a number readable on a reference line

Series = tuple[Sequence[float], Sequence[float]]
"""x and y of a curve, of the same length."""

Band = tuple[Sequence[float], Sequence[float] | None]
"""Means and standard deviations at each x; None where there is one seed."""

References = Mapping[str, float | Sequence[float]]
"""Name -> one number, or one for each label or x."""


def training_curves(
    train: Mapping[str, Series],
    validation: Mapping[str, Series] | None = None,
    x_label: str = "epoch",
    y_label: str = "loss (nats)",
) -> Figure:
    """The loss of each term over training, one panel a term, train thin and validation thick.

    Panels share their axis unless one, such as a total, would flatten the others.

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
    highest = [
        max(max(y, default=0.0) for curves in (train, validation) for _, y in [curves.get(term, ((), ()))])
        for term in terms
    ]
    with styled():
        figure = new_figure(min(WIDTH, 1.7 + 1.95 * columns), 0.9 + 1.9 * rows)
        alike = max(highest) <= 3 * min(highest)
        grid = figure.subplots(rows, columns, sharex=True, sharey=alike, squeeze=False)
        for axes, term in zip(grid.flat, terms):
            for part, curves, width, colour in (("train", train, 1.1, 0), ("validation", validation, 2.2, 1)):
                if term in curves:
                    x, y = curves[term]
                    check_lengths(f"{part} curve of {term}", len(x), y, "x")
                    marker = "o" if len(x) == 1 else None
                    axes.plot(x, y, color=PALETTE[colour], linewidth=width, label=part, marker=marker)
            fitting = (40, 26, 17)[columns - 1]  # characters above a panel
            axes.set_title(shortened(term, fitting * 11 // 8), fontsize=11 if len(term) <= fitting else 8)
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
    references: References | None = None,
    x_label: str = "accuracy (%)",
) -> Figure:
    """Horizontal bars by label, one group member a method, with standard deviations and reference values.

    A reference of one number is drawn as a dashed line, one with a number per label as marks.
    """
    stds, references = stds or {}, references or {}
    for name, values in (*means.items(), *stds.items()):
        check_lengths(name, len(labels), values, "label")
    thickness, middle = 0.8 / max(len(means), 1), np.arange(len(labels), dtype=float)
    with styled():
        figure = new_figure(WIDTH, 1.1 + 0.28 * len(labels) * (len(means) + 0.6))
        axes = _label_rows(figure, labels, x_label)
        for i, (method, values) in enumerate(means.items()):
            y = middle + (i - (len(means) - 1) / 2) * thickness
            numbers, error = np.asarray(values, dtype=float), np.full(len(labels), np.nan)
            if method in stds:
                error = np.asarray(stds[method], dtype=float)
            axes.barh(y, numbers, height=thickness * 0.88, label=method, **fill_style(i))
            known = ~np.isnan(error)
            if known.any():
                axes.errorbar(
                    numbers[known], y[known], xerr=error[known], fmt="none", ecolor=INK, capsize=2.5, elinewidth=1
                )
            _write_values(axes, numbers + np.where(known, error, 0.0), y, numbers, "{:.1f}")
        for i, (name, reference) in enumerate(references.items()):
            if isinstance(reference, Sequence):
                check_lengths(name, len(labels), reference, "label")
                axes.scatter(reference, middle, marker="D", s=34, facecolor="none", edgecolor=INK, label=name, zorder=3)
            else:
                axes.axvline(reference, color=INK, linestyle=("--", ":", "-.")[i % 3], linewidth=1.2, label=name)
        axes.margins(x=0.1)
        axes.set_xlim(left=0)
        add_legend(figure, axes, list(means))
    return figure


def stacked_bars(
    labels: Sequence[str], parts: Mapping[str, Sequence[float]], x_label: str = "share of samples (%)"
) -> Figure:
    """One horizontal bar a label, made of parts that add up, e.g. by which modalities samples are right (Fig 5).

    >>> figure = stacked_bars(["confu", "clip"], {"image only": [30, 35], "both": [60, 50], "none": [10, 15]})
    """
    for name, sizes in parts.items():
        check_lengths(name, len(labels), sizes, "label")
        if any(size < 0 for size in sizes):
            raise ValueError(f"{name}: sizes that are stacked must be 0 or more; got {min(sizes)}")
    table = np.nan_to_num(np.array(list(parts.values()), dtype=float).reshape(len(parts), len(labels)))
    longest = table.sum(0).max(initial=0)
    middle, start = np.arange(len(labels), dtype=float), np.zeros(len(labels))
    with styled():
        figure = new_figure(WIDTH, 1.4 + 0.42 * len(labels))
        axes = _label_rows(figure, labels, x_label)
        for i, (name, sizes) in enumerate(zip(parts, table)):
            axes.barh(middle, sizes, left=start, height=0.72, label=name, **fill_style(i))
            for y, left, size in zip(middle, start, sizes):
                if size > 0.045 * longest:
                    plate = {**_PLATE, "pad": 1.2}
                    axes.text(left + size / 2, y, f"{size:.0f}", ha="center", va="center", fontsize=9, bbox=plate)
            start = start + sizes
        axes.set_xlim(0, longest or 1)
        add_legend(figure, axes, list(parts))
    return figure


def interval_bars(
    labels: Sequence[str],
    values: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    x_label: str = "difference (percentage points)",
    text: str = "{:+.1f}",
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Horizontal bars with their confidence intervals, from top to bottom; by default of differences, with their sign.

    References are drawn as dashed lines.
    """
    for name, numbers in (("values", values), ("lows", lows), ("highs", highs)):
        check_lengths(name, len(labels), numbers, "label")
    middle = np.arange(len(labels), dtype=float)
    value, low, high = (np.asarray(numbers, dtype=float) for numbers in (values, lows, highs))
    with styled():
        figure = new_figure(WIDTH, 1.0 + 0.4 * len(labels))
        axes = _label_rows(figure, labels, x_label)
        axes.barh(middle, value, height=0.62, **fill_style(0))
        error = np.clip(np.stack([value - low, high - value]), 0, None)
        axes.errorbar(value, middle, xerr=error, fmt="none", ecolor=INK, capsize=3, elinewidth=1)
        axes.axvline(0, color=INK, linewidth=1)
        for i, (name, reference) in enumerate((references or {}).items()):
            axes.axvline(reference, color=INK, linestyle=("--", ":", "-.")[i % 3], linewidth=1.2, label=name)
        _write_values(axes, np.maximum(high, 0.0), middle, value, text)  # right of zero, where no name stands
        axes.margins(x=0.14)
        add_legend(figure, axes)
    return figure


def lines(
    x: Sequence[float],
    series: Mapping[str, Band],
    references: References | None = None,
    x_label: str = "p",
    y_label: str = "accuracy (%)",
    log_x: bool = False,
    stars: Mapping[str, float] | None = None,
    star_label: str = "zero-shot",
) -> Figure:
    """Curves with a band of one standard deviation, and reference curves dashed.

    A logarithmic axis has the values of x themselves as ticks, e.g. shots 1, 2, 4, 8, 16. `stars` are values of some
    series at x = 0, e.g. zero-shot beside few-shot (Fig 4); on a logarithmic axis 0 stands one step before the first x.
    """
    if log_x and any(value <= 0 for value in x):
        raise ValueError(f"x must be positive on a logarithmic axis; got {min(x)}. Give values at 0 as stars")
    if unknown := [name for name in stars or {} if name not in series]:
        raise ValueError(f"stars: {unknown[0]!r} is none of the series: {', '.join(series)}")
    first, second = [*sorted({*x}), 0.0, 0.0][:2]
    zero = 0.0 if not log_x else first**2 / second if second else (first or 1.0) / 2
    with styled():
        figure = new_figure(WIDTH, 3.8)
        axes = figure.subplots()
        for i, (name, (means, stds)) in enumerate(series.items()):
            check_lengths(name, len(x), means, "x")
            style = line_style(i)
            axes.plot(x, means, label=name, **style)
            if stds is not None:
                check_lengths(f"stds of {name}", len(x), stds, "x")
                low, high = np.subtract(means, stds), np.add(means, stds)
                axes.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
            if stars and name in stars:
                # Stars that overlap are told apart by a rim of paper; hollow ones have their own.
                face, colour = style["markerfacecolor"], style["color"]
                rim, size = (PAPER, 13) if face == colour else (colour, 10)
                axes.plot(zero, stars[name], "*", markersize=size, markerfacecolor=face, markeredgecolor=rim)
        for i, (name, reference) in enumerate((references or {}).items()):
            values = reference if isinstance(reference, Sequence) else [reference] * len(x)
            check_lengths(name, len(x), values, "x")
            axes.plot(x, values, color=INK, linestyle=("--", ":", "-.")[i % 3], linewidth=1.2, label=name)
        if stars:
            axes.plot([], [], "*", markersize=11, color=INK, label=star_label)
        if log_x:
            axes.set_xscale("log")
            ticks: list[float] = []
            values = sorted({*x, zero} if stars else {*x})
            for value in values:  # those that would touch are left out
                if not ticks or math.log(value / ticks[-1]) >= math.log(values[-1] / values[0]) / 12:
                    ticks.append(value)
            axes.xaxis.set_major_locator(FixedLocator(ticks))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks(ticks, ["0" if stars and value == zero else f"{value:g}" for value in ticks])
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        add_legend(figure, axes)
    return figure


def heatmap(
    matrix: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    value_label: str = "recall@10 (%)",
    x_label: str = "target",
    y_label: str = "query",
) -> Figure:
    """A matrix of numbers, each written in its cell.

    More than 20 rows are drawn closer, with the columns' names on top. Where a number would have to be too small to be
    read, only the colours remain.
    """
    check_lengths("matrix", len(rows), matrix, "row name")
    for name, line in zip(rows, matrix):
        check_lengths(f"row {name} of matrix", len(columns), line, "column")
    values = np.asarray(matrix, dtype=float).reshape(len(rows), len(columns))
    rows, columns = [shortened(name) for name in rows], [shortened(name, 30) for name in columns]
    many, angle = len(rows) > 20, 30 if len(columns) < 6 else 45
    cell_height = 0.42 if not many else min(0.2, max(0.12, 16 / len(rows)))
    label_size = min(11.0, 44 * cell_height)
    names_width = max(map(len, rows), default=0) * 0.55 * label_size / 72  # inches
    width = min(WIDTH, max(2.6, 1.8 + names_width) + 0.75 * len(columns))
    digits = max((len(f"{value:.1f}") for value in values.flat if not math.isnan(value)), default=1)
    cell = 72 * (width - 1.1 - 0.9 * names_width) / max(1, len(columns))
    size = min(11.0, 44 * cell_height, 1.6 * cell / digits)  # points: a digit is about 0.6 as wide as it is high
    names_height = 0.08 * max(0, max(map(len, columns), default=0) - 8) * math.sin(math.radians(angle))
    with styled():
        figure = new_figure(width, (2.2 if many else 1.3) + names_height + cell_height * len(rows))
        axes = figure.subplots()
        image = axes.imshow(values, cmap="cividis", aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            if not math.isnan(value) and size >= 6.0:
                red, green, blue, _ = image.cmap(image.norm(value))
                colour = "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "#010101"
                axes.text(j, i, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=size)
        side = "left" if many else "right"
        axes.set_xticks(range(len(columns)), columns, rotation=angle, ha=side, rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), rows, fontsize=label_size)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        where: dict[str, Any] = {}
        if many:  # the names of the columns and the scale are where reading begins
            axes.xaxis.tick_top()
            axes.xaxis.set_label_position("top")
            where = {"location": "bottom", "aspect": 40, "pad": 0.01}
        figure.colorbar(image, ax=axes, label=value_label, **where)
    return figure


def point_map(
    points: Sequence[Sequence[float]],
    names: Sequence[str],
    x_label: str = "",
    y_label: str = "",
    order: Sequence[str] = (),
) -> Figure:
    """Points in the plane by colour.

    Example:
        >>> figure = point_map([(0.0, 1.0), (1.0, 0.0)], ["cat", "dog"])
    """
    check_lengths("names", len(points), names, "point")
    # matplotlib leaves names that begin with "_" out of legends: a space of no width goes before it.
    names, order = (["\u200b" + name if name.startswith("_") else name for name in some] for some in (names, order))
    ranked = [name for name, _ in Counter(names).most_common()]
    shown = [*(name for name in order if name in ranked), *(name for name in ranked if name not in order)]
    if len(shown) > 2 * len(PALETTE):  # then filled and hollow marks are used up
        kept = set(ranked[: 2 * len(PALETTE) - 1])
        shown = [*(name for name in shown if name in kept), OTHERS]
        names = [name if name in kept else OTHERS for name in names]
    place, by_name = np.asarray(points, dtype=float).reshape(len(points), 2), np.asarray(names, dtype=object)
    size = 5.0 if len(points) <= 200 else 3.5 if len(points) <= 800 else 2.5
    with styled():
        figure = new_figure(WIDTH, 4.4 + 0.25 * (len(shown) > 6))
        axes = figure.subplots()
        for i, name in enumerate(shown):
            style = {**line_style(i), "linestyle": "none", "markersize": size, "markeredgewidth": 0.8}
            axes.plot(*place[by_name == name].T, label=name, alpha=0.75, **style)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.tick_params(length=0, labelbottom=False, labelleft=False)
        axes.margins(0.05)
        axes.set_aspect("equal", adjustable="datalim")
        add_legend(figure, axes, shown)
    return figure


def _label_rows(figure: Figure, labels: Sequence[str], x_label: str) -> Axes:
    """Axes of horizontal bars, one label a row from top to bottom."""
    axes = figure.subplots()
    axes.set_yticks(range(len(labels)), [shortened(label) for label in labels])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(x_label)
    return axes


def _write_values(axes: Axes, x: np.ndarray, y: np.ndarray, values: np.ndarray, text: str) -> None:
    for at, value in zip(zip(x, y), values):
        if not math.isnan(value):
            offset: Any = {"textcoords": "offset points", "va": "center"}
            axes.annotate(text.format(value), at, (5, 0), fontsize=10, bbox=_PLATE, **offset)
