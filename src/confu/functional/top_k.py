"""The k largest inner products of each query with a gallery, exactly, in two levels and little memory.

Shapes: n queries, m rows of the gallery, d numbers each.

Scores are made tile by tile. Of a tile, the maximum of every block of rows tells which blocks can hold one of the k
best: only these are looked at again. The k best of a query lie in the k blocks that come first by their maximum.
"""

from contextlib import nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from confu.checks import check_finite
from confu.functional.products import products

_TILE = 1 << 21  # scores held at once: 8 MiB, within the cache of most processors
_TILE_GPU = 1 << 26
_QUERIES = 1024  # of a tile, at most
_BLOCK = 64  # neighbouring rows with one maximum
_LAST = (1 << 32) - 1  # above every row


def top_k(
    queries: Float[Tensor, "n d"], gallery: Float[Tensor, "m d"], k: int, *, finite: bool = False
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    r"""For each query the k rows of the gallery with the largest inner product, best first.

        (s_{i1}, j_{i1}), ..., (s_{ik}, j_{ik}),   s_{ij} = q_i . g_j

    Equal scores are ordered by row, the lower first, so that the answer is the same every time. Equal rows have equal
    scores but for the rounding of a matrix product, which may differ in its last digit from place to place.

    Args:
        queries: (n, d) of a float type.
        gallery: (m, d) of the same; unit vectors on both sides make the products cosines. It may be a memory-mapped
            tensor, of which only a tile is read at once.
        k: 1 to m.
        finite: the gallery is known to hold no NaN and no infinity, and is not looked through for them: for one query
            that is a third of the time.

    Returns:
        (n, k) scores in the type of the queries, without a gradient, and (n, k) rows of the gallery.

    Raises:
        ValueError: if the shapes, types or devices do not fit, k is not in 1..m, or a number is not finite.

    Example:
        >>> scores, rows = top_k(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [1.0, 0.0], [1.0, 0.0]]), k=2)
        >>> rows.tolist()
        [[1, 2]]
    """
    _check(queries, gallery, k, finite)
    n, m = len(queries), len(gallery)
    scores = queries.new_empty(n, k)
    rows = torch.empty(n, k, dtype=torch.long, device=queries.device)
    tile = _TILE if queries.device.type == "cpu" else _TILE_GPU
    least = min(m, 2 * k * _BLOCK)  # twice the blocks that may have to be looked at, else there is little to leave out
    step = max(1, min(n, _QUERIES, tile // least))
    width = min(m, max(tile // step, least) // _BLOCK * _BLOCK or _BLOCK)
    for start in range(0, n, step):
        some = slice(start, min(start + step, n))
        with torch.no_grad(), products(queries) if n > 1 else nullcontext():
            scores[some], rows[some] = _best_of(queries[some], gallery, k, width)
    return scores, rows


def _best_of(queries: Tensor, gallery: Tensor, k: int, width: int) -> tuple[Tensor, Tensor]:
    n = len(queries)
    every = torch.arange(n, device=queries.device)
    best = queries.new_full((n, k), -torch.inf)
    rows = torch.full((n, k), _LAST, device=queries.device)  # of no row: behind all that are
    room = queries.new_empty(n, width)
    for start in range(0, len(gallery), width):
        part = gallery[start : start + width]
        if n == 1 and queries.device.type == "cpu":
            # A matrix by one vector is read at half the speed of one by two.
            scores = torch.mm(part, queries.repeat(2, 1).T)[:, 0].reshape(1, -1)
        else:
            scores = torch.mm(queries, part.T, out=room) if len(part) == width else queries @ part.T
        if beyond := -len(part) % _BLOCK:
            scores = pad(scores, (0, beyond), value=-torch.inf)
        highest = scores.view(n, -1, _BLOCK).amax(dim=2)
        if start == 0:
            asking, most = every, highest.shape[1]
        else:
            # What comes later stands behind what ties with it: only more than the last of the best counts.
            more = (highest > best[:, -1:]).sum(dim=1)
            asking, most = more.nonzero()[:, 0], int(more.max())
        if len(asking):
            found = _looked_at(scores, highest[asking], asking, min(k, most))
            both = torch.cat([best[asking], found[0]], dim=1), torch.cat([rows[asking], found[1] + start], dim=1)
            order = _first(*both, k)
            best[asking], rows[asking] = both[0].gather(1, order), both[1].gather(1, order)
    return best, rows


def _looked_at(scores: Tensor, highest: Tensor, asking: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The scores in the first blocks of each of these queries, and the columns that they stand in."""
    blocks = torch.arange(highest.shape[1], device=scores.device).expand_as(highest)
    chosen = _first(highest, blocks, count)
    values = scores.view(-1, _BLOCK)[asking[:, None] * highest.shape[1] + chosen]
    columns = chosen[:, :, None] * _BLOCK + torch.arange(_BLOCK, device=scores.device)
    return values.flatten(1), columns.flatten(1)


def _first(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """Where in each line the first ones stand, by value from above and among equals by row from below."""
    if values.dtype == torch.float64:
        order = rows.argsort(dim=1)
        return order.gather(1, values.gather(1, order).argsort(dim=1, descending=True, stable=True)[:, :count])
    bits = (values.float() + 0.0).view(torch.int32)  # + 0.0, so that there is one zero only
    # Of a negative number more bits mean less: turned over, numbers are in the order of their bits.
    key = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long() << 32
    return (key + (_LAST - rows)).topk(count, dim=1).indices


def _check(queries: Tensor, gallery: Tensor, k: int, finite: bool) -> None:
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"queries and gallery must be (n, d) and (m, d) of one d; got {tuple(queries.shape)} and "
            f"{tuple(gallery.shape)}"
        )
    if queries.dtype != gallery.dtype or queries.device != gallery.device or not queries.is_floating_point():
        raise ValueError(
            f"queries and gallery must be of one float type on one device; got {queries.dtype} on {queries.device} and "
            f"{gallery.dtype} on {gallery.device}. Convert one, e.g. queries.to(gallery)"
        )
    if not 1 <= k <= len(gallery):
        raise ValueError(f"k must lie between 1 and the size of the gallery, {len(gallery)}; got {k}")
    for name, vectors in (("queries", queries), *([] if finite else [("gallery", gallery)])):
        for part in vectors.split(1 << 16):
            if not bool(part.sum().isfinite()):  # ten times as fast as to ask for each number
                check_finite(name, vectors)
