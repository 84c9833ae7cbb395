r"""The kernel of GRAM and TRIANGLE: row and column log-sums of scores $s = -\sqrt{v}$ or $-v$, without keeping them.

v are the `Squares` of every row with every tuple. A tile of them is made from one matrix product, its exp serves both
directions, and the backward pass makes it again, or takes it from what was kept where that is little: memory is
O((n + m) d), not O(n m). Of all gradients, only two matrix products are of the size n m: with $w = dL/dv$ and

$$U^a_j = \sum_i w_{ij} P^a_{ij} x_i, \qquad dx_i = -2 \sum_j w_{ij} \sum_{ab} \mathrm{adj}^{ab}_j P^a_{ij} y^b_j$$

those of the others and of their Gram matrices are products of U with what belongs to j alone.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from confu.losses.joint_tiles import (
    LN2,
    How,
    distances_of,
    minors_gradient,
    pull,
    to_squares,
    weights_of,
    with_minors,
)
from confu.losses.log_sums import LOG2E
from confu.losses.squares import Squares
from confu.products import products

KEPT_BYTES = 64 * 2**20
"""Products and distances are kept for the backward pass up to this size; above it they are made again."""

_TILE = 2**21  # numbers of a tile at most,
_TILE_ROWS = 256  # and rows: matrix products of fewer are slower
_REACH = 0.9  # scores may use so much of the range of exp before a maximum is taken away first


@dataclass(frozen=True)
class JointSums:
    """What an InfoNCE of joint scores is made of.

    Attributes:
        rows: (n,) logarithms of the sums of exp scores.
        columns: (m,) or None.
        own: (n,) scores of each row with its own tuple.
        total: the sum of all scores, or None.
    """

    rows: Float[Tensor, " n"]
    columns: Float[Tensor, " m"] | None
    own: Float[Tensor, " n"]
    total: Float[Tensor, ""] | None


def joint_log_sums(
    squares: Squares,
    factor: Float[Tensor, ""],
    *,
    floor: float | None,
    largest: Float[Tensor, ""],
    columns: bool = True,
    total: bool = False,
    keep: bool | None = None,
) -> JointSums:
    """Sums of exp scores, where a score is - factor * root of a square (of the square itself if there is no floor).

    Args:
        squares: of n rows with m = n tuples; row i belongs to tuple i.
        factor: a positive scalar tensor, e.g. 1 / temperature; it gets a gradient.
        floor: squares below it count as it, with no gradient. None: no root is taken.
        largest: no square is larger; decides whether a maximum must be taken before exp.
        columns: whether the sums of columns are wanted.
        total: whether the sum of all scores is wanted.
        keep: keep products for the backward pass (faster) or make them again (little memory); None chooses by size.

    >>> from confu.losses.squares import volume_squares
    >>> z = torch.eye(2)
    >>> joint_log_sums(volume_squares(z, [z]), torch.tensor(1.0), floor=1e-8, largest=torch.tensor(1.0)).own
    tensor([-0.0001, -0.0001])
    """
    n, m = len(squares.left), squares.m
    scale = factor.detach().to(squares.left.dtype) * LOG2E
    power = scale if floor is None else scale.square()
    scaled = squares.times(power)
    if keep is None:
        kept_bytes = (squares.blocks + 1) * n * m * scaled.left.element_size()
        keep = torch.is_grad_enabled() and kept_bytes <= KEPT_BYTES
    reach = power * largest if floor is None else (power * largest).sqrt()
    # exp of the smallest score must be a normal number; not ">=", for NaN.
    guarded = not bool(reach < -_REACH * math.log2(torch.finfo(scaled.left.dtype).tiny))
    how = How(squares.blocks, None if floor is None else floor * power.item(), guarded, columns, total, keep,
               max(1, min(n, _TILE_ROWS, _TILE // max(1, m))))  # fmt: skip
    # The factor is in the squares as a number; its gradient comes by this one.
    one = (factor / factor.detach()).to(scaled.left.dtype)
    rows, cols, own, sums = _JointSums.apply(  # pyright: ignore[reportGeneralTypeIssues]
        scaled.left, scaled.right, scaled.lengths, scaled.determinants, scaled.minors, one, how
    )
    return JointSums(rows, cols if columns else None, own, sums.sum() if total else None)


class _JointSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor, lengths: Tensor | None, determinants: Tensor | None,
        minors: Tensor | None, one: Tensor, how: How,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        squares = Squares(left, right, how.blocks, lengths, determinants, minors)
        n, m = len(left), squares.m
        rows, own, sums = left.new_empty(n), left.new_empty(n), left.new_empty(n if how.total else 0)
        cols = left.new_full((m if how.columns else 0,), -torch.inf if how.guarded else 0)
        height = n if how.keep else how.tile
        made, distances = left.new_empty(height, len(right)), left.new_empty(height, m)
        spare = left.new_empty(how.tile, m)
        with torch.autocast(left.device.type, enabled=False), products(left):
            for tile in how.tiles(n):
                where = tile if how.keep else slice(0, tile.stop - tile.start)
                part, room = distances[where], spare[: tile.stop - tile.start]
                distances_of(squares, how, tile, made[where], part, room)
                own[tile] = part.diagonal(tile.start)
                if how.total:
                    torch.sum(part, dim=1, out=sums[tile])
                if how.guarded:
                    scores = torch.mul(part, -LN2, out=room)
                    rows[tile] = scores.logsumexp(dim=1)
                    if how.columns:
                        cols = torch.logaddexp(cols, scores.logsumexp(dim=0))
                else:
                    torch.neg(part, out=room).exp2_()
                    torch.sum(room, dim=1, out=rows[tile])
                    if how.columns:
                        cols += room.sum(dim=0)
        if not how.guarded:
            rows.log_()
            cols.log_()
        kept = (made, distances) if how.keep else (None, None)
        ctx.save_for_backward(left, right, lengths, determinants, minors, rows, cols, *kept)
        ctx.how = how
        return rows, cols, own.mul_(-LN2), sums.mul_(-LN2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        left, right, lengths, determinants, minors, rows, cols, kept, kept_distances = ctx.saved_tensors
        how: How = ctx.how
        squares = Squares(left, right, how.blocks, lengths, determinants, minors)
        n, m = len(left), squares.m
        of_rows, of_cols, of_own, of_sums = grads
        # What a pull has: of_left = pulled @ back, of_back = pulled.T @ left.
        back = right if minors is None else with_minors(minors, right, how.blocks)
        of_left, of_back = torch.empty_like(left), torch.zeros_like(right)
        of_lengths = None if lengths is None else torch.empty_like(lengths)
        of_determinants = None if determinants is None else torch.zeros_like(determinants)
        of_one = left.new_zeros(())
        pulled, weights, spare = left.new_empty(how.tile, len(right)), *left.new_empty(2, how.tile, m)
        room = left.new_empty(0 if how.keep else how.tile, m)
        with torch.autocast(left.device.type, enabled=False), products(left):
            for tile in how.tiles(n):
                size = tile.stop - tile.start
                part, made = weights[:size], pulled[:size] if kept is None else kept[tile]
                distances = room[:size] if kept is None else kept_distances[tile]
                if kept is None:
                    distances_of(squares, how, tile, made, distances, spare[:size])
                weights_of(how, distances, rows[tile], cols, of_rows[tile], of_cols, part, spare[:size])
                if how.total:
                    part += of_sums[tile, None]
                part.diagonal(tile.start).add_(of_own[tile])
                if ctx.needs_input_grad[5]:
                    of_one += torch.mul(part, distances, out=spare[:size]).sum()
                to_squares(how, distances, part)
                pull(how, made, part, pulled[:size], minors is None)
                torch.mm(pulled[:size], back, out=of_left[tile])
                of_back.addmm_(pulled[:size].T, left[tile])
                if of_lengths is not None and of_determinants is not None and lengths is not None:
                    torch.mv(part, determinants, out=of_lengths[tile])  # pyright: ignore[reportArgumentType]
                    of_determinants.addmv_(part.T, lengths[tile])
        of_right, of_minors = of_back, None
        if minors is not None:
            of_right, of_minors = with_minors(minors, of_back, how.blocks), minors_gradient(of_back, right, how.blocks)
        return of_left, of_right, of_lengths, of_determinants, of_minors, of_one.mul_(-LN2), None
