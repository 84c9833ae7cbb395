"""The shared input checks: what passes, what does not, and what the message says."""

import pytest
import torch

from confu.checks import check_finite, check_fraction, check_known, check_pair, check_rows


def test_check_pair_passes_equal_shapes():
    check_pair(torch.zeros(3, 4), torch.zeros(3, 4))


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ((3, 4), (3, 5), r"same dim; got queries \(3, 4\) and targets \(3, 5\)"),
        ((3, 4), (2, 4), r"same number of rows.*queries \(3, 4\) and targets \(2, 4\)"),
        ((4,), (3, 4), r"2-D.*queries \(4,\) and targets \(3, 4\)"),
        ((3, 4), (3, 4, 1), r"2-D"),
    ],
)
def test_check_pair_names_both_shapes(left, right, message):
    with pytest.raises(ValueError, match=message):
        check_pair(torch.zeros(left), torch.zeros(right))


def test_check_rows_names_who_needs_them():
    check_rows(2, 2, "InfoNCE")
    with pytest.raises(ValueError, match=r"image ~ text needs at least 2 rows; got 1\. Use a larger batch"):
        check_rows(1, 2, "image ~ text")


def test_check_finite_names_first_row_and_count():
    values = torch.zeros(5, 3)
    check_finite("image", values)
    check_finite("tokens", torch.zeros(3, dtype=torch.long))
    values[3, 1] = float("nan")
    values[4] = float("-inf")
    with pytest.raises(ValueError, match=r"image must be finite; 4 of 15 .*\(1 NaN\), the first in row 3"):
        check_finite("image", values)
    with pytest.raises(ValueError, match=r"loss must be finite; 1 of 1 numbers .*\(1 NaN\)\. "):
        check_finite("loss", torch.tensor(float("nan")))


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
def test_check_fraction_refuses_what_lies_outside(value):
    with pytest.raises(ValueError, match=r"lambda must lie in \[0, 1\]; got"):
        check_fraction("lambda", value)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 0, 1])
def test_check_fraction_passes_the_closed_interval(value):
    check_fraction("lambda", value)


def test_check_known_lists_names_and_the_closest():
    check_known("modality", "image", ["image", "audio"])
    with pytest.raises(ValueError, match=r"modality 'adio' is not known; did you mean 'audio'\? Known: 'image', 'aud"):
        check_known("modality", "adio", ["image", "audio"])
    with pytest.raises(ValueError, match=r"kind 'zzz' is not known\. Known: 'mlp'"):
        check_known("kind", "zzz", iter(["mlp"]))
