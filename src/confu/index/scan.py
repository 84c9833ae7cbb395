"""Exact nearest neighbours among memory-mapped vectors, of all rows or of those that a mask allows."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from confu.products import top_k

_PIECE = 1 << 16  # rows at once where a mask leaves some out
_FEW = 0.25  # below this share the allowed rows are copied together; above it all are scored, and then masked
_QUERIES = 256  # at once with a piece: 64 MiB of scores

Nearest = tuple[Float[Tensor, "_ _"], Int[Tensor, "_ _"]]


def nearest(
    queries: Float[Tensor, "n d"], vectors: Float[Tensor, "m d"], k: int, allowed: Bool[Tensor, " m"] | None = None
) -> Nearest:
    """The k rows with the largest inner product; equal scores are ordered by row.

    Args:
        queries: (n, d).
        vectors: (m, d), memory-mapped, known to be finite; only a piece is read at once.
        k: at least 1; fewer come where fewer are allowed.
        allowed: None for all rows.

    Returns:
        (n, k) scores and (n, k) rows, best first.
    """
    count = len(vectors) if allowed is None else int(allowed.sum())
    if not count:
        return queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
    if allowed is None or count == len(vectors):
        return top_k(queries, vectors, min(k, count), finite=True)
    parts: list[Nearest] = []
    if count < len(vectors) * _FEW:
        for rows in allowed.nonzero()[:, 0].split(_PIECE):
            scores, places = top_k(queries, vectors[rows], min(k, len(rows)), finite=True)
            parts.append((scores, rows[places]))
    else:
        for start in range(0, len(vectors), _PIECE):
            piece, mask = vectors[start : start + _PIECE], allowed[start : start + _PIECE]
            if fits := int(mask.sum()):
                scores, rows = _masked(queries, piece, min(k, fits), mask)
                parts.append((scores, rows + start))
            if len(parts) > 8:
                parts = [merge(parts, k)]
    return merge(parts, k)


def merge(parts: list[Nearest], k: int) -> Nearest:
    """The k best of several parts; of equal scores those of the earlier part come first."""
    if len(parts) == 1:
        return parts[0]
    scores, rows = torch.cat([part[0] for part in parts], dim=1), torch.cat([part[1] for part in parts], dim=1)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return scores[:, :k], rows.gather(1, order)[:, :k]


def _masked(queries: Tensor, piece: Tensor, k: int, mask: Tensor) -> Nearest:
    """The k best of a piece, whose scores are all computed."""
    parts = []
    for some in queries.split(_QUERIES):
        # One query by a matrix is read at half the speed of two.
        products = (piece @ some.repeat(2, 1).T)[:, :1].T if len(some) == 1 else some @ piece.T
        scores = products.masked_fill(~mask, -torch.inf)
        best, rows = scores.topk(k, dim=1)
        # Which of several equal scores `topk` takes is not defined: sort the lines where that matters.
        for line in ((scores >= best[:, -1:]).sum(dim=1) > k).nonzero()[:, 0]:
            rows[line] = scores[line].sort(descending=True, stable=True).indices[:k]
        rows = rows.sort(dim=1).values
        best, order = scores.gather(1, rows).sort(dim=1, descending=True, stable=True)
        parts.append((best, rows.gather(1, order)))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
