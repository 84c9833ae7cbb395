"""What all figures share: colours, style, legends, and how a figure becomes SVG for a page or files.

The figures are made without pyplot, so nothing global is kept and no display is needed.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from confu.files import written_whole

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#8a6d00", "#332288", "#5c5c5c")
"""Distinguishable with the common colour blindnesses (after Okabe and Ito), each at least 3:1 against white."""

INK, _GRID, PAPER = "#1b1f24", "#d8dce1", "#fefefe"
PLATE = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}  # keeps a number readable on a reference line
WIDTH = 5.6  # inches: narrow enough that the text is still read when a phone shrinks it
_MARKERS = "osD^vPX"
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
    "svg.hashsalt": "confu",  # the same figure is the same file
}


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of this size in inches, in the style of all figures."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def add_legend(figure: Figure, axes: Axes, first: Sequence[str] = ()) -> None:
    """Add a legend above the panels if there is more than one name; those of `first` lead."""
    handles, labels = axes.get_legend_handles_labels()
    by_name = dict(zip(labels, handles))
    names = [*first, *(name for name in labels if name not in first)]
    if len(names) < 2:
        return
    room = (figure.get_figwidth() - 0.3) * figure.dpi
    for columns in (2, 1) if len(names) == 4 else (3, 2, 1):
        legend = figure.legend([by_name[name] for name in names], names, loc="outside upper left", ncols=columns)
        if columns == 1 or legend.get_window_extent().width < room:
            rows = -(-len(names) // columns)
            figure.set_figheight(figure.get_figheight() + 0.23 * max(0, rows - 2))  # or a long one eats the panels
            return
        legend.remove()  # long names: fewer columns


def line_style(i: int) -> dict[str, Any]:
    """How series i is drawn: colours come back after seven, then dashed, with other markers that are hollow."""
    again = i >= len(PALETTE)
    return {
        "color": PALETTE[i % len(PALETTE)],
        "marker": _MARKERS[(i + 3 * again) % len(_MARKERS)],
        "linestyle": "--" if again else "-",
        "markerfacecolor": PAPER if again else PALETTE[i % len(PALETTE)],
    }


def fill_style(i: int) -> dict[str, Any]:
    """How area i is filled: colours come back after seven, then hatched on paper."""
    colour = PALETTE[i % len(PALETTE)]
    if i < len(PALETTE):
        return {"facecolor": colour}
    return {"facecolor": PAPER, "edgecolor": colour, "hatch": "////", "linewidth": 0.8}


def to_svg(figure: Figure) -> str:
    """A figure as an `<svg>` element for a page: its colours are CSS variables, so it follows light and dark.

    Ink becomes `currentColor`, paper `var(--card)`, the grid `var(--grid)` and series i `var(--series-i)`, each with
    its light colour as the fallback. Text stays text, so that it can be read out, searched and selected.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace(_GRID, f"var(--grid, {_GRID})")
    svg = svg.replace(PAPER, f"var(--card, {PAPER})")
    for i, colour in enumerate(PALETTE):
        svg = svg.replace(colour, f"var(--series-{i}, {colour})")
    # Text without a colour would stay black on a dark page.
    return svg.replace("<svg ", '<svg fill="currentColor" ', 1)


def save_figure(figure: Figure, path: str | Path) -> tuple[Path, Path]:
    """Save a figure as PNG (200 dots per inch) and SVG, on white.

    Args:
        figure: from one of the functions of `confu.evaluation.plots`.
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


def check_lengths(name: str, expected: int, values: Sequence[Any], what: str) -> None:
    """Check that there is one value per row, column, x ...; the error names whose values they are."""
    if len(values) != expected:
        raise ValueError(f"{name} must have one value per {what}, {expected}; got {len(values)}")
