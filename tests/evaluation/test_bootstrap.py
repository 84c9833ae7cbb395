"""Confidence intervals: against resampling in a loop, their coverage, and what they refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from confu.evaluation import bootstrap
from confu.evaluation.bootstrap import bootstrap_interval, measured_row


def loop_interval(values, confidence, measure, num_resamples=4000):
    """Draw the rows themselves, one resample at a time."""
    rng, values = np.random.default_rng(1), np.asarray(values)
    found = [measure(values[rng.integers(0, len(values), len(values))]) for _ in range(num_resamples)]
    return np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])


@pytest.mark.parametrize(("statistic", "measure"), [("mean", np.mean), ("median", np.median)])
@pytest.mark.parametrize("n", [30, 41])
def test_it_agrees_with_drawing_the_rows_in_a_loop(statistic, measure, n):
    values = torch.randint(1, 12, (n,), generator=torch.Generator().manual_seed(n)).double()
    found = bootstrap_interval(values, 0.9, statistic, num_resamples=4000)
    # Both are random: for the mean by about 0.03, and a median of whole numbers moves by halves.
    assert found == pytest.approx(loop_interval(values, 0.9, measure), abs=0.12 if statistic == "mean" else 0.5)


@given(values=st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_every_resampled_median_is_a_median_of_a_resample(values):
    values = np.array(sorted(values), dtype=float)
    distinct, place = np.unique(values, return_inverse=True)
    rows = np.random.default_rng(0).integers(0, len(values), (6, len(values)))
    counts = np.stack([np.bincount(place[row], minlength=len(distinct)) for row in rows])
    assert bootstrap._medians(distinct, counts).tolist() == np.median(values[rows], axis=1).tolist()
    assert bootstrap._means(distinct, counts) == pytest.approx(values[rows].mean(axis=1))


def test_the_interval_of_a_recall_holds_the_truth_often():
    trials, p = 200, 0.5
    hits = (torch.rand(trials, 200, generator=torch.Generator().manual_seed(7)) < p).double()
    intervals = [bootstrap_interval(row, 0.9, num_resamples=300, seed=i) for i, row in enumerate(hits)]
    covered = sum(low <= p <= high for low, high in intervals) / trials
    assert 0.78 < covered < 0.99  # 0.9 with a standard error of 0.021: six of them


def test_more_queries_narrow_it_as_their_root():
    widths = [
        float(np.subtract(*bootstrap_interval(torch.tensor([1.0, 0.0]).repeat(n // 2), num_resamples=4000)[::-1]))
        for n in (100, 10_000)
    ]
    assert widths[0] == pytest.approx(2 * 1.96 * 0.5 / 10, rel=0.1)
    assert widths[0] / widths[1] == pytest.approx(10, rel=0.15)


def test_a_seed_gives_one_interval_however_it_is_computed(monkeypatch):
    values = torch.rand(50, generator=torch.Generator().manual_seed(0))
    first = bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values.flip(0), seed=3) == first
    assert bootstrap_interval(values, seed=4) != first
    monkeypatch.setattr(bootstrap, "_CHUNK_COUNTS", 170)  # three resamples at once
    assert bootstrap_interval(values, seed=3) == pytest.approx(first, abs=1e-12)


def test_equal_values_leave_no_width():
    assert bootstrap_interval(torch.ones(20)) == (1.0, 1.0)
    assert bootstrap_interval(torch.tensor([3.0]), statistic="median") == (3.0, 3.0)


def test_a_row_carries_the_interval_only_if_it_is_asked_for():
    values = torch.tensor([1.0, 2.0, 5.0, 9.0])
    plain = measured_row("median rank", "image", "text", values, "confu", 2, "median")
    assert (plain.value, plain.count, plain.method, plain.seed) == (3.5, 4, "confu", 2)
    assert (plain.low, plain.high, plain.confidence) == (None, None, None)
    bounded = measured_row("median rank", "image", "text", values, "confu", 2, "median", 0.8)
    assert (bounded.low, bounded.high) == bootstrap_interval(values, 0.8, "median")
    assert bounded.confidence == 0.8


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="a confidence interval needs at least 1 row"):
        bootstrap_interval(torch.zeros(0))
    with pytest.raises(ValueError, match="accuracy needs at least 1 row"):
        measured_row("accuracy", "image", "text", torch.zeros(0))
    with pytest.raises(ValueError, match="values must be finite; 1 of 2"):
        bootstrap_interval(torch.tensor([0.0, torch.nan]))
    with pytest.raises(ValueError, match="statistic 'medain' is not known; did you mean 'median'"):
        bootstrap_interval(torch.ones(2), statistic="medain")
    with pytest.raises(ValueError, match="num_resamples must be at least 1, better 1000; got 0"):
        bootstrap_interval(torch.ones(2), num_resamples=0)
    for confidence in (0.0, 1.0, 95.0, float("nan")):
        with pytest.raises(ValueError, match=r"confidence must lie between 0 and 1, e\.g\. 0\.95; got"):
            bootstrap_interval(torch.ones(2), confidence)
