"""One tile of the scores of GRAM and TRIANGLE: what is computed of it forward and backward, in place."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from confu.losses.squares import Squares, upper_pairs

LN2 = math.log(2)


@dataclass(frozen=True)
class How:
    """How the work is done.

    Attributes:
        blocks: of the right side.
        floor: of the squares; None: no root is taken.
        guarded: exp only after a maximum was taken away.
        columns: whether sums of columns are wanted.
        total: whether the sum of all scores is wanted.
        keep: whether products and distances are kept.
        tile: rows.
    """

    blocks: int
    floor: float | None
    guarded: bool
    columns: bool
    total: bool
    keep: bool
    tile: int

    def tiles(self, rows: int) -> Iterator[slice]:
        """Slices of that many rows."""
        for start in range(0, rows, self.tile):
            yield slice(start, min(start + self.tile, rows))


def distances_of(squares: Squares, how: How, tile: slice, made: Tensor, out: Tensor, room: Tensor) -> None:
    """`made`: the products of a tile of rows; `out`: squares, or their roots."""
    left, m = squares.left[tile], squares.m
    torch.mm(left, squares.right.T, out=made)
    blocks = made.split(m, dim=1)
    if squares.minors is None or squares.lengths is None or squares.determinants is None:
        torch.addcmul(blocks[0], blocks[1], blocks[1], value=-1, out=out)
    else:
        torch.mul(squares.lengths[tile, None], squares.determinants, out=out)
        for (a, b), minor in zip(upper_pairs(how.blocks), squares.minors):
            if a == b:
                torch.mul(blocks[a], minor, out=room)
            else:
                room.addcmul_(blocks[b], minor, value=2)
            if b == how.blocks - 1:
                out.addcmul_(room, blocks[a], value=-1)
    if how.floor is not None:
        out.clamp_min_(how.floor).sqrt_()


def weights_of(
    how: How, distances: Tensor, rows: Tensor, cols: Tensor, of_rows: Tensor, of_cols: Tensor, out: Tensor,
    room: Tensor,
) -> None:  # fmt: skip
    """The gradients of the scores by way of the sums."""
    if how.guarded:
        torch.mul(distances, -LN2, out=room)
        torch.sub(room, rows[:, None], out=out).exp_().mul_(of_rows[:, None])
        if how.columns:
            out += room.sub_(cols).exp_().mul_(of_cols)
        return
    torch.neg(distances, out=room).exp2_()
    shares = (of_rows * (-rows).exp())[:, None]
    if how.columns:
        torch.add(shares, of_cols * (-cols).exp(), out=out).mul_(room)
    else:
        torch.mul(room, shares, out=out)


def to_squares(how: How, distances: Tensor, weights: Tensor) -> None:
    """From gradients of the scores to those of the squares, in place."""
    if how.floor is None:
        weights.mul_(-LN2)
        return
    weights.div_(distances).mul_(-LN2 / 2)
    # As clamp: what lies at the floor has no gradient. This operator is the fastest that says so.
    floor = torch.tensor(how.floor, dtype=distances.dtype).sqrt().item()
    torch.ops.aten.threshold_backward.grad_input(weights, distances, floor, grad_input=weights)


def pull(how: How, made: Tensor, weights: Tensor, out: Tensor, area: bool) -> None:
    """From the gradients of the squares to what is multiplied with the sides."""
    m = weights.shape[1]
    if area:
        torch.mul(made[:, m:], weights, out=out[:, m:]).mul_(-2)
        out[:, :m] = weights
        return
    stacked = (len(weights), how.blocks, m)
    torch.mul(made.view(stacked), weights[:, None], out=out.view(stacked))


def with_minors(minors: Tensor, blocks: Tensor, count: int) -> Tensor:
    """(count * m, dim): -2 sum_b minors_ab blocks_b for each a."""
    stacked = blocks.view(count, -1, blocks.shape[1])
    out = torch.zeros_like(stacked)
    for (a, b), minor in zip(upper_pairs(count), minors):
        out[a].addcmul_(stacked[b], minor[:, None], value=-2)
        if a != b:
            out[b].addcmul_(stacked[a], minor[:, None], value=-2)
    return out.view_as(blocks)


def minors_gradient(pulled: Tensor, right: Tensor, count: int) -> Tensor:
    """(pairs, m): of the upper triangles of the adjugates."""
    pulled, right = pulled.view(count, -1, right.shape[1]), right.view(count, -1, right.shape[1])
    return torch.stack([(pulled[a] * right[b]).sum(dim=1) * (-1 if a == b else -2) for a, b in upper_pairs(count)])
