"""Figures: training curves, bars, lines and heat maps, as inline SVG for a page or as PNG and SVG files.

The figures are made without pyplot, so nothing global is kept and no display is needed.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from confu.files import written_whole

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#8a6d00", "#332288", "#5c5c5c")
"""Distinguishable with the common colour blindnesses (after Okabe and Ito), each at least 3:1 against white."""

_INK, _GRID, _PAPER = "#1b1f24", "#d8dce1", "#fefefe"
_PLATE = {"facecolor": _PAPER, "edgecolor": "none", "pad": 0.8}  # keeps a number readable on a reference line
_WIDTH = 5.6  # inches: narrow enough that the text is still read when a phone shrinks it
_MARKERS = "osD^vPX"
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
    "svg.hashsalt": "confu",  # the same figure is the same file
}

Series = tuple[Sequence[float], Sequence[float]]
"""x and y of a curve, of the same length."""

Band = tuple[Sequence[float], Sequence[float] | None]
"""Means and standard deviations at each x; None where there is one seed."""


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def _legend(figure: Figure, axes: Axes, first: Sequence[str] = ()) -> None:
    """A legend above the panels if there is more than one name; those of `first` lead."""
    handles, labels = axes.get_legend_handles_labels()
    by_name = dict(zip(labels, handles))
    names = [*first, *(name for name in labels if name not in first)]
    if len(names) > 1:
        columns = 2 if len(names) == 4 else 3
        figure.legend([by_name[name] for name in names], names, loc="outside upper left", ncols=columns)


def to_svg(figure: Figure) -> str:
    """A figure as an `<svg>` element for a page: its colours are CSS variables, so it follows light and dark.

    Ink becomes `currentColor`, paper `var(--card)`, the grid `var(--grid)` and series i `var(--series-i)`, each with
    its light colour as the fallback. Text stays text, so that it can be read out, searched and selected.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor").replace(_GRID, f"var(--grid, {_GRID})")
    svg = svg.replace(_PAPER, f"var(--card, {_PAPER})")
    for i, colour in enumerate(PALETTE):
        svg = svg.replace(colour, f"var(--series-{i}, {colour})")
    # Text without a colour would stay black on a dark page.
    return svg.replace("<svg ", '<svg fill="currentColor" ', 1)


def save_figure(figure: Figure, path: str | Path) -> tuple[Path, Path]:
    """Save a figure as PNG (200 dots per inch) and SVG, on white.

    Args:
        figure: from one of this module's functions.
        path: without a suffix, or with one that is replaced.

    Returns:
        the PNG's path and the SVG's.
    """
    path = Path(path)
    png, svg = path.with_suffix(".png"), path.with_suffix(".svg")
    with mpl.rc_context(_STYLE):
        for target in (png, svg):
            more: dict[str, Any] = {"dpi": 200} if target is png else {"metadata": {"Date": None}}
            with written_whole(target) as temporary:
                figure.savefig(temporary, format=target.suffix[1:], facecolor="white", **more)
    return png, svg


