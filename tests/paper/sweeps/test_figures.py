"""Figures of sweeps: every point is drawn, the front is what no point beats, labels do not cover one another."""

import math

import numpy as np
import pytest

from confu.evaluation.plots import to_svg
from confu_paper.sweeps import figures

NAN = math.nan


def test_boxes_show_every_point_and_zero():
    figure = figures.boxes({"a": [1.0, 2.0, NAN, 9.0], "b": [-1.0]})
    axes = figure.axes[0]
    points = sorted(y for dots in axes.collections for _, y in dots.get_offsets().tolist())
    assert points == [-1, 1, 2, 9]
    assert any(line.get_ydata() == [0, 0] for line in axes.get_lines() if len(line.get_ydata()) == 2)
    medians = [line.get_ydata()[0] for line in axes.get_lines() if line.get_linewidth() == 2.2]
    assert medians == [2, -1]


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([(1, 1)], [0]),
        ([(1, 1), (1, 1)], [0, 1]),  # equal points do not beat each other
        ([(1, 2), (1, 3)], [1]),  # as good in one, better in the other
        ([(3, 1), (1, 3), (2, 2), (1, 1)], [1, 2, 0]),
        ([(NAN, 9), (1, 1), (2, NAN)], [1]),
        ([(1, 2, 3), (3, 2, 1), (1, 2, 2)], [0, 1]),
    ],
)
def test_pareto_front(points, front):
    assert figures.pareto_front(points) == front


def test_pareto_front_is_what_no_pair_comparison_removes():
    random = np.random.default_rng(0)
    points = random.integers(0, 6, size=(40, 2)).tolist()
    slow = {
        i
        for i, (x, y) in enumerate(points)
        if not any(a >= x and b >= y and (a > x or b > y) for a, b in points)
    }  # fmt: skip
    assert set(figures.pareto_front(points)) == slow
    assert set(figures.pareto_front(points[::-1])) == {39 - i for i in slow}


def test_sweep_figures_are_reproducible():
    for draw, names in (
        (lambda: figures.boxes({"1 → 1": [1.0, 2.0, NAN, 4.0], "2 → 1": [NAN]}), ("1 → 1", "n = 3", "n = 0")),
        (lambda: figures.pareto([(1, 5), (2, 6), (NAN, 9)], ["0.1", "0.2", "0.4"]), ("Pareto front", "0.1", "0.2")),
    ):
        svg = to_svg(draw())
        assert svg == to_svg(draw())
        assert all(f">{name}<" in svg for name in names)


def test_pareto_labels_do_not_cover_one_another():
    points = [(20 + 0.1 * i, 22 - 0.08 * i) for i in range(8)] + [(19.9, 21.9)]
    figure = figures.pareto(points, [f"λ = 0.{i}" for i in range(9)])
    assert [text.get_text() for text in figure.axes[0].texts] == [f"λ = 0.{i}" for i in range(9)]
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    front = figure.axes[0].get_lines()[0].get_xydata()
    assert front.tolist() == [list(point) for point in points[:8]]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: figures.boxes({}), "groups must hold at least one group"),
        (lambda: figures.boxes({"a": [math.inf]}), "group 'a' must hold finite numbers"),
        (lambda: figures.pareto([(1, 2)], ["a", "b"]), "labels must have one value per point, 1; got 2"),
        (lambda: figures.pareto([(NAN, 2)], ["a"]), "at least one point without NaN; got 1 with NaN"),
        (lambda: figures.pareto_front([(1, 2), (1, 2, 3)]), "same number of objectives; got 2 and 3"),
    ],
)
def test_wrong_values_are_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
