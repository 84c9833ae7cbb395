"""Row log-sums of a matrix of products whose diagonal is given: one true pair among products with strangers."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from confu.functional.log_sums import KEPT_BYTES, LOG2E, exp_fits
from confu.functional.products import products

_TILE = 2**22  # numbers of a tile
_LARGEST = 80.0  # exp of it, and of minus it, are normal numbers in float32


def log_sums_with_own(
    left: Float[Tensor, "n dim"],
    right: Float[Tensor, "n dim"],
    own: Float[Tensor, " n"],
    *,
    keep: bool | None = None,
) -> Float[Tensor, " n"]:
    r"""$\log (e^{o_i} + \sum_{j \ne i} e^{l_i \cdot r_j})$ of each row.

    Args:
        left: (n, dim), already divided by the temperature.
        right: (n, dim).
        own: (n,) the scores that stand on the diagonal.
        keep: keep the exp scores for the backward pass (faster), or multiply again (memory O(n dim)). None keeps them
            up to `log_sums.KEPT_BYTES`.

    >>> z = torch.zeros(3, 2)
    >>> log_sums_with_own(z, z, torch.zeros(3)).exp().tolist()
    [3.0, 3.0, 3.0]
    """
    if keep is None:
        keep = torch.is_grad_enabled() and len(left) ** 2 * left.element_size() <= KEPT_BYTES
    found = _WithOwn.apply(left, right, own, keep)
    assert isinstance(found, Tensor)
    return found


class _WithOwn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, own: Tensor, keep: bool) -> Tensor:
        guarded = not (exp_fits(left, right) and bool(own.abs().max() < _LARGEST))
        keep = keep and not guarded
        n, height = len(left), _height(left)
        rows, kept = left.new_empty(n), left.new_empty(n if keep else height, n)
        with torch.autocast(left.device.type, enabled=False), products(left):
            for start in range(0, n, height):
                tile = slice(start, min(start + height, n))
                made = kept[tile] if keep else kept[: tile.stop - start]
                _scores(left, right, own, tile, made, guarded)
                rows[tile] = made.logsumexp(dim=1) if guarded else made.sum(dim=1).log_()
        ctx.save_for_backward(left, right, own, rows, kept if keep else None)
        ctx.guarded = guarded
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        left, right, own, rows, kept = ctx.saved_tensors
        n, height = len(left), _height(left)
        of_left, of_right, of_own = torch.empty_like(left), torch.zeros_like(right), torch.empty_like(own)
        room = left.new_empty(height, n)
        shares = grads[0] if ctx.guarded else grads[0] * (-rows).exp()
        with torch.autocast(left.device.type, enabled=False), products(left):
            for start in range(0, n, height):
                tile = slice(start, min(start + height, n))
                part = room[: tile.stop - start]
                if kept is None:
                    _scores(left, right, own, tile, part, ctx.guarded)
                    if ctx.guarded:
                        part.sub_(rows[tile, None]).exp_()
                torch.mul(part if kept is None else kept[tile], shares[tile, None], out=part)
                diagonal = part.diagonal(start)
                of_own[tile] = diagonal
                diagonal.zero_()
                torch.mm(part, right, out=of_left[tile])
                of_right.addmm_(part.T, left[tile])
        return of_left, of_right, of_own, None


def _scores(left: Tensor, right: Tensor, own: Tensor, tile: slice, out: Tensor, guarded: bool) -> None:
    """Scores of some rows with all others and themselves, or their exp."""
    factor = 1.0 if guarded else LOG2E
    torch.mm(left[tile] * factor, right.T, out=out)
    out.diagonal(tile.start).copy_(own[tile] * factor)
    if not guarded:
        out.exp2_()


def _height(left: Tensor) -> int:
    return max(1, min(len(left), _TILE // max(1, len(left))))
