"""What the corruptions compute, as functions of tensors: power, a shift in time, a blur."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

Power = Literal["mean_square", "variance"]


def signal_power(values: Shaped[Tensor, "n ..."], power: Power = "mean_square") -> Float[Tensor, " n"]:
    """The power of each sample: the mean of its squared numbers, or of their squared distance from their mean.

    Args:
        values: n samples.
        power: "mean_square" counts an offset as signal, "variance" does not.

    Returns:
        (n,) float64, in the square of the values' unit.

    >>> signal_power(torch.tensor([[1.0, 3.0]])).item(), signal_power(torch.tensor([[1.0, 3.0]]), "variance").item()
    (5.0, 1.0)
    """
    flat = values.reshape(len(values), -1).double()
    return (flat if power == "mean_square" else flat - flat.mean(1, keepdim=True)).square().mean(1)


def shift_frames(values: Shaped[Tensor, "n ... time"], frames: int, fill: float | Literal["wrap"]) -> Tensor:
    """Shift samples along their last axis, time.

    Args:
        values: n samples.
        frames: how far; positive is later.
        fill: what stands in the frames that become free; "wrap" puts there what left at the other end.

    >>> shift_frames(torch.tensor([[1, 2, 3]]), 1, fill=0).tolist()
    [[0, 1, 2]]
    >>> shift_frames(torch.tensor([[1, 2, 3]]), -1, fill="wrap").tolist()
    [[2, 3, 1]]
    """
    time = values.shape[-1]
    if fill == "wrap":
        return values.roll(frames, -1)
    source = torch.arange(time, device=values.device) - frames
    outside = (source < 0) | (source >= time)
    return values[..., source.clamp(0, max(0, time - 1))].masked_fill(outside, fill)


def blur(values: Float[Tensor, "n ... height width"], sigma: float) -> Tensor:
    r"""Blur samples over their last two axes with a Gaussian, first down, then across.

    $$\tilde x_i = \sum_{|k| \le 4\sigma} w_k \, x_{i + k}, \qquad w_k \propto e^{-k^2 / 2\sigma^2}, \; \sum_k w_k = 1$$

    Beyond an edge the value at the edge goes on, so a constant picture stays as it is.

    Args:
        values: n samples.
        sigma: in pixels; 0 changes nothing.

    >>> [round(x, 2) for x in blur(torch.eye(3)[None], sigma=0.5)[0, 1].tolist()]
    [0.18, 0.64, 0.18]
    """
    reach = int(4 * sigma + 0.5)
    weights = [math.exp(-0.5 * (k / sigma) ** 2) if k else 1.0 for k in range(-reach, reach + 1)]
    for axis in (-2, -1):
        size = values.shape[axis]
        places = torch.arange(-reach, size + reach, device=values.device).clamp(0, max(0, size - 1))
        padded = values.index_select(axis, places)
        # A sum of shifted views: unlike a convolution, it rounds in the same way whatever the batch.
        values = torch.zeros_like(values)
        for k, weight in enumerate(weights):
            values.add_(padded.narrow(axis, k, size), alpha=weight / sum(weights))
    return values
