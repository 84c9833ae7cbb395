"""The best of one segment's vectors by FAISS, of all rows or of those that are allowed.

Shapes: n queries, m stored vectors, d numbers each.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from confu.index.faiss_files import library
from confu.index.faiss_settings import Settings
from confu.index.scan import Scores, scan

_AT_ONCE = 1 << 26  # numbers of candidates in memory


def scan_flat(
    queries: Float[Tensor, "n d"], vectors: Float[Tensor, "m d"], k: int, allowed: np.ndarray | None, part: int
) -> Scores:
    """Every vector by FAISS, or by `scan` where some are left out."""
    faiss = library()
    if not len(vectors) or (allowed is not None and not allowed.all()):
        return scan(queries, vectors, k, allowed, part)
    scores, rows = faiss.knn(
        queries.contiguous().numpy(), vectors.numpy(), min(k, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT
    )
    return _scores(torch.from_numpy(scores), torch.from_numpy(rows), part)


def search(
    index: Any, queries: Float[Tensor, "n d"], vectors: Float[Tensor, "m d"], k: int, allowed: np.ndarray | None,
    settings: Settings, part: int,
) -> Scores:  # fmt: skip
    """The k best, near enough: through an index where that pays, and exactly where it found too few.

    Args:
        index: of FAISS, over these vectors.
        queries: (n, d).
        vectors: (m, d), memory-mapped.
        k: at least 1; fewer come where fewer are allowed.
        allowed: (m,) bool, or None for all.
        settings: of the store.
        part: the number that the rows are found under.
    """
    total = len(vectors)
    fit = total if allowed is None else int(allowed.sum())
    if fit <= few(total, k, settings):
        return scan(queries, vectors, k, allowed, part)
    found, rows = index.search(
        queries.contiguous().numpy(),
        _candidates(k, fit, settings),
        params=_parameters(allowed, fit, total, k, settings),
    )
    scores, rows = torch.from_numpy(found).masked_fill(torch.from_numpy(rows < 0), -torch.inf), torch.from_numpy(rows)
    if settings.kind == "ivfpq" and settings.refine:
        scores, rows = _refined(queries, vectors, scores, rows, k)
    lacking = (rows[:, :k] < 0).any(dim=1).nonzero()[:, 0]
    if len(lacking):
        exact = scan(queries[lacking], vectors, k, allowed, part)
        scores[lacking], rows[lacking] = exact.scores, exact.rows
    return _scores(scores, rows, part)


def few(total: int, k: int, settings: Settings) -> int:
    """So many rows that fit are compared one by one: to find them through an index would cost more, and miss some.

    Where a share s of m vectors fits, a graph is walked through ef / s of them, each with its neighbours, and s m are
    compared without it. The two meet near s m = 4 sqrt(ef m).
    """
    looked_at = settings.ef if settings.kind == "hnsw" else settings.nprobe
    return min(total // 2, max(10 * k, int(4 * (looked_at * total) ** 0.5)))


def _candidates(k: int, fit: int, settings: Settings) -> int:
    return min(fit, k * settings.refine if settings.kind == "ivfpq" and settings.refine else k)


def _parameters(allowed: np.ndarray | None, fit: int, total: int, k: int, settings: Settings) -> Any:
    faiss = library()
    chosen = {}
    if allowed is not None and fit < total:
        chosen = {"sel": faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))}
    # Where one in ten fits, ten times as many are looked at for as many that do.
    wider = total / fit
    if settings.kind == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=int(max(settings.ef, k) * wider), **chosen)
    return faiss.SearchParametersIVF(nprobe=int(settings.nprobe * wider), **chosen)


def _refined(queries: Tensor, vectors: Tensor, scores: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of the candidates by their true vectors."""
    step = max(1, _AT_ONCE // (rows.shape[1] * vectors.shape[1]))
    parts = []
    for start in range(0, len(queries), step):
        some = slice(start, start + step)
        true = torch.einsum("nd,ncd->nc", queries[some], vectors[rows[some].clamp(min=0)])
        values, order = true.masked_fill(rows[some] < 0, -torch.inf).topk(min(k, rows.shape[1]), dim=1)
        parts.append((values, rows[some].gather(1, order)))
    return torch.cat([values for values, _ in parts]), torch.cat([found for _, found in parts])


def _scores(scores: Tensor, rows: Tensor, part: int) -> Scores:
    return Scores(scores, torch.full_like(rows, part), rows.clamp(min=0))
