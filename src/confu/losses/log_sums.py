r"""The kernel of InfoNCE: logarithms of the row and column sums of exp scores, without keeping more than is cheap.

For a left side and several right sides, $S = L R^T$, it gives $\log \sum_j e^{S_{ij}}$ of every row and every right
side, and $\log \sum_i e^{S_{ij}}$ of every column. One exp serves both. Its backward pass needs

$$W_{ij} = e^{S_{ij}} (g_i / r_i + h_j / c_j),\quad dL = W R,\quad dR = W^T L$$

for gradients g of the row logarithms and h of the column logarithms, r and c the sums: formed tile by tile, from the
exp scores that were kept, or from scores that are multiplied again, so that memory is O((n + m) d).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from confu.losses import gpu_sums as gpu
from confu.products import products

KEPT_BYTES = 64 * 2**20
"""Exp scores of a left side are kept for the backward pass up to this size; above it they are made again."""

TILE = 4 * 2**20  # numbers of a tile
LOG2E = math.log2(math.e)


@dataclass(frozen=True)
class _Shape:
    """How the work is cut: the ends of the right sides among all columns, and rows of a tile."""

    ends: tuple[int, ...]
    tile: int

    def blocks(self) -> Iterator[tuple[int, slice]]:
        start = 0
        for number, end in enumerate(self.ends):
            yield number, slice(start, end)
            start = end

    def tiles(self, rows: int) -> Iterator[slice]:
        for start in range(0, rows, self.tile):
            yield slice(start, min(start + self.tile, rows))


def log_sums(
    left: Float[Tensor, "n dim"],
    rights: Sequence[Float[Tensor, "_ dim"]],
    *,
    columns: bool = True,
    same: tuple[Int[Tensor, " n"], Int[Tensor, " m"]] | None = None,
    keep: bool | None = None,
    low: tuple[Float[Tensor, "n dim"], float | Float[Tensor, ""]] | None = None,
) -> tuple[Float[Tensor, "n sides"], Float[Tensor, " m"] | None]:
    """Logarithms of the sums of exp scores, by row for each right side, and by column.

    Args:
        left: (n, dim), already divided by the temperature.
        rights: one or more (rows, dim), m rows in all.
        columns: whether the column sums are wanted too.
        same: a number for each left row and for each right row (all right sides after one another); pairs of equal
            numbers of 0 or more are left out of the sums.
        keep: keep the exp scores for the backward pass (faster), or multiply again (little memory). None keeps them up
            to `KEPT_BYTES`, or has a GPU's kernel multiply again where that is faster.
        low: the left side before it was divided, and the temperature, if all numbers are bfloat16's: a GPU multiplies
            these faster, and without rounding.

    Returns:
        (n, sides) of the rows, and (m,) of the columns or None. A sum over nothing is -inf.

    >>> rows, columns = log_sums(torch.zeros(2, 3), [torch.zeros(4, 3)])
    >>> rows.exp().tolist(), [round(one, 4) for one in columns.exp().tolist()]
    ([[4.0], [4.0]], [2.0, 2.0, 2.0, 2.0])
    """
    ends = list(accumulate(map(len, rights)))
    n, m = len(left), ends[-1]
    may_use_kernels = left.device.type in gpu.DEVICES and keep is not True
    if keep is None:
        keep = torch.is_grad_enabled() and n * m * left.element_size() <= KEPT_BYTES
    if not keep and not may_use_kernels and len(rights) > 1:
        return _side_by_side(left, rights, columns, same)
    right = rights[0] if len(rights) == 1 else torch.cat(list(rights))
    kernels = may_use_kernels and exp_fits(left, right)
    shape = _Shape(tuple(ends), max(1, min(n, TILE // max(1, m))))
    left_same, right_same = (None, None) if same is None else same

    def usual(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return _LogSums.apply(left, right, left_same, right_same, shape, keep, columns)  # pyright: ignore[reportReturnType]

    found = gpu.gpu_sums(left, right, ends, columns, same, usual, low) if kernels else None
    rows, cols = found or usual(left, right)
    return rows, cols if columns else None


def _side_by_side(
    left: Tensor, rights: Sequence[Tensor], columns: bool, same: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor | None]:
    """One right side after another: where there are many rows, putting them together costs memory and saves no time."""
    their = [None] * len(rights) if same is None else same[1].split([len(right) for right in rights])
    found = [
        log_sums(
            left, [right], columns=columns, same=None if same is None or own is None else (same[0], own), keep=False
        )
        for right, own in zip(rights, their)
    ]
    of_columns = [column for _, column in found if column is not None]
    return torch.cat([rows for rows, _ in found], dim=1), torch.cat(of_columns) if columns else None


class _LogSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor, left_same: Tensor | None, right_same: Tensor | None, shape: _Shape,
        keep: bool, columns: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        guarded = not exp_fits(left, right)
        sums = _guarded_sums if guarded else _plain_sums
        keep = keep and not guarded
        with torch.autocast(left.device.type, enabled=False), products(left):
            rows, cols, kept = sums(left, right, (left_same, right_same), shape, keep, columns)
        ctx.save_for_backward(left, right, left_same, right_same, rows, cols, kept)
        ctx.how = shape, guarded, columns
        return rows, cols

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        left, right, left_same, right_same, rows, cols, kept = ctx.saved_tensors
        shape, guarded, columns = ctx.how
        of_rows, of_cols = grads
        wanted = ctx.needs_input_grad[:2]
        with torch.autocast(left.device.type, enabled=False), products(left):
            made = _gradients(left, right, (left_same, right_same), shape, rows, cols, of_rows,
                              of_cols if columns else None, kept, guarded, wanted)  # fmt: skip
        return *made, None, None, None, None, None


def exp_fits(left: Float[Tensor, "*stack n dim"], right: Float[Tensor, "*stack m dim"]) -> bool:
    """Whether no sum of exp scores can overflow, or vanish: |score| is at most the product of the lengths."""
    if not left.numel() or not right.numel():
        return True
    bound = left.detach().norm(dim=-1).max() * right.detach().norm(dim=-1).max()
    largest = math.log(torch.finfo(left.dtype).max) - math.log(max(left.shape[-2], right.shape[-2])) - 1
    # Not "> largest": NaN must not pass either.
    return bool(bound < largest)


def _plain_sums(
    left: Tensor, right: Tensor, same: tuple[Tensor | None, Tensor | None], shape: _Shape, keep: bool, columns: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    rows = left.new_empty(len(left), len(shape.ends))
    cols = left.new_zeros(len(right) if columns else 0)
    if keep:
        kept = _exp_scores(left, right, same, slice(0, len(left)), None)
        for number, block in shape.blocks():
            torch.sum(kept[:, block], dim=1, out=rows[:, number])
        if columns:
            torch.sum(kept, dim=0, out=cols)
        return rows.log_(), cols.log_(), kept
    room = left.new_empty(shape.tile, len(right))
    for tile in shape.tiles(len(left)):
        made = _exp_scores(left, right, same, tile, room)
        for number, block in shape.blocks():
            torch.sum(made[:, block], dim=1, out=rows[tile, number])
        if columns:
            cols += made.sum(dim=0)
    return rows.log_(), cols.log_(), None


def _exp_scores(
    left: Tensor, right: Tensor, same: tuple[Tensor | None, Tensor | None], tile: slice, room: Tensor | None
) -> Tensor:
    """exp of some rows of the scores; exp2 is about four times as fast on a CPU, its factor goes on the small side."""
    some = left[tile] * LOG2E
    scores = torch.mm(some, right.T, out=None if room is None else room[: len(some)]).exp2_()
    if (apart := _apart(same, tile)) is not None:
        scores.masked_fill_(apart, 0)
    return scores


def _apart(same: tuple[Tensor | None, Tensor | None], tile: slice) -> Tensor | None:
    left, right = same
    if left is None or right is None:
        return None
    mine = left[tile, None]
    return (mine == right) & (mine >= 0)


def _guarded_sums(
    left: Tensor, right: Tensor, same: tuple[Tensor | None, Tensor | None], shape: _Shape, keep: bool, columns: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The same for scores of any size, each sum with a maximum of its own."""
    rows = left.new_empty(len(left), len(shape.ends))
    cols = left.new_full((len(right) if columns else 0,), -torch.inf)
    for tile in shape.tiles(len(left)):
        scores = _scores(left, right, same, tile)
        for number, block in shape.blocks():
            rows[tile, number] = scores[:, block].logsumexp(dim=1)
        if columns:
            cols = torch.logaddexp(cols, scores.logsumexp(dim=0))
    return rows, cols, None


