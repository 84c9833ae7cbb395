"""The figures: what is drawn is what came, and wrong lengths are refused."""

import math
from xml.etree import ElementTree

import pytest

from confu.evaluation import plots

NAN = math.nan


def all_figures():
    return {
        "curves": plots.training_curves(
            {"total": ([1, 2], [3.0, 2.0]), "a ~ b": ([1, 2], [2.0, 1.0])}, {"total": ([2], [2.5])}
        ),
        "bars": plots.bars(
            ["image", "image+audio"],
            {"confu": [60.0, 70.0], "clip": [61.0, NAN]},
            {"confu": [0.5, NAN]},
            {"chance": 10.0, "paper": [64.6, NAN]},
        ),
        "lines": plots.lines(
            [0, 1], {"confu": ([50, 100], [1, 0]), "clip": ([50, 50], None)}, {"ceiling": [50.0, 100.0]}
        ),
        "heatmap": plots.heatmap([[NAN, 40.0], [50.0, 99.5]], ["image", "audio"], ["audio", "text"]),
    }


@pytest.mark.parametrize("name", ["curves", "bars", "lines", "heatmap"])
def test_svg_is_whole_themed_and_reproducible(name):
    svg = plots.to_svg(all_figures()[name])
    ElementTree.fromstring(svg)
    assert svg == plots.to_svg(all_figures()[name])
    assert "currentColor" in svg
    assert "<text" in svg
    assert "#1b1f24" not in svg


def test_labels_units_and_numbers_are_readable_text():
    figures = {name: plots.to_svg(figure) for name, figure in all_figures().items()}
    for name, words in {
        "curves": ("loss (nats)", "epoch", "a ~ b", "validation"),
        "bars": ("accuracy (%)", "image+audio", "70.0", "chance", "paper"),
        "lines": ("accuracy (%)", "ceiling", "clip"),
        "heatmap": ("recall@10 (%)", "99.5", "query", "target"),
    }.items():
        for word in words:
            assert f">{word}<" in figures[name], (name, word)
    assert ">nan<" not in "".join(figures.values())


def test_bars_have_the_lengths_that_came():
    axes = all_figures()["bars"].axes[0]
    widths = [patch.get_width() for patch in axes.patches]
    assert widths[:3] == [60.0, 70.0, 61.0]
    assert axes.get_xlim()[0] == 0


def test_save_figure_writes_both_files(tmp_path):
    figure = all_figures()["lines"]
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
        (lambda: plots.training_curves({}), "at least one term's curve"),
        (lambda: plots.training_curves({"t": ([1, 2], [1.0])}), "train curve of t must have one value per x, 2; got 1"),
    ],
)
def test_wrong_lengths_are_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
