"""Waveforms as encoders get them: rows of samples, with a mask where they are padded."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from confu.nn.transformer import check_mask

Waveforms = Float[Tensor, "batch time"] | Float[Tensor, "batch one time"]


def as_waveforms(
    values: Waveforms, mask: Bool[Tensor, "batch time"] | Int[Tensor, "batch time"] | None
) -> tuple[Float[Tensor, "batch time"], Int[Tensor, " batch"]]:
    """Waveforms with zeros at their padding, and how many real samples each has.

    >>> as_waveforms(torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[True, True, False]]))
    (tensor([[1., 2., 0.]]), tensor([2]))

    Args:
        values: (batch, time), or with an axis of one channel: (batch, 1, time) or (batch, time, 1).
        mask: (batch, time) True at real samples, which come first; None if all are real.

    Raises:
        ValueError: for another shape, a row without a real sample, or padding before a real sample.
    """
    if values.ndim == 3 and 1 in values.shape[1:]:
        values = values.flatten(1)
    if values.ndim != 2:
        raise ValueError(f"values must be (batch, time), waveforms of one channel; got shape {tuple(values.shape)}")
    if mask is None:
        return values, torch.full((len(values),), values.shape[1], device=values.device)
    mask = check_mask(mask, values.shape)
    if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise ValueError("mask must be True at the first samples of each row and False after; pad waveforms at the end")
    # Filled, not multiplied by zero: whatever stands at padding, an infinity included, must not reach the sum.
    return values.masked_fill(~mask, 0), mask.sum(dim=1)
