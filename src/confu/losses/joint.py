"""Contrasts of any scores, tile by tile: plain torch in a tile, the gradient formed with the value."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from confu.products import products

TILE = 2**20
"""Numbers of a tile of scores; of each about ten tensors exist at once."""

KEPT = 2**22
"""So many scores are kept between the two passes that sums of columns need."""

Scores = Callable[..., Tensor]
"""Takes a slice of rows and the inputs, and gives (rows, columns), differentiably."""


@dataclass(frozen=True)
class Weights:
    """What is added up.

    Attributes:
        rows: weight of the log-sum of exp of each row.
        columns: of each column.
        diagonal: of each score of a row with the column of its number.
        every: of each score.
    """

    rows: float = 0.0
    columns: float = 0.0
    diagonal: float = 0.0
    every: float = 0.0


def contrast_weights(n: int, symmetric: bool, label_smoothing: float) -> Weights:
    """Those of `info_nce_of_scores` of n rows."""
    share = 0.5 / n if symmetric else 1 / n
    return Weights(share, share * symmetric, -(1 - label_smoothing) / n, -label_smoothing / n**2)


def tiled_contrast(
    scores: Scores, inputs: Sequence[Float[Tensor, "..."]], shape: tuple[int, int], weights: Weights
) -> Float[Tensor, ""]:
    """A weighted sum of log-sums and of scores, of which a tile of rows is formed at once.

    Args:
        scores: of some rows.
        inputs: what it is given, and what gets a gradient.
        shape: (rows, columns) of all scores.
        weights: of the sums.

    >>> z = torch.eye(4)
    >>> loss = tiled_contrast(lambda tile, a, b: a[tile] @ b.T, [z, z], (4, 4), contrast_weights(4, True, 0.0))
    >>> round(loss.item(), 4)
    0.7437
    """
    gradient = torch.is_grad_enabled() and any(one.requires_grad for one in inputs)
    value = _TiledContrast.apply(scores, shape, weights, gradient, *inputs)
    assert isinstance(value, Tensor)
    return value


class _TiledContrast(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scores: Scores, shape: tuple[int, int], weights: Weights, gradient: bool, *inputs: Tensor
    ) -> Tensor:
        height = max(1, TILE // shape[1])
        tiles = [slice(start, min(start + height, shape[0])) for start in range(0, shape[0], height)]
        value, columns = inputs[0].new_zeros(()), None
        kept: list[Tensor] = []
        gradients = [torch.zeros_like(one) for one in inputs] if gradient else []
        leaves = [one.detach().requires_grad_(gradient) for one in inputs]
        with torch.autocast(inputs[0].device.type, enabled=False), products(inputs[0]):
            if weights.columns:  # these sums must be whole before any gradient
                if shape[0] * shape[1] <= KEPT:
                    with torch.set_grad_enabled(gradient):
                        kept = [scores(tile, *leaves) for tile in tiles]
                sums = [one.detach().logsumexp(dim=0) for one in kept or (scores(tile, *inputs) for tile in tiles)]
                columns = torch.stack(sums).logsumexp(dim=0)
            for number, tile in enumerate(tiles):
                with torch.set_grad_enabled(gradient):
                    differentiable = kept[number] if kept else scores(tile, *leaves)
                made = differentiable.detach()
                share = torch.full_like(made, weights.every)
                if weights.rows:
                    sums = made.logsumexp(dim=1)
                    # Row by row, as the sums alone are large numbers that nearly cancel.
                    value += (weights.rows * sums + weights.diagonal * made.diagonal(tile.start)).sum()
                    share.add_((made - sums[:, None]).exp_(), alpha=weights.rows)
                    share.diagonal(tile.start).add_(weights.diagonal)
                if weights.every:
                    value += weights.every * made.sum()
                if columns is not None:
                    share.add_((made - columns).exp_(), alpha=weights.columns)
                if gradient:
                    for total, more in zip(gradients, torch.autograd.grad(differentiable, leaves, share)):
                        total += more
        ctx.save_for_backward(*gradients)
        return value if columns is None else value + weights.columns * columns.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, None, None, None, *(grads[0] * one for one in ctx.saved_tensors)
