"""Figures of a map of embeddings, and of differences with their confidence intervals."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from confu.evaluation.canvas import (
    INK,
    PALETTE,
    PLATE,
    WIDTH,
    add_legend,
    canvas,
    check_lengths,
    fill_style,
    line_style,
)

_COLOURS = 2 * len(PALETTE)  # then filled and hollow marks are used up
OTHERS = "others"


def point_map(
    points: Sequence[Sequence[float]],
    names: Sequence[str],
    x_label: str = "",
    y_label: str = "",
    order: Sequence[str] = (),
) -> Figure:
    """Points in the plane by colour.

    Args:
        points: x and y of each.
        names: what each point's colour says, e.g. its class or subset. Beyond 14 names the rarest share the colour of
            `others`.
        x_label: of the axis; empty for a map whose axes mean nothing.
        y_label: the same.
        order: of the names in the legend; those that are not there follow, the most frequent first.

    Returns:
        a figure for `to_svg` or `save_figure`.

    Raises:
        ValueError: if there is not one name a point.

    Example:
        >>> figure = point_map([(0.0, 1.0), (1.0, 0.0)], ["cat", "dog"])
    """
    check_lengths("names", len(points), names, "point")
    counts = Counter(names)
    ranked = [name for name, _ in counts.most_common()]
    shown = [*(name for name in order if name in counts), *(name for name in ranked if name not in order)]
    if len(shown) > _COLOURS:
        kept = set(ranked[: _COLOURS - 1])
        shown = [*(name for name in shown if name in kept), OTHERS]
        names = [name if name in kept else OTHERS for name in names]
    place = np.asarray(points, dtype=float).reshape(len(points), 2)
    size = 5.0 if len(points) <= 200 else 3.5 if len(points) <= 800 else 2.5
    by_name = np.asarray(names, dtype=object)
    with canvas(WIDTH, 4.4 + 0.25 * (len(shown) > 6)) as figure:
        axes = figure.subplots()
        for i, name in enumerate(shown):
            x, y = place[by_name == name].T
            style = {**line_style(i), "linestyle": "none", "markersize": size, "markeredgewidth": 0.8}
            axes.plot(x, y, label=name, alpha=0.75, **style)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.tick_params(length=0, labelbottom=False, labelleft=False)
        axes.margins(0.05)
        axes.set_aspect("equal", adjustable="datalim")
        add_legend(figure, axes, shown)
    return figure


def interval_bars(
    labels: Sequence[str],
    values: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    x_label: str = "difference (percentage points)",
) -> Figure:
    """Horizontal bars of differences, which may be negative, with their confidence intervals.

    Args:
        labels: from top to bottom.
        values: one a label.
        lows: lower ends of the intervals.
        highs: upper ends.
        x_label: with its unit.

    Returns:
        a figure for `to_svg` or `save_figure`.

    Raises:
        ValueError: if there is not one number a label.

    Example:
        >>> figure = interval_bars(["image+audio -> text"], [2.5], [1.0], [4.0])
    """
    for name, numbers in (("values", values), ("lows", lows), ("highs", highs)):
        check_lengths(name, len(labels), numbers, "label")
    middle = np.arange(len(labels), dtype=float)
    value, low, high = (np.asarray(numbers, dtype=float) for numbers in (values, lows, highs))
    with canvas(WIDTH, 1.0 + 0.4 * len(labels)) as figure:
        axes = figure.subplots()
        axes.barh(middle, value, height=0.62, **fill_style(0))
        error = np.clip(np.stack([value - low, high - value]), 0, None)
        axes.errorbar(value, middle, xerr=error, fmt="none", ecolor=INK, capsize=3, elinewidth=1)
        axes.axvline(0, color=INK, linewidth=1)
        for y, one, right in zip(middle, value, high):
            at = (max(right, 0.0), y)  # right of the bar and of zero, where no name stands
            axes.annotate(f"{one:+.1f}", at, (5, 0), textcoords="offset points", va="center", fontsize=10, bbox=PLATE)
        axes.set_yticks(middle, labels)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.14)
        axes.set_xlabel(x_label)
    return figure
