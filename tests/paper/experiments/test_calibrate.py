"""The search for a noise level, on curves whose answer is known."""

import json
import math

import pytest

from confu_paper.experiments import calibrate as calibration
from confu_paper.experiments.benchmark import Request
from confu_paper.experiments.calibrate import calibrate, crossing
from data.fixtures import write_sources


@pytest.fixture
def search(monkeypatch, tmp_path):
    """The levels that are measured where the accuracy is a function of them, with it."""
    monkeypatch.setattr(calibration.Calibration, "save", lambda found, out: None)

    def search(accuracy, tolerance, levels):
        monkeypatch.setattr(calibration, "_accuracies", lambda sources, data, level, request: [accuracy(level)])
        found = calibrate({}, tmp_path, levels, Request(runs=tmp_path, progress=False), 42.0, tolerance)
        return {level: accuracy for level, (accuracy,) in found.points.items()}

    return search


@pytest.mark.parametrize("first", [(-12.0, -14.0), (-5.0, -6.0), (-20.0, -19.0), (-10.0, -13.0)])
def test_search_finds_the_level_of_a_rising_curve(first, search):
    points = search(lambda level: 10 + 80 / (1 + math.exp(-(level + 11) / 2.5)), 1.5, first)
    assert min(abs(value - 42.0) for value in points.values()) <= 1.5
    assert len(points) <= 8


def test_calibration_stops_near_the_target(search):
    points = search(lambda level: 6 * (level + 20), 0.5, (-12.0, -14.0))
    assert points == {-12.0: 48.0, -14.0: 36.0, -13.0: 42.0}


def test_one_bad_training_does_not_mislead_the_line():
    """Three points on a line and one that is three points off: the answer moves by less than the rounding."""
    true = [(-14.0, 37.0), (-13.5, 39.5), (-12.5, 44.5), (-12.0, 47.0)]
    assert crossing(true, 42.0) == -13.0
    assert abs(crossing([*true[:1], (-13.5, 36.5), *true[2:]], 42.0) - -13.0) <= 0.25


def test_search_never_measures_a_level_twice(search):
    measured = []

    def noisy(level: float) -> float:
        measured.append(level)
        return 60.0 if level > -12 else 20.0  # a step: no level comes near the target

    search(noisy, 0.1, (-10.0, -14.0))
    assert len(measured) == len(set(measured)) <= 8


def test_the_line_is_not_followed_far_beyond_what_was_measured():
    assert crossing([(-10.0, 80.0), (-11.0, 79.0)], target=42.0) == -15.0


@pytest.mark.parametrize("levels", [[-10.0], [-10.0, -10.0]])
def test_calibration_needs_two_levels(levels, tmp_path):
    with pytest.raises(ValueError, match="two or more different levels"):
        calibrate({}, tmp_path / "out", levels, Request(runs=tmp_path))
    assert not (tmp_path / "out").exists()


def test_calibration_measures_on_real_builds_and_draws_its_curve(tmp_path, tiny_av_mnist):
    sources = write_sources(tmp_path)
    request = Request(size="smoke", seeds=(0, 1), runs=tmp_path / "runs", progress=False)
    found = calibrate(sources, tmp_path / "out", [0.0, -20.0], request, target=50, tolerance=100)
    assert set(found.points) == {0.0, -20.0} and all(len(values) == 2 for values in found.points.values())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "calibration.json", "calibration.png", "calibration.svg"
    }  # fmt: skip
    assert json.loads((tmp_path / "out" / "calibration.json").read_text())["points"][0]["snr_db"] == -20.0