def _check_lengths(name: str, expected: int, values: Sequence[Any], what: str) -> None:
    if len(values) != expected:
        raise ValueError(f"{name} must have one value per {what}, {expected}; got {len(values)}")


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
    with _figure(min(_WIDTH, 1.7 + 1.95 * columns), 0.9 + 1.9 * rows) as figure:
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, term in zip(grid.flat, terms):
            for part, curves, width, colour in (("train", train, 1.1, 0), ("validation", validation, 2.2, 1)):
                if term in curves:
                    x, y = curves[term]
                    _check_lengths(f"{part} curve of {term}", len(x), y, "x")
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
        _legend(figure, grid.flat[0])
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
        _check_lengths(name, len(labels), values, "label")
    thickness = 0.8 / max(len(means), 1)
    middle = np.arange(len(labels), dtype=float)
    with _figure(_WIDTH, 1.1 + 0.28 * len(labels) * (len(means) + 0.6)) as figure:
        axes = figure.subplots()
        for i, (method, values) in enumerate(means.items()):
            place = middle + (i - (len(means) - 1) / 2) * thickness
            colour = PALETTE[i % len(PALETTE)]
            error = np.asarray(stds.get(method, [math.nan] * len(labels)), dtype=float)
            axes.barh(place, values, height=thickness * 0.88, color=colour, label=method)
            known = ~np.isnan(error)
            numbers = np.asarray(values, dtype=float)
            if known.any():
                axes.errorbar(
                    numbers[known], place[known], xerr=error[known], fmt="none", ecolor=_INK, capsize=2.5, elinewidth=1
                )
            for y, value, spread in zip(place, numbers, np.where(known, error, 0.0)):
                if not math.isnan(value):
                    at = (value + spread, y)
                    axes.annotate(
                        f"{value:.1f}", at, (5, 0), textcoords="offset points", va="center", fontsize=10, bbox=_PLATE
                    )
        for i, (name, reference) in enumerate(references.items()):
            if isinstance(reference, Sequence):
                _check_lengths(name, len(labels), reference, "label")
                axes.scatter(
                    reference, middle, marker="D", s=34, facecolor="none", edgecolor=_INK, label=name, zorder=3
                )
            else:
                axes.axvline(reference, color=_INK, linestyle=("--", ":", "-.")[i % 3], linewidth=1.2, label=name)
        axes.set_yticks(middle, labels)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.1)
        axes.set_xlim(left=0)
        axes.set_xlabel(x_label)
        _legend(figure, axes, list(means))
    return figure


def lines(
    x: Sequence[float],
    series: Mapping[str, Band],
    references: Mapping[str, float | Sequence[float]] | None = None,
    x_label: str = "p",
    y_label: str = "accuracy (%)",
    log_x: bool = False,
) -> Figure:
    """Curves with a band of one standard deviation, and reference curves dashed.

    Args:
        x: shared by all series.
        series: name -> (means, standard deviations or None), one per x.
        references: name -> one number or one per x, e.g. chance and the ceiling.
        x_label: with its unit.
        y_label: with its unit.

    Returns:
        a figure for `to_svg` or `save_figure`.
    """
    with _figure(_WIDTH, 3.8) as figure:
        axes = figure.subplots()
        for i, (name, (means, stds)) in enumerate(series.items()):
            _check_lengths(name, len(x), means, "x")
            colour = PALETTE[i % len(PALETTE)]
            axes.plot(x, means, color=colour, marker=_MARKERS[i % len(_MARKERS)], label=name)
            if stds is not None:
                _check_lengths(f"stds of {name}", len(x), stds, "x")
                low, high = np.subtract(means, stds), np.add(means, stds)
                axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        for i, (name, reference) in enumerate((references or {}).items()):
            values = reference if isinstance(reference, Sequence) else [reference] * len(x)
            _check_lengths(name, len(x), values, "x")
            axes.plot(x, values, color=_INK, linestyle=("--", ":", "-.")[i % 3], linewidth=1.2, label=name)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _legend(figure, axes)
    return figure


def heatmap(
    matrix: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    value_label: str = "recall@10 (%)",
    x_label: str = "target",
    y_label: str = "query",
) -> Figure:
    """A matrix of numbers, each written in its cell; NaN cells are left empty.

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
    _check_lengths("matrix", len(rows), matrix, "row name")
    for name, line in zip(rows, matrix):
        _check_lengths(f"row {name} of matrix", len(columns), line, "column")
    values = np.asarray(matrix, dtype=float).reshape(len(rows), len(columns))
    with _figure(min(_WIDTH, 2.6 + 0.75 * len(columns)), 1.3 + 0.42 * len(rows)) as figure:
        axes = figure.subplots()
        image = axes.imshow(values, cmap="cividis", aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            if not math.isnan(value):
                red, green, blue, _ = image.cmap(image.norm(value))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                axes.text(j, i, f"{value:.1f}", ha="center", va="center", color="#ffffff" if dark else "#010101")
        axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), rows)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        figure.colorbar(image, ax=axes, label=value_label)
    return figure
