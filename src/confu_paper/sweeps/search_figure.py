"""The figure of a search: how the best trial was found, and the objective against each setting."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from confu.evaluation.plot_style import INK, PALETTE, WIDTH, add_legend, check_lengths, new_figure, styled
from confu.methods import Tweaks
from confu_paper.sweeps.space import Choices, Range


def search_figure(
    space: Mapping[str, Range | Choices],
    numbers: Sequence[int],
    tweaks: Sequence[Tweaks],
    values: Sequence[float],
    best_so_far: Sequence[float],
    best: int,
    y_label: str,
) -> Figure:
    """The trials one after the other with the best so far, and below them one panel for each searched setting.

    Args:
        space: what was drawn from.
        numbers: of the trials; those that failed are left out.
        tweaks: the settings of each trial.
        values: of the objective, one a trial.
        best_so_far: after each trial.
        best: the place of the best trial, which is ringed.
        y_label: what the objective is, with its unit.

    Returns:
        a figure for `to_svg` or `save_figure`.
    """
    check_lengths("numbers", len(tweaks), numbers, "trial")
    check_lengths("values", len(tweaks), values, "trial")
    check_lengths("best_so_far", len(tweaks), best_so_far, "trial")
    columns = min(2, len(space))
    rows = 1 + math.ceil(len(space) / columns)
    with styled():
        figure = new_figure(WIDTH, 0.6 + 2.4 * rows)
        grid = figure.add_gridspec(rows, columns)
        history = figure.add_subplot(grid[0, :])
        history.scatter(numbers, values, s=30, color=PALETTE[0], label="trial", zorder=2)
        history.step(numbers, best_so_far, where="post", color=PALETTE[1], label="best so far", zorder=1)
        history.scatter([numbers[best]], [values[best]], s=90, facecolor="none", edgecolor=INK, label="best", zorder=3)
        history.xaxis.set_major_locator(MaxNLocator(integer=True))
        history.set_xlabel("trial")
        for i, (name, drawn) in enumerate(space.items()):
            axes = figure.add_subplot(grid[1 + i // columns, i % columns], sharey=history)
            axes.tick_params(labelleft=i % columns == 0)
            x = _axis(axes, drawn, [one[name] for one in tweaks])
            axes.scatter(x, values, s=26, color=PALETTE[0], alpha=0.7, linewidth=0, zorder=2)
            axes.scatter([x[best]], [values[best]], s=90, facecolor="none", edgecolor=INK, zorder=3)
            axes.set_xlabel(name)
        figure.supylabel(y_label, fontsize=11)
        add_legend(figure, history)
    return figure


def _axis(axes: Axes, drawn: Range | Choices, values: Sequence[float | int | str]) -> list[float]:
    """Set up the axis of a setting; returns where its values stand on it."""
    if isinstance(drawn, Choices):  # they need have no order or distance: they stand side by side
        axes.set_xticks(range(len(drawn.values)), [str(value) for value in drawn.values])
        axes.set_xlim(-0.5, len(drawn.values) - 0.5)
        return [float(drawn.values.index(value)) for value in values]
    if drawn.log:
        axes.set_xscale("log")
        near = drawn.high < 100 * drawn.low  # too few powers of ten to read the axis by
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if near else (1.0,)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=drawn.whole))
    return [float(value) for value in values]