def _scores(left: Tensor, right: Tensor, same: tuple[Tensor | None, Tensor | None], tile: slice) -> Tensor:
    scores = left[tile] @ right.T
    return scores if (apart := _apart(same, tile)) is None else scores.masked_fill_(apart, -torch.inf)


def _gradients(
    left: Tensor, right: Tensor, same: tuple[Tensor | None, Tensor | None], shape: _Shape, rows: Tensor, cols: Tensor,
    of_rows: Tensor, of_cols: Tensor | None, kept: Tensor | None, guarded: bool, wanted: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    of_left = torch.empty_like(left) if wanted[0] else None
    of_right = torch.zeros_like(right) if wanted[1] else None
    tile_rows = max(1, min(shape.tile, TILE // 2 // max(1, len(right)))) if kept is not None else shape.tile
    shape = _Shape(shape.ends, tile_rows)
    weights = left.new_empty(min(tile_rows, len(left)), len(right))
    room = torch.empty_like(weights) if kept is None and not guarded else None
    if not guarded:
        # A sum over nothing has no gradient: where its logarithm is -inf, nothing is divided by it.
        row_share = torch.where(rows.isfinite(), of_rows * (-rows).exp(), 0)
        col_share = None if of_cols is None else torch.where(cols.isfinite(), of_cols * (-cols).exp(), 0)
    else:
        row_share = col_share = None
    for tile in shape.tiles(len(left)):
        part = weights[: tile.stop - tile.start]
        if row_share is None:
            _guarded_weights(part, _scores(left, right, same, tile), shape, rows[tile], cols, of_rows[tile], of_cols)
        else:
            made = kept[tile] if kept is not None else _exp_scores(left, right, same, tile, room)
            for number, block in shape.blocks():
                share = row_share[tile, number, None]
                if col_share is None:
                    torch.mul(made[:, block], share, out=part[:, block])
                else:
                    torch.add(share, col_share[block], out=part[:, block]).mul_(made[:, block])
        if of_left is not None:
            torch.mm(part, right, out=of_left[tile])
        if of_right is not None:
            of_right.addmm_(part.T, left[tile])
    return of_left, of_right


def _guarded_weights(
    part: Tensor, scores: Tensor, shape: _Shape, rows: Tensor, cols: Tensor, of_rows: Tensor, of_cols: Tensor | None
) -> None:
    for number, block in shape.blocks():
        mine = rows[:, number, None]
        share = torch.where(mine.isfinite(), (scores[:, block] - mine).exp_() * of_rows[:, number, None], 0)
        if of_cols is not None:
            theirs = cols[block]
            share += torch.where(theirs.isfinite(), (scores[:, block] - theirs).exp_() * of_cols[block], 0)
        part[:, block] = share
