"""The search for a noise level, on curves whose answer is known."""

import math

import pytest

from confu.recipes.calibrate import calibrate, next_level, search


@pytest.mark.parametrize("first", [(-12.0, -14.0), (-5.0, -6.0), (-20.0, -19.0), (-10.0, -13.0)])
def test_search_finds_the_level_of_a_rising_curve(first):
    def accuracy(level: float) -> float:
        return 10 + 80 / (1 + math.exp(-(level + 11) / 2.5))

    points = search(accuracy, target=42.0, tolerance=1.5, levels=first)
    assert min(abs(value - 42.0) for _, value in points) <= 1.5
    assert len(points) <= 8


def test_search_stops_at_the_first_level_that_is_near_enough():
    assert search(lambda level: 42.3, target=42.0, tolerance=0.5, levels=(-12.0, -14.0)) == [(-12.0, 42.3)]


def test_search_never_measures_a_level_twice():
    measured = []

    def noisy(level: float) -> float:
        measured.append(level)
        return 60.0 if level > -12 else 20.0  # a step: no level comes near the target

    search(noisy, target=42.0, tolerance=0.1, levels=(-10.0, -14.0))
    assert len(measured) == len(set(measured)) <= 8


def test_next_level_stays_near_what_was_measured():
    assert next_level([(-10.0, 80.0), (-11.0, 79.0)], target=42.0) == -15.0


@pytest.mark.parametrize("levels", [[-10.0], [-10.0, -10.0]])
def test_calibration_needs_two_levels(levels, tmp_path):
    with pytest.raises(ValueError, match="two different levels"):
        calibrate(tmp_path, tmp_path, tmp_path, tmp_path / "out", 42, 1.5, levels, "small", tmp_path)
    assert not (tmp_path / "out").exists()
