"""The mean log-sum of rows of products whose diagonal is given: one true pair among products with strangers."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from confu.losses.log_sums import LOG2E, exp_fits
from confu.products import products

_TILE = 2**22  # numbers of a tile
_LARGEST = 80.0  # exp of it, and of minus it, are normal numbers in float32


def mean_log_sum_with_own(
    left: Float[Tensor, "n dim"], right: Float[Tensor, "n dim"], own: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    r"""The mean over rows of $\log (e^{o_i} + \sum_{j \ne i} e^{l_i \cdot r_j})$, in O(n dim) memory.

    A row is whole in a tile of rows, so that its share of the gradient is known as soon as its sum is: the gradient is
    made with the value, and no score is kept or made again.

    Args:
        left: (n, dim), already divided by the temperature.
        right: (n, dim).
        own: (n,) the scores that stand on the diagonal.

    >>> z = torch.zeros(3, 2)
    >>> round(mean_log_sum_with_own(z, z, torch.zeros(3)).exp().item(), 4)
    3.0
    """
    wanted = torch.is_grad_enabled() and any(one.requires_grad for one in (left, right, own))
    found = _MeanWithOwn.apply(left, right, own, wanted)
    assert isinstance(found, Tensor)
    return found


class _MeanWithOwn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, own: Tensor, wanted: bool) -> Tensor:
        guarded = not (exp_fits(left, right) and bool(own.abs().max() < _LARGEST))
        n = len(left)
        height = max(1, min(n, _TILE // n))
        rows, room = left.new_empty(n), left.new_empty(height, n)
        made = (torch.empty_like(left), torch.zeros_like(right), torch.empty_like(own)) if wanted else None
        with torch.autocast(left.device.type, enabled=False), products(left):
            for start in range(0, n, height):
                tile = slice(start, min(start + height, n))
                part = room[: tile.stop - start]
                rows[tile] = _exp_scores(left, right, own, tile, part, guarded)
                if made is not None:
                    of_left, of_right, of_own = made
                    diagonal = part.diagonal(start)
                    of_own[tile] = diagonal
                    diagonal.zero_()
                    torch.mm(part, right, out=of_left[tile])
                    of_right.addmm_(part.T, left[tile])
        if made is not None:
            ctx.save_for_backward(*made)
        return rows.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return *(one * grads[0] for one in ctx.saved_tensors), None


def _exp_scores(left: Tensor, right: Tensor, own: Tensor, tile: slice, out: Tensor, guarded: bool) -> Tensor:
    """The log-sums of some rows; `out` gets their softmax, divided by the number of all rows."""
    factor = 1.0 if guarded else LOG2E
    torch.mm(left[tile] * factor, right.T, out=out)
    out.diagonal(tile.start).copy_(own[tile] * factor)
    if guarded:
        sums = out.logsumexp(dim=1)
        out.sub_(sums[:, None]).exp_().div_(len(left))
        return sums
    sums = out.exp2_().sum(dim=1)
    out.mul_((1 / len(left)) / sums[:, None])
    return sums.log()
