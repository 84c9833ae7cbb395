"""Exact search through memory-mapped vectors, piece by piece, of all rows or of those that are allowed.

Shapes: n queries, m stored vectors, d numbers each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from confu.products import top_k

_PIECE = 1 << 16  # rows that are looked at together where some of them are left out
_FEW = 0.25  # so small a share of a piece is copied together; of more all scores are made, and some left out
_QUERIES = 256  # at once with a piece: 64 MiB of scores


@dataclass(frozen=True)
class Scores:
    """The best of some vectors for each query, best first.

    Attributes:
        scores: (n, found).
        parts: (n, found) the number of the part that a row is of.
        rows: (n, found) the row of the part.
    """

    scores: Float[Tensor, "n found"]
    parts: Int[Tensor, "n found"]
    rows: Int[Tensor, "n found"]


def scan(
    queries: Float[Tensor, "n d"], vectors: Float[Tensor, "m d"], k: int, allowed: np.ndarray | None, part: int = 0
) -> Scores:
    """The k rows with the largest inner product, among those that are allowed.

    Args:
        queries: (n, d).
        vectors: (m, d), memory-mapped: never read whole into memory; finite, as whoever stored them made sure.
        k: at least 1; fewer come where fewer are allowed.
        allowed: (m,) bool, or None for all.
        part: the number that the rows are found under.
    """
    found: list[tuple[Tensor, Tensor]] = []
    if allowed is None or bool(allowed.all()):
        if len(vectors):
            found.append(top_k(queries, vectors, min(k, len(vectors)), finite=True))
    else:
        for start in range(0, len(vectors), _PIECE):
            piece, use = vectors[start : start + _PIECE], torch.from_numpy(allowed[start : start + _PIECE])
            if bool(use.any()):
                scores, rows = _some(queries, piece, k, use)
                found.append((scores, rows + start))
                if len(found) > 8:
                    found = [_merged(found, k)]
    if not found:
        return Scores(queries.new_empty(len(queries), 0), *(torch.empty(len(queries), 0, dtype=torch.long),) * 2)
    scores, rows = _merged(found, k)
    return Scores(scores, torch.full_like(rows, part), rows)


def best(found: Sequence[Scores], k: int, n: int) -> list[tuple[list[float], list[tuple[int, int]]]]:
    """The k best of several parts for each query: scores, and (part, row) of each. Of equal ones the earlier first."""
    if not found:
        return [([], []) for _ in range(n)]
    scores = torch.cat([one.scores for one in found], dim=1)
    parts, rows = torch.cat([one.parts for one in found], dim=1), torch.cat([one.rows for one in found], dim=1)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    scores, order = scores[:, :k], order[:, :k]
    parts, rows = parts.gather(1, order), rows.gather(1, order)
    results = []
    for line, numbers, places in zip(scores.tolist(), parts.tolist(), rows.tolist()):
        results.append((line, list(zip(numbers, places))))
    return results


def _some(queries: Tensor, piece: Tensor, k: int, use: Bool[Tensor, " rows"]) -> tuple[Tensor, Tensor]:
    """The k best of the rows of a piece that are allowed."""
    count = int(use.sum())
    if count < len(piece) * _FEW:
        chosen = use.nonzero()[:, 0]
        scores, rows = top_k(queries, piece[chosen], min(k, count), finite=True)
        return scores, chosen[rows]
    found = [_first((some @ piece.T).masked_fill_(~use, -torch.inf), min(k, count)) for some in queries.split(_QUERIES)]
    return torch.cat([scores for scores, _ in found]), torch.cat([rows for _, rows in found])


def _first(scores: Float[Tensor, "n m"], k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each line, of equal ones those that stand first."""
    best, rows = scores.topk(k, dim=1)
    tied = (scores >= best[:, -1:]).sum(dim=1) > k  # more than k are as large as the last: which ones is not said
    for line in tied.nonzero()[:, 0]:
        rows[line] = scores[line].sort(descending=True, stable=True).indices[:k]
    rows = rows.sort(dim=1).values
    return _sorted(scores.gather(1, rows), rows)


def _sorted(scores: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return scores, rows.gather(1, order)


def _merged(found: Sequence[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    if len(found) == 1:
        return found[0]
    scores, rows = _sorted(torch.cat([one[0] for one in found], dim=1), torch.cat([one[1] for one in found], dim=1))
    return scores[:, :k], rows[:, :k]
