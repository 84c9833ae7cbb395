"""The figures: what is drawn is what came, and wrong lengths are refused."""

import math
import warnings
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from confu.evaluation import plots

NAN = math.nan


FIGURES = {
    "curves": lambda: plots.training_curves(
        {"total": ([1, 2], [3.0, 2.0]), "a ~ b": ([1, 2], [2.0, 1.0])}, {"total": ([2], [2.5])}
    ),
    "bars": lambda: plots.bars(
        ["image", "image+audio"],
        {"confu": [60.0, 70.0], "clip": [61.0, NAN]},
        {"confu": [0.5, NAN]},
        {"chance": 10.0, "paper": [64.6, NAN]},
    ),
    "lines": lambda: plots.lines(
        [0, 1], {"confu": ([50, 100], [1, 0]), "clip": ([50, 50], None)}, {"ceiling": [50.0, 100.0]}
    ),
    "heatmap": lambda: plots.heatmap([[NAN, 40.0], [50.0, 99.5]], ["image", "audio"], ["audio", "text"]),
    "stacked": lambda: plots.stacked_bars(
        ["confu", "clip"], {"image": [60.0, 70.0], "both": [NAN, 10], "none": [40, 20]}
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_svg_is_whole_themed_and_reproducible(name):
    svg = plots.to_svg(FIGURES[name]())
    ElementTree.fromstring(svg)
    assert svg == plots.to_svg(FIGURES[name]())
    assert "currentColor" in svg
    assert "<text" in svg
    assert "#1b1f24" not in svg


def test_labels_units_and_numbers_are_readable_text():
    figures = {name: plots.to_svg(draw()) for name, draw in FIGURES.items()}
    for name, words in {
        "curves": ("loss (nats)", "epoch", "a ~ b", "validation"),
        "bars": ("accuracy (%)", "image+audio", "70.0", "chance", "paper"),
        "lines": ("accuracy (%)", "ceiling", "clip"),
        "heatmap": ("recall@10 (%)", "99.5", "query", "target"),
        "stacked": ("share of samples (%)", "60", "both", "clip"),
    }.items():
        for word in words:
            assert f">{word}<" in figures[name], (name, word)
    assert ">nan<" not in "".join(figures.values())


def test_bars_have_the_lengths_that_came():
    axes = FIGURES["bars"]().axes[0]
    widths = [patch.get_width() for patch in axes.patches]
    assert widths[:3] == [60.0, 70.0, 61.0]
    assert axes.get_xlim()[0] == 0


NINE = [f"{method} of image+audio" for method in "abcdefghi"]


def legend_of(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_nine_series_with_long_names_stay_distinct_and_inside():
    figure = plots.lines([1, 2, 4], {name: ([i, i + 1, i + 2], None) for i, name in enumerate(NINE)})
    drawn = figure.axes[0].get_lines()
    styles = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in drawn}
    assert len(styles) == 9
    assert legend_of(figure) == NINE
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1
    bars = plots.bars(["q"], {name: [1.0 + i] for i, name in enumerate(NINE)}).axes[0].patches
    assert len({(bar.get_facecolor(), bar.get_edgecolor(), bar.get_hatch()) for bar in bars}) == 9


def test_a_long_legend_leaves_the_panel_its_height():
    heights = []
    for names in (NINE[:2], NINE):
        figure = plots.lines([1, 2], {name: ([1, 2], None) for name in names})
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_window_extent().height)
    assert heights[1] > 0.8 * heights[0]


def ticks_of(figure):
    figure.draw_without_rendering()
    return [label.get_text() for label in figure.axes[0].get_xticklabels()]


def test_log_ticks_are_the_values_in_plain_numbers():
    dims = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    figure = plots.lines(dims, {"a": (dims, None)}, log_x=True)
    assert figure.axes[0].get_xscale() == "log"
    assert ticks_of(figure) == [str(dim) for dim in dims]
    assert len(figure.axes[0].xaxis.get_minor_ticks()) == 0
    many = ticks_of(plots.lines(list(range(1, 101)), {"a": ([1.0] * 100, None)}, log_x=True))
    assert many[:3] == ["1", "2", "3"]
    assert len(many) <= 13
    assert ticks_of(plots.lines([3], {"a": ([1.0], None)}, log_x=True)) == ["3"]


def test_stars_stand_at_zero_in_the_colour_of_their_series():
    series = {"a": ([1, 2, 3], None), "b": ([2, 3, 4], None)}
    for log_x, place in ((True, 0.5), (False, 0.0)):
        figure = plots.lines([1, 2, 4], series, log_x=log_x, stars={"b": 1.5})
        (star,) = [line for line in figure.axes[0].get_lines() if line.get_marker() == "*" and len(line.get_xdata())]
        assert star.get_xydata().tolist() == [[place, 1.5]]
        assert star.get_markerfacecolor() == plots.PALETTE[1]
        assert legend_of(figure) == ["a", "b", "zero-shot"]
    assert ticks_of(plots.lines([1, 2, 4], series, log_x=True, stars={"b": 1.5})) == ["0", "1", "2", "4"]
    assert "star" not in "".join(legend_of(plots.lines([1, 2, 4], series, stars={})))


def test_stacked_bars_add_up():
    axes = FIGURES["stacked"]().axes[0]
    spans = [(patch.get_x(), patch.get_width()) for patch in axes.patches]
    assert spans == [(0, 60), (0, 70), (60, 0), (70, 10), (60, 40), (80, 20)]
    assert axes.get_xlim() == (0, 100)
    assert sorted(text.get_text() for text in axes.texts) == ["10", "20", "40", "60", "70"]


def texts_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_heatmap_of_many_cells_stays_readable():
    categories = ["audiovisual only", "image only", "audio only", "both", "b", "c", "all", "none"]
    rows = [f"Black-throated Warbler {i}" for i in range(30)]
    figure = plots.heatmap([[12.5] * 8] * 30, rows, categories)
    assert figure.get_figheight() < 15
    assert len(texts_of(figure)) == 240
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    labels = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert not any(a.overlaps(b) for a, b in pairwise(labels))
    assert texts_of(plots.heatmap([[12.5] * 8] * 200, [str(i) for i in range(200)], categories)) == []
    assert plots.heatmap([[1.0]], ["a"], ["b"]).axes[0].texts[0].get_fontsize() == 11


LONG = "a name that is much longer than anybody would like to write beside a bar, 鳥の声 and all"


@pytest.mark.parametrize(("count", "name"), [(1, LONG), (10, LONG), (22, "q")])
def test_no_plot_warns_of_long_many_or_foreign_names(count, name):
    labels = [f"{i} {name} {i}" for i in range(count)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in (
            plots.bars(labels, {name: [50.0] * count, f"{name}!": [NAN] * count}),
            plots.stacked_bars(labels[:3], {label: [50.0] * len(labels[:3]) for label in labels[:8]}),
            plots.interval_bars(labels, [1.0] * count, [0.0] * count, [2.0] * count),
            plots.heatmap([[1.0] * min(count, 4)] * count, labels, labels[:4]),
            plots.lines([1, 2], {label: ([1, 2], None) for label in labels[:12]}, log_x=True),
            plots.training_curves({label: ([1, 2], [1.0, 2.0]) for label in labels[:8]}),
            plots.point_map([(0.0, 0.0)] * count, labels, LONG, LONG),
        ):
            plots.to_svg(figure)


def test_each_point_is_drawn_once_in_legend_order():
    figure = plots.point_map([(0.0, 1.0), (1.0, 0.0), (2.0, 2.0)], ["dog", "cat", "dog"], order=["cat", "dog", "cow"])
    assert {line.get_label(): len(line.get_xdata()) for line in figure.axes[0].lines} == {"cat": 1, "dog": 2}
    assert legend_of(figure) == ["cat", "dog"]


def test_more_names_than_colours_share_one():
    names = [f"class {i % 30}" for i in range(90)] + ["class 3"] * 5
    figure = plots.point_map([(float(i), 0.0) for i in range(95)], names)
    labels = legend_of(figure)
    assert len(labels) == 14 and labels[-1] == plots.OTHERS and "class 3" in labels
    assert sum(len(line.get_xdata()) for line in figure.axes[0].lines) == 95


def test_differences_may_be_negative_and_have_whole_intervals():
    figure = plots.interval_bars(["a", "b"], [2.5, -4.0], [1.0, -6.0], [4.0, -2.5])
    left, right = figure.axes[0].get_xlim()
    assert left < -6 and right > 4
    svg = plots.to_svg(figure)
    assert "+2.5" in svg and ("-4.0" in svg or "−4.0" in svg)


def test_intervals_of_values_have_their_own_text_and_references():
    references = {"half of the cap": 2.5, "cap": 5.0}
    figure = plots.interval_bars(["a"], [1.234], [1.0], [1.5], "nats", "{:.2f}", references)
    assert legend_of(figure) == list(references)
    assert "1.23" in plots.to_svg(figure) and "+1.2" not in plots.to_svg(figure)


def test_save_figure_writes_both_files(tmp_path):
    figure = FIGURES["lines"]()
    png, svg = plots.save_figure(figure, tmp_path / "new" / "xor.svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert b"</svg>" in svg.read_bytes()
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["xor.png", "xor.svg"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.bars(["a"], {"confu": [1.0, 2.0]}), "confu must have one value per label, 1; got 2"),
        (
            lambda: plots.bars(["a"], {"m": [1.0]}, references={"paper": [1.0, 2.0]}),
            "paper must have one value per label",
        ),
        (lambda: plots.lines([0, 1], {"confu": ([1.0], None)}), "confu must have one value per x, 2; got 1"),
        (lambda: plots.lines([0], {"confu": ([1.0], [1.0, 2.0])}), "stds of confu must have one value per x"),
        (lambda: plots.heatmap([[1.0]], ["a", "b"], ["c"]), "matrix must have one value per row name, 2; got 1"),
        (lambda: plots.heatmap([[1.0]], ["a"], ["c", "d"]), "row a of matrix must have one value per column, 2; got 1"),
        (lambda: plots.lines([0, 1], {"a": ([1, 2], None)}, log_x=True), "x must be positive .* got 0. .* as stars"),
        (lambda: plots.lines([1], {"a": ([1.0], None)}, stars={"b": 1.0}), "stars: 'b' is none of the series: a"),
        (lambda: plots.stacked_bars(["a"], {"m": [1.0, 2.0]}), "m must have one value per label, 1; got 2"),
        (lambda: plots.stacked_bars(["a"], {"m": [-1.0]}), "m: sizes that are stacked must be 0 or more; got -1"),
        (lambda: plots.point_map([(0.0, 0.0)], ["a", "b"]), "names must have one value per point, 1; got 2"),
        (lambda: plots.interval_bars(["a"], [1.0], [0.0], []), "highs must have one value per label, 1; got 0"),
        (lambda: plots.training_curves({}), "at least one term's curve"),
        (lambda: plots.training_curves({"t": ([1, 2], [1.0])}), "train curve of t must have one value per x, 2; got 1"),
    ],
)
def test_wrong_lengths_are_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_a_total_does_not_flatten_the_curves_of_its_terms():
    terms = {"image ~ text": ([1, 2], [5.0, 4.0]), "audio ~ text": ([1, 2], [4.0, 3.0])}
    for curves, alike in ((terms, True), ({"total": ([1, 2], [50.0, 20.0]), **terms}, False)):
        tops = {axes.get_ylim()[1] for axes in plots.training_curves(curves).axes[: len(curves)]}
        assert (len(tops) == 1) is alike
