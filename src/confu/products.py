"""Matrix products: which library multiplies float32 on a CPU, and the k largest inner products of a gallery.

torch's default (MKL) is about 2.4 times slower than oneDNN on some processors. torch lets oneDNN multiply if bf16 is
allowed, which on some processors (with AMX) really computes in bf16: so it is used only where its result is as close to
float64 as the default's is, and where it is faster.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from confu.checks import check_finite

_log = logging.getLogger(__name__)
_SIZE = 384
_kept = ""  # the backend of a run that goes on
_GAIN = 1.15  # less is within the noise of measuring, and not worth a switch


@dataclass(frozen=True)
class Backend:
    """What was found.

    Attributes:
        name: `"default"` or `"onednn"`.
        ratio: the time of oneDNN's product to the default's; NaN if it was not measured.
        why: the choice in a sentence.
    """

    name: str
    ratio: float
    why: str


@cache
def matmul_backend() -> Backend:
    """Which library multiplies float32 matrices on the CPU here; measured once a process, in some milliseconds.

    The environment variable CONFU_MATMUL, `default` or `onednn`, decides without measuring; `onednn` is still checked
    for its precision.
    """
    found = _choose(os.environ.get("CONFU_MATMUL", "") or _kept)
    _log.info("float32 products on the CPU: %s (%s)", found.name, found.why)
    return found


def keep_backend(name: str) -> None:
    """Multiply from here on with the library that a run began with, unless CONFU_MATMUL names another.

    Measured anew on a busy machine the choice can be the other one, whose sums are rounded otherwise.
    """
    global _kept
    _kept = name
    matmul_backend.cache_clear()


@contextlib.contextmanager
def products(like: Tensor) -> Iterator[None]:
    """Multiply with the chosen library inside the block.

    Args:
        like: what is multiplied; nothing changes unless it is float32 on a CPU.
    """
    if like.device.type != "cpu" or like.dtype != torch.float32 or matmul_backend().name == "default":
        yield
        return
    with _onednn():
        yield


def _choose(asked: str) -> Backend:
    nothing = float("nan")
    if asked not in ("", "default", "onednn"):
        raise ValueError(f"CONFU_MATMUL must be 'default' or 'onednn'; got {asked!r}")
    if asked == "default":
        return Backend("default", nothing, "asked for by CONFU_MATMUL, or by the run that goes on")
    if _switch() is None or not torch.backends.mkldnn.is_available():
        return Backend("default", nothing, "this torch cannot choose")
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, _SIZE, _SIZE, generator=generator)
    exact = a.double() @ b.double()

    def error() -> float:
        return float((a @ b - exact).abs().max())

    usual = error()
    with _onednn():
        other = error()
    if not other <= 4 * usual:
        return Backend("default", nothing, f"oneDNN is less exact here: {other:.1e} off, not {usual:.1e}")
    if asked:
        return Backend("onednn", nothing, "asked for by CONFU_MATMUL, or by the run that goes on")
    times: dict[str, list[float]] = {"default": [], "onednn": []}
    for _ in range(5):  # in turn, so that a busy machine slows both
        times["default"].append(_seconds(a, b))
        with _onednn():
            times["onednn"].append(_seconds(a, b))
    ratio = min(times["onednn"]) / min(times["default"])
    name = "onednn" if ratio < 1 / _GAIN else "default"
    return Backend(name, ratio, f"oneDNN takes {ratio:.2f} of the default's time, and is as exact")


def _seconds(a: Tensor, b: Tensor) -> float:
    started = time.perf_counter()
    torch.mm(a, b)
    return time.perf_counter() - started


def _switch() -> Any:
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    return matmul if hasattr(matmul, "fp32_precision") else None


@contextlib.contextmanager
def _onednn() -> Iterator[None]:
    switch = _switch()
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        yield
    finally:
        switch.fp32_precision = before


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
        with torch.no_grad(), products(queries) if n > 1 else contextlib.nullcontext():
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
