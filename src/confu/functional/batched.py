"""InfoNCE of several terms of one small batch in a few calls."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from confu.functional.log_sums import LOG2E, exp_fits
from confu.functional.products import products


def batched_info_nce(
    lefts: Float[Tensor, "terms n dim"], rights: Float[Tensor, "terms n dim"], symmetric: bool = True
) -> Float[Tensor, " terms"]:
    """InfoNCE of each term, every row with both sides and no groups.

    Args:
        lefts: (terms, n, dim) queries, divided by the temperature.
        rights: (terms, n, dim) targets.
        symmetric: both directions.

    Returns:
        (terms,) in nats.

    >>> z = torch.eye(4)[None]
    >>> round(batched_info_nce(z, z).item(), 4)
    0.7437
    """
    if exp_fits(lefts, rights):
        found = _Batched.apply(lefts, rights, symmetric)
        assert isinstance(found, Tensor)
        return found
    with torch.autocast(lefts.device.type, enabled=False):
        scores = torch.bmm(lefts, rights.transpose(1, 2))
    sums = scores.logsumexp(dim=2)
    if symmetric:
        sums = (sums + scores.logsumexp(dim=1)) / 2
    return (sums - scores.diagonal(dim1=1, dim2=2)).mean(dim=1)


class _Batched(torch.autograd.Function):
    """One exp serves both directions, and its result the gradient."""

    @staticmethod
    def forward(ctx: Any, lefts: Tensor, rights: Tensor, symmetric: bool) -> Tensor:
        with torch.autocast(lefts.device.type, enabled=False), products(lefts):
            scores = torch.bmm(lefts * LOG2E, rights.transpose(1, 2))
        own = scores.diagonal(dim1=1, dim2=2) / LOG2E
        scores.exp2_()
        rows, cols = scores.sum(dim=2), scores.sum(dim=1) if symmetric else None
        ctx.save_for_backward(lefts, rights, scores, rows, cols)
        sums = rows.log() if cols is None else (rows.log() + cols.log()) / 2
        return (sums - own).mean(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        lefts, rights, scores, rows, cols = ctx.saved_tensors
        each = (grads[0] / lefts.shape[1])[:, None]
        if cols is None:
            weights = scores * (each / rows)[:, :, None]
        else:
            weights = (each / (2 * rows))[:, :, None] + (each / (2 * cols))[:, None]
            weights *= scores
        weights.diagonal(dim1=1, dim2=2).sub_(each)
        with torch.autocast(lefts.device.type, enabled=False), products(lefts):
            return torch.bmm(weights, rights), torch.bmm(weights.transpose(1, 2), lefts), None
