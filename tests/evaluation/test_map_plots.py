"""Figures of maps and of differences."""

import pytest

from confu.evaluation.map_plots import OTHERS, interval_bars, point_map
from confu.evaluation.plots import to_svg


def texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_each_point_is_drawn_once_and_the_legend_has_the_given_order():
    figure = point_map([(0.0, 1.0), (1.0, 0.0), (2.0, 2.0)], ["dog", "cat", "dog"], order=["cat", "dog", "cow"])
    drawn = {line.get_label(): len(line.get_xdata()) for line in figure.axes[0].lines}
    assert drawn == {"cat": 1, "dog": 2}
    assert texts(figure) == ["cat", "dog"]


def test_more_names_than_colours_share_one():
    names = [f"class {i % 30}" for i in range(90)] + ["class 3"] * 5
    figure = point_map([(float(i), 0.0) for i in range(95)], names)
    labels = texts(figure)
    assert len(labels) == 14
    assert labels[-1] == OTHERS
    assert "class 3" in labels
    assert sum(len(line.get_xdata()) for line in figure.axes[0].lines) == 95


def test_differences_may_be_negative_and_have_whole_intervals():
    figure = interval_bars(["a", "b"], [2.5, -4.0], [1.0, -6.0], [4.0, -2.5])
    left, right = figure.axes[0].get_xlim()
    assert left < -6
    assert right > 4
    svg = to_svg(figure)
    assert "+2.5" in svg
    assert "-4.0" in svg or "−4.0" in svg


def test_lengths_are_checked():
    with pytest.raises(ValueError, match="names must have one value per point, 1; got 2"):
        point_map([(0.0, 0.0)], ["a", "b"])
    with pytest.raises(ValueError, match="highs must have one value per label, 1; got 0"):
        interval_bars(["a"], [1.0], [0.0], [])
