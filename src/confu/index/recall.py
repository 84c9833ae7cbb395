"""Recall and time of an approximate index, by the values of its dial."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

import torch
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_known
from confu.index.backend import Backend, Ranking
from confu.index.index import Index
from confu.plan import Subset

_TIE = 1e-5  # a score this near to that of the last of the k best is as good
_BATCH = 64
_SINGLE = 100  # queries that are timed one by one


@dataclass(frozen=True)
class Setting:
    """Recall and time of one value of a dial.

    Attributes:
        dial: the name of the option, e.g. `"ef"`; empty for exact search.
        value: of the option.
        recall: recall@k, mean over queries.
        one_ms: median milliseconds of a search for one query.
        batch_ms: milliseconds a query, of searches for 64 at once.
        in_use: whether the index is set so.
    """

    dial: str
    value: int
    recall: float
    one_ms: float
    batch_ms: float
    in_use: bool


def recall_of(rankings: Sequence[Ranking], exact: Sequence[Ranking]) -> float:
    """Recall@k of approximate rankings, mean over the queries that have any neighbour.

        recall = mean over queries of |{h: s_h >= s_last}| / n,   n scores by exact search, s_last the lowest

    What ties with the last of the exact ones counts as one of them.

    Args:
        rankings: of an approximate search, one a query.
        exact: of an exact one, at most k hits each.

    Raises:
        ValueError: if they are not of the same queries, or no query has a neighbour.

    >>> recall_of([[("a", 0.9), ("c", 0.5)]], [[("a", 0.9), ("b", 0.8)]])
    0.5
    """
    if len(rankings) != len(exact):
        raise ValueError(f"both rankings must be of the same queries; got {len(rankings)} and {len(exact)}")
    shares = [
        min(len(true), sum(score >= true[-1][1] - _TIE for _, score in ranking)) / len(true)
        for ranking, true in zip(rankings, exact)
        if true
    ]
    if not shares:
        raise ValueError("no query has a neighbour; is the index empty?")
    return fmean(shares)


def measure_settings(
    store: Backend, queries: Float[Tensor, "queries dim"], target: Subset, k: int, values: Sequence[int] = ()
) -> list[Setting]:
    """Recall and time of each value of a store's dial; of an exact store its time alone.

    Args:
        store: of an index.
        queries: unit vectors.
        target: stored subset.
        k: neighbours.
        values: of the dial; by default powers of two about the one in use.
    """
    if store.dial is None:
        return [Setting("", 0, 1.0, *_times(store, queries, target, k), True)]
    name, used = store.dial
    low, high = (max(16, k), 512) if name == "ef" else (1, 256)
    values = values or [1 << power for power in range(10) if low <= 1 << power <= high] or [low]
    exact, settings = _search(store.with_dial(None), queries, target, k), []
    for value in sorted({*values, used}):
        other = store.with_dial(value)
        share = recall_of(_search(other, queries, target, k), exact)
        settings.append(Setting(name, value, share, *_times(other, queries, target, k), value == used))
    return settings


def sample_queries(index: Index, target: Subset, count: int, seed: int = 0) -> tuple[Tensor, Subset]:
    """Vectors of items as queries: of a stored subset that shares nothing with the target, else the target's own.

    Args:
        index: to take items of.
        target: stored subset.
        count: at most so many.
        seed: of the choice.

    Returns:
        (n, dim) vectors, and the subset that they are of.

    Raises:
        ValueError: if no item has such a vector.
    """
    check_known("target", str(target), map(str, index.subsets))
    others = sorted((one for one in index.subsets if not one & target), key=len, reverse=True)
    ids = list(index.ids())
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))[: 4 * count].tolist()
    table = index.fetch([ids[row] for row in order]).table
    for subset in (*others, target):
        if len(rows := table.rows_with(subset)):
            return table[subset][rows[:count]], subset
    raise ValueError(f"of {len(ids)} items in the index, none that was looked at has a vector to ask with")


def _search(store: Backend, queries: Tensor, target: Subset, k: int) -> list[Ranking]:
    return [one for some in queries.split(_BATCH) for one in store.search(some, target, k)]


def _times(store: Backend, queries: Tensor, target: Subset, k: int) -> tuple[float, float]:
    store.search(queries[:1], target, k)  # the first search also reads files
    times = []
    for query in queries[:_SINGLE]:
        start = time.perf_counter()
        store.search(query[None], target, k)
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    _search(store, queries, target, k)
    return 1e3 * median(times), 1e3 * (time.perf_counter() - start) / len(queries)
