"""Confidence intervals by bootstrap: how much a number would move with other queries of the same kind."""

from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_finite, check_known, check_rows
from confu.evaluation.report import ReportRow

STATISTICS = ("mean", "median")
NUM_RESAMPLES = 1000
_CHUNK_COUNTS = 1 << 22  # counts held at once: 32 MiB
_MANY = 500  # distinct values, of which drawing counts takes longer than drawing rows


def bootstrap_interval(
    values: Float[Tensor, " n"],
    confidence: float = 0.95,
    statistic: str = "mean",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile interval of a mean or median under resampling of its n values with replacement.

        low, high = quantiles (1 - confidence) / 2 and (1 + confidence) / 2 of {statistic(resample_b)}

    A resample is drawn as the number of times that each distinct value appears in it, which is multinomial, so that
    1000 resamples of 10,000 hits and misses take no time; of more than 500 distinct values, rows are drawn. The same
    seed gives the same interval.

    It tells the chance in the choice of the queries only: neither that of the training (use seeds, see `summarise`)
    nor that of the gallery, which stays as it is. If all values are equal the interval has no width, which does not
    mean that the number is certain; with few queries (below about 30) it is too narrow.

    Args:
        values: (n,) one number a query: 1 or 0 for right and wrong, or a rank.
        confidence: between 0 and 1.
        statistic: `"mean"` or `"median"`.
        num_resamples: how many resamples; more make the ends less random, not the interval narrower.
        seed: of the resampling.

    Returns:
        low and high.

    Raises:
        ValueError: without values, if one is not finite, or an argument is out of range.

    Reference: Efron and Tibshirani 1993, An Introduction to the Bootstrap, Section 13.3.

    Example:
        >>> import torch
        >>> low, high = bootstrap_interval(torch.tensor([0.0, 1.0]).repeat(50))
        >>> 0.35 < low < 0.45 and 0.55 < high < 0.65
        True
    """
    check_rows(len(values), 1, "a confidence interval")
    check_finite("values", values)
    check_known("statistic", statistic, STATISTICS)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, e.g. 0.95; got {confidence}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, better {NUM_RESAMPLES}; got {num_resamples}")
    numbers, random = values.double().cpu().numpy(), np.random.default_rng(seed)
    distinct, counts = np.unique(numbers, return_counts=True)
    if len(distinct) > _MANY:
        of_rows = np.mean if statistic == "mean" else np.median
        draws = (random.integers(len(numbers), size=len(numbers)) for _ in range(num_resamples))
        return _ends(np.array([of_rows(numbers[rows]) for rows in draws]), confidence)
    draw = partial(random.multinomial, len(values), counts / len(values))
    measure = _means if statistic == "mean" else _medians
    step = max(1, _CHUNK_COUNTS // len(distinct))
    sizes = [min(step, num_resamples - start) for start in range(0, num_resamples, step)]
    statistics = np.concatenate([measure(distinct, draw(size=size)) for size in sizes])
    return _ends(statistics, confidence)


def _ends(statistics: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(statistics, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _means(distinct: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return counts @ distinct / counts.sum(axis=1)


def _medians(distinct: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of the two middle values of each resample, which are the same one if their number is odd."""
    up_to, n = counts.cumsum(axis=1), int(counts[0].sum())
    lower, upper = ((up_to >= place).argmax(axis=1) for place in ((n + 1) // 2, n // 2 + 1))
    return (distinct[lower] + distinct[upper]) / 2


def measured_row(
    metric: str,
    query: str,
    target: str,
    values: Float[Tensor, " n"],
    method: str = "",
    seed: int = 0,
    statistic: str = "mean",
    confidence: float | None = None,
) -> ReportRow:
    """The report row of one number a query: their mean or median, with its interval unless `confidence` is None.

    Example:
        >>> import torch
        >>> measured_row("accuracy", "image", "text", torch.tensor([1.0, 0.0])).value
        0.5
    """
    check_rows(len(values), 1, metric)
    value = float(values.double().mean() if statistic == "mean" else values.double().quantile(0.5))
    if confidence is None:
        return ReportRow(metric, query, target, value, len(values), method, seed)
    low, high = bootstrap_interval(values, confidence, statistic)
    return ReportRow(metric, query, target, value, len(values), method, seed, "", low, high, confidence)
