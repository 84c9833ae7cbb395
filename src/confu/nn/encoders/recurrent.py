"""A recurrent encoder for sequences, trained from scratch."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from confu.nn.encoders.build import settings_from
from confu.nn.layers import StepMask, check_mask, check_positive, check_share


class RecurrentEncoder(nn.Module):
    """A GRU in both directions over the steps, averaged over equal segments of each sequence, so that order counts.

        x -> patches by a strided Conv1d -> GRU both ways -> mean of each of `segments` parts -> Linear

    Without segments (`segments=1`) what happens early and what happens late fall together in one mean.

    >>> encoder = RecurrentEncoder(in_dim=20, width=8, out_dim=6)
    >>> encoder(torch.zeros(3, 50, 20), mask=torch.ones(3, 50, dtype=torch.bool)).shape
    torch.Size([3, 6])

    Args:
        in_dim: features of one step.
        width: size of the GRU's state in each direction.
        segments: parts of a sequence, of equal length up to a step, whose means stand beside each other; parts of a
            sequence with fewer steps than parts share steps.
        patch: steps that a strided convolution joins into one before the GRU, whose time grows with its steps.
        dropout: share of the means that is dropped in training.
        out_dim: size of the features.
    """

    def __init__(
        self,
        in_dim: int,
        width: int = 64,
        segments: int = 4,
        patch: int = 1,
        dropout: float = 0.0,
        out_dim: int = 128,
    ):
        super().__init__()
        self.settings: dict[str, Any] = settings_from("recurrent", locals())
        check_positive(in_dim=in_dim, width=width, segments=segments, patch=patch, out_dim=out_dim)
        check_share(dropout=dropout)
        self.in_dim, self.out_dim, self.segments, self.patch = in_dim, out_dim, segments, patch
        self.patches = nn.Identity() if patch == 1 else nn.Conv1d(in_dim, width, patch, patch)
        size = in_dim if patch == 1 else width
        self.forwards = nn.GRU(size, width, batch_first=True)
        self.backwards = nn.GRU(size, width, batch_first=True)
        self.output = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * width * segments, out_dim))

    def forward(
        self, values: Float[Tensor, "batch time in_dim"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch out_dim"]:
        """The features of each sequence; `mask` is True at real steps, None if all are."""
        if values.ndim != 3 or values.shape[2] != self.in_dim:
            raise ValueError(f"values must be (batch, time, in_dim = {self.in_dim}); got shape {tuple(values.shape)}")
        real = values.new_ones(values.shape[:2]).bool() if mask is None else check_mask(mask, values.shape[:2])
        steps, real = self._patches(*_real_first(values, real))
        lengths = real.sum(dim=1, keepdim=True)
        order = torch.arange(steps.shape[1], device=steps.device)
        # The last real step first; padding keeps its place behind the real steps.
        back = torch.where(real, lengths - 1 - order, order).unsqueeze(2)
        # A CPU without AVX-512 has no recurrent kernels in bfloat16.
        with torch.autocast(steps.device.type, enabled=False):
            steps = steps.to(next(self.forwards.parameters()).dtype)
            ahead = self.forwards(steps)[0]
            behind = self.backwards(steps.gather(1, back.expand_as(steps)))[0]
        both = torch.cat([ahead, behind.gather(1, back.expand_as(behind))], dim=2)
        return self.output((self._shares(real, lengths).to(both.dtype) @ both).flatten(1))

    def _patches(self, values: Float[Tensor, "b t i"], real: StepMask) -> tuple[Tensor, Tensor]:
        if self.patch == 1:
            return values, real
        short = -values.shape[1] % self.patch
        values = nn.functional.pad(values, (0, 0, 0, short))
        real = nn.functional.pad(real, (0, short)).unflatten(1, (-1, self.patch)).any(dim=2)
        return self.patches(values.transpose(1, 2)).transpose(1, 2).masked_fill(~real.unsqueeze(2), 0), real

    def _shares(self, real: StepMask, lengths: Tensor) -> Float[Tensor, "b segments t"]:
        """What each step adds to the mean of each segment, as `nn.AdaptiveAvgPool1d` cuts the real steps."""
        part = torch.arange(self.segments, device=real.device)
        starts = (part * lengths // self.segments).unsqueeze(2)
        ends = (-(-(part + 1) * lengths // self.segments)).unsqueeze(2)
        order = torch.arange(real.shape[1], device=real.device)
        inside = (order >= starts) & (order < ends)
        return inside / (ends - starts)


def _real_first(values: Float[Tensor, "b t i"], real: StepMask) -> tuple[Tensor, StepMask]:
    """The real steps of each row in their order, then zeros: a NaN at padding must not reach a product."""
    order = (~real).to(torch.uint8).argsort(dim=1, stable=True)
    real = real.gather(1, order)
    values = values.gather(1, order.unsqueeze(2).expand_as(values))
    return values.masked_fill(~real.unsqueeze(2), 0), real
