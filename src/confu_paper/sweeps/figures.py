"""Figures of sweeps: differences as boxes, two objectives with their Pareto front, and the trials of a search."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox

from confu.evaluation.plot_style import INK, PALETTE, WIDTH, add_legend, check_lengths, new_figure, shortened, styled
from confu.methods import Value
from confu_paper.sweeps.numbers import is_share, lower_is_better
from confu_paper.sweeps.search import SearchResult


def boxes(groups: Mapping[str, Sequence[float]], y_label: str = "difference (points)", zero: bool = True) -> Figure:
    """A box plot of each group with all its points, and a line at zero: what a change did, over many settings (Fig 7).

    A box reaches from the first to the third quartile with a line at the median; its whiskers reach to the farthest
    points within 1.5 times its height. By each name stands how many points there are.

    Args:
        groups: name -> its values, in the order from left to right; NaN is left out.
        y_label: with its unit.
        zero: draw the line at zero.

    Reference: appendix B.3.

    >>> figure = boxes({"recall@10 1 -> 1": [1.5, 2.0, -0.5], "recall@10 2 -> 1": [4.0, 3.0, 5.5]})
    """
    if not groups:
        raise ValueError("groups must hold at least one group of values; got none")
    if infinite := [name for name, values in groups.items() if any(math.isinf(value) for value in values)]:
        raise ValueError(f"group {infinite[0]!r} must hold finite numbers, or NaN to leave one out; got infinity")
    known = {name: np.array([v for v in values if not math.isnan(v)], dtype=float) for name, values in groups.items()}
    with styled():
        figure = new_figure(WIDTH, 4.2)
        axes = figure.subplots()
        if zero:
            axes.axhline(0, color=INK, linewidth=1.2, linestyle="--", zorder=1)
        for place, values in enumerate(known.values()):
            if not len(values):
                continue
            edge = {"color": PALETTE[place % len(PALETTE)], "linewidth": 1.6}
            axes.boxplot(
                values,
                positions=[place],
                widths=0.6,
                showfliers=False,  # all points are drawn
                **{f"{part}props": edge for part in ("box", "whisker", "cap")},  # pyright: ignore[reportArgumentType]
                medianprops={"color": INK, "linewidth": 2.2},
                manage_ticks=False,
                zorder=2,
            )
            # Sideways, so that points do not hide one another: multiples of the golden ratio, no randomness.
            aside = 0.36 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5) if len(values) > 1 else 0.0
            axes.scatter(place + aside, values, s=14, color=edge["color"], alpha=0.6, linewidth=0, zorder=3)
        wide = max(map(len, known)) * len(known) > 60
        turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if wide else {}
        names = [f"{shortened(name)}{', ' if wide else chr(10)}n = {len(values)}" for name, values in known.items()]
        axes.set_xticks(range(len(names)), names, **turned)
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.grid(axis="x", visible=False)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel(y_label)
    return figure


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """The points that no other one beats: none is as good in every number and better in one. Higher is better.

    Args:
        points: the numbers of each, as many for all. Equal points are on the front together; one with NaN never is.

    Returns:
        indices of the front, by their first number, ascending.

    Reference: appendix B.1.

    >>> pareto_front([(1, 5), (2, 2), (3, 4), (0, 5)])
    [0, 2]
    """
    if len({len(point) for point in points}) > 1:
        sizes = sorted({len(point) for point in points})
        raise ValueError(f"points must all have the same number of objectives; got {' and '.join(map(str, sizes))}")
    values = np.array([list(point) for point in points], dtype=float)
    front = [
        i
        for i, point in enumerate(values)
        if not np.isnan(point).any() and not ((values >= point).all(1) & (values > point).any(1)).any()
    ]
    return sorted(front, key=lambda i: (values[i].tolist(), i))


def pareto(
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    x_label: str = "mean recall@10, 1 → 1 (%)",
    y_label: str = "mean recall@10, 2 → 1 (%)",
) -> Figure:
    """Labelled points of two numbers, both better when higher, with the Pareto front marked and joined.

    Args:
        points: (x, y) of each; those with NaN are left out.
        labels: one per point, e.g. its λ.
        x_label: with its unit.
        y_label: with its unit.

    Reference: appendix B.1 and Table 7.

    >>> figure = pareto([(21.2, 22.1), (20.0, 23.0), (19.0, 22.5)], ["0.1", "0.3", "0.5"])
    """
    check_lengths("labels", len(points), labels, "point")
    drawn = [i for i, point in enumerate(points) if not any(math.isnan(value) for value in point)]
    if not drawn:
        raise ValueError(f"points must hold at least one point without NaN; got {len(points)} with NaN")
    front = pareto_front(points)
    order = [*front, *(i for i in drawn if i not in front)]
    places = np.array([points[i] for i in order], dtype=float)
    best, beaten = places[: len(front)], places[len(front) :]
    with styled():
        figure = new_figure(WIDTH, 4.4)
        axes = figure.subplots()
        axes.plot(*best.T, "o-", color=PALETTE[0], markersize=8, label="Pareto front", zorder=3)
        if len(beaten):
            axes.scatter(
                *beaten.T, s=44, facecolor="none", edgecolor=PALETTE[6], linewidth=1.4, label="beaten", zorder=2
            )
        axes.margins(0.12)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        add_legend(figure, axes)
        # Each label stands in the first place beside its point where it covers no point, no label so far and no line.
        figure.draw_without_rendering()  # so that places in pixels are known
        frame, dot = axes.get_window_extent(), figure.dpi / 72
        steps = np.linspace(0, len(best) - 1, 20 * len(best))
        line = np.stack(
            [np.interp(steps, np.arange(len(best)), axes.transData.transform(best)[:, k]) for k in (0, 1)], 1
        )
        taken = [
            Bbox.from_extents(x - reach, y - reach, x + reach, y + reach)
            for several, reach in ((axes.transData.transform(places), 7 * dot), (line, dot))
            for x, y in several.tolist()
        ]
        sides = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
        for own, i in enumerate(order):
            text = axes.annotate(labels[i], points[i], (0, 0), textcoords="offset points", fontsize=10)
            text.set_in_layout(False)  # or the axes would move under the labels placed before
            for away, (across, up) in ((away, side) for away in (8, 14, 22) for side in sides):
                text.set(ha=("center", "left", "right")[across], va=("center", "bottom", "top")[up])
                text.set_position((away * across, away * up))
                box = text.get_window_extent()
                inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
                if inside and not any(box.overlaps(other) for j, other in enumerate(taken) if j != own):
                    break
            taken.append(text.get_window_extent().padded(3))
    return figure


def search_figure(result: SearchResult) -> Figure:
    """The trials one after the other with the best so far, and below them one panel for each searched setting."""
    best = result.trials.index(result.best)
    numbers = [trial.number for trial in result.trials]
    values = [(100 if is_share(result.objective) else 1) * trial.value for trial in result.trials]
    better = min if lower_is_better(result.objective) else max
    best_so_far = [better(values[: i + 1]) for i in range(len(values))]
    columns = min(2, len(result.space))
    rows = 1 + math.ceil(len(result.space) / columns)
    ring = {"s": 90, "facecolor": "none", "edgecolor": INK, "zorder": 3}
    with styled():
        figure = new_figure(WIDTH, 0.6 + 2.4 * rows)
        grid = figure.add_gridspec(rows, columns)
        history = figure.add_subplot(grid[0, :])
        history.scatter(numbers, values, s=30, color=PALETTE[0], label="trial", zorder=2)
        history.step(numbers, best_so_far, where="post", color=PALETTE[1], label="best so far", zorder=1)
        history.scatter([numbers[best]], [values[best]], label="best", **ring)
        history.xaxis.set_major_locator(MaxNLocator(integer=True))
        history.set_xlabel("trial")
        for i, (name, drawn) in enumerate(result.space.items()):
            axes = figure.add_subplot(grid[1 + i // columns, i % columns], sharey=history)
            axes.tick_params(labelleft=i % columns == 0)
            x = _axis(axes, drawn, [trial.tweaks[name] for trial in result.trials])
            axes.scatter(x, values, s=26, color=PALETTE[0], alpha=0.7, linewidth=0, zorder=2)
            axes.scatter([x[best]], [values[best]], **ring)
            axes.set_xlabel(name)
        unit = " (%)" if is_share(result.objective) else ""
        figure.supylabel(f"validation {result.objective}{unit}", fontsize=11)
        add_legend(figure, history)
    return figure


def _axis(axes: Axes, drawn: Any, values: Sequence[Value]) -> list[float]:
    """Set up the axis of a setting; returns where its values stand on it."""
    if hasattr(drawn, "choices"):  # they need have no order or distance: they stand side by side
        axes.set_xticks(range(len(drawn.choices)), [str(value) for value in drawn.choices])
        axes.set_xlim(-0.5, len(drawn.choices) - 0.5)
        return [float(drawn.choices.index(value)) for value in values]
    if drawn.log:
        axes.set_xscale("log")
        near = drawn.high < 100 * drawn.low  # too few powers of ten to read the axis by
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if near else (1.0,)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=isinstance(drawn.low, int)))
    return [float(value) for value in values]
