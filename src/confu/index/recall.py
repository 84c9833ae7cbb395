"""How many of the true nearest neighbours an approximate store finds, and how long it takes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_known
from confu.index.backend import Backend, Found
from confu.index.index import Index
from confu.plan import Subset

_TIE = 1e-5  # a score as near to that of the last of the k best is as good
_BATCH = 64
_ONE = 100  # queries that are timed one by one


@runtime_checkable
class Approximates(Backend, Protocol):
    """A store that finds nearly all, and has a setting of how nearly."""

    @property
    def dial(self) -> str:
        """The setting that trades time for recall, e.g. `"ef"`; empty if there is none."""
        ...

    @property
    def dial_value(self) -> int:
        """What it is set to."""
        ...

    def dialled(self, value: int) -> Backend:
        """The same store with the dial at another value; it shares files and connections with this one."""
        ...

    def exactly(self) -> Backend:
        """The same store searched by comparing every vector."""
        ...


@dataclass(frozen=True)
class Setting:
    """What one setting of a store finds.

    Attributes:
        dial: the name of the setting; empty for a store without one.
        value: of the setting.
        recall: the share of the k nearest that is found, mean over queries.
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


def recall_of(found: Sequence[Found], exact: Sequence[Found]) -> float:
    """The share of the true k nearest that was found, mean over the queries that have any.

        recall = mean over queries of |{h found: s_h >= s_last}| / n,   n scores by exact search, s_last the lowest

    What ties with the last of the true ones counts as one of them.

    Args:
        found: what an approximate search found for each query.
        exact: what an exact one found, at most k of each.

    Raises:
        ValueError: if they are not of the same queries, or no query has a neighbour.

    Example:
        >>> recall_of([Found(["a", "c"], [0.9, 0.5])], [Found(["a", "b"], [0.9, 0.8])])
        0.5
    """
    if len(found) != len(exact):
        raise ValueError(f"found and exact must be of the same queries; got {len(found)} and {len(exact)}")
    shares = [
        min(len(true.ids), sum(score >= true.scores[-1] - _TIE for score in one.scores)) / len(true.ids)
        for one, true in zip(found, exact)
        if true.ids
    ]
    if not shares:
        raise ValueError("no query has a neighbour; is the index empty?")
    return fmean(shares)


def measure_settings(
    store: Backend, queries: Float[Tensor, "queries dim"], target: Subset, k: int, values: Sequence[int] = ()
) -> list[Setting]:
    """Recall and time of each value of a store's dial; of an exact store, or one without a dial, its time alone.

    Args:
        store: of an index.
        queries: unit vectors.
        target: stored subset.
        k: neighbours.
        values: of the dial; by default powers of two about the one in use.
    """
    if not isinstance(store, Approximates) or not store.dial:
        return [Setting("", 0, 1.0, *_times(store, queries, target, k), True)]
    exact = _found(store.exactly(), queries, target, k)
    settings = []
    for value in sorted({*(values or _around(store.dial, k)), store.dial_value}):
        dialled = store.dialled(value)
        share = recall_of(_found(dialled, queries, target, k), exact)
        times = _times(dialled, queries, target, k)
        settings.append(Setting(store.dial, value, share, *times, value == store.dial_value))
    return settings


def usual_queries(index: Index, target: Subset, count: int, seed: int = 0) -> tuple[Tensor, Subset]:
    """Vectors of items as people ask: of a stored subset that shares nothing with the target, else the target's own.

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


def _around(dial: str, k: int) -> list[int]:
    low, high = (max(16, k), 512) if dial == "ef" else (1, 256)
    return [1 << power for power in range(10) if low <= 1 << power <= high] or [low]


def _found(store: Backend, queries: Tensor, target: Subset, k: int) -> list[Found]:
    return [one for some in queries.split(_BATCH) for one in store.search(some, target, k)]


def _times(store: Backend, queries: Tensor, target: Subset, k: int) -> tuple[float, float]:
    store.search(queries[:1], target, k)  # the first search also reads files
    one = []
    for query in queries[:_ONE]:
        start = time.perf_counter()
        store.search(query[None], target, k)
        one.append(time.perf_counter() - start)
    start = time.perf_counter()
    _found(store, queries, target, k)
    return 1e3 * median(one), 1e3 * (time.perf_counter() - start) / len(queries)
