"""What all figures share: style, legends, and how a figure becomes SVG for a page or files.

Figures are made without pyplot, so nothing global is kept and no display is needed.
"""

import io
import warnings
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

INK, GRID, PAPER = "#1b1f24", "#d8dce1", "#fefefe"
WIDTH = 5.6  # inches: narrow enough that the text is still read when a phone shrinks it

_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "text.color", "xtick.color"), INK),
    **{"ytick.color": INK, "grid.color": GRID, "grid.linewidth": 0.8, "lines.linewidth": 1.8, "lines.markersize": 5},
    **{"font.family": "sans-serif", "font.size": 11, "axes.titlesize": 11, "axes.titlelocation": "left"},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True},
    **{"legend.frameon": False, "svg.hashsalt": "confu"},  # the same figure is the same file
}
_LONGEST = 40  # characters of a label: a longer one would leave no room for what is drawn


@contextmanager
def styled(**more: Any) -> Iterator[None]:
    """The style of all figures, for drawing and for saving."""
    style: dict[Any, Any] = {**_STYLE, **more}
    with mpl.rc_context(style), warnings.catch_warnings():
        # Names are in any script. A page's SVG holds them as text, which the browser draws with a font that has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_svg(figure: Figure) -> str:
    """A figure as an `<svg>` element for a page: its colours are CSS variables, so it follows light and dark.

    Ink becomes `currentColor`, paper `var(--card)`, the grid `var(--grid)` and series i `var(--series-i)`, each with
    its light colour as the fallback. Text stays text, so that it can be read out, searched and selected.
    """
    buffer = io.StringIO()
    with styled(**{"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    variables = {"grid": GRID, "card": PAPER, **{f"series-{i}": colour for i, colour in enumerate(PALETTE)}}
    for name, colour in variables.items():
        svg = svg.replace(colour, f"var(--{name}, {colour})")
    # Text without a colour would stay black on a dark page.
    return svg.replace("<svg ", '<svg fill="currentColor" ', 1)


def save_figure(figure: Figure, path: str | Path) -> tuple[Path, Path]:
    """Save a figure as PNG (200 dots per inch) and SVG, on white, and return the two paths; a suffix is replaced."""
    png, svg = Path(path).with_suffix(".png"), Path(path).with_suffix(".svg")
    options: dict[Any, dict[str, Any]] = {png: {"dpi": 200}, svg: {"metadata": {"Date": None}}}
    for file in options:
        with styled(), written_whole(file) as temporary:
            figure.savefig(temporary, format=file.suffix[1:], facecolor="white", **options[file])
    return png, svg


def add_legend(figure: Figure, axes: Axes, first: Sequence[str] = ()) -> None:
    """Add a legend above the panels if there is more than one name; those of `first` lead."""
    handles, labels = axes.get_legend_handles_labels()
    by_name = dict(zip(labels, handles))
    names = [*first, *(name for name in labels if name not in first)]
    if len(names) < 2:
        return
    room = (figure.get_figwidth() - 0.3) * figure.dpi
    texts = [shortened(name, 60) for name in names]
    for columns in (2, 1) if len(names) == 4 else (3, 2, 1):
        legend = figure.legend([by_name[name] for name in names], texts, loc="outside upper left", ncols=columns)
        if columns == 1 or legend.get_window_extent().width < room:
            rows = -(-len(names) // columns)
            figure.set_figheight(figure.get_figheight() + 0.23 * max(0, rows - 2))  # or a long one eats the panels
            return
        legend.remove()  # long names: fewer columns


def check_lengths(name: str, expected: int, values: Sequence[Any], what: str) -> None:
    """Check that there is one value per row, column, x ...; the error names whose values they are."""
    if len(values) != expected:
        raise ValueError(f"{name} must have one value per {what}, {expected}; got {len(values)}")


def line_style(i: int) -> dict[str, Any]:
    """How series i is drawn: colours come back after seven, then dashed, with other markers that are hollow."""
    again, colour = i >= len(PALETTE), PALETTE[i % len(PALETTE)]
    marker = "osD^vPX"[(i + 3 * again) % 7]
    return {
        "color": colour,
        "marker": marker,
        "linestyle": "--" if again else "-",
        "markerfacecolor": PAPER if again else colour,
    }


def fill_style(i: int) -> dict[str, Any]:
    """How area i is filled: colours come back after seven, then hatched on paper."""
    colour = PALETTE[i % len(PALETTE)]
    if i < len(PALETTE):
        return {"facecolor": colour}
    return {"facecolor": PAPER, "edgecolor": colour, "hatch": "////", "linewidth": 0.8}


def shortened(text: str, longest: int = _LONGEST) -> str:
    """A label that leaves room for what is drawn."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
