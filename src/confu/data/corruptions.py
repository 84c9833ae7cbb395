"""Corruptions of any modality at test time: noise, loss, mix-ups, clipping, time shift and blur.

A corruption of your own is a class with a `__str__` and a method `corrupt`, as in `Corruption`.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from confu.checks import check_fraction, check_known
from confu.data.columns import Indices
from confu.data.corrupted import (
    CorruptedDataset,
    Corruption,
    ModalityRows,
    Power,
    change_values,
    measured_snr_db,
    one_a_row,
    row_random,
    signal_power,
)
from confu.data.gaps import without_rows
from confu.types import Inputs

__all__ = [
    "Blurred",
    "Clipped",
    "CorruptedDataset",
    "Corruption",
    "Dropped",
    "GaussianNoise",
    "Power",
    "Swapped",
    "TimeShifted",
    "measured_snr_db",
]


@dataclass(frozen=True)
class GaussianNoise:
    r"""Add independent normal noise to every number, at a standard deviation or at a signal-to-noise ratio.

    $$\tilde x_i = x_i + \sigma_i \epsilon_i, \qquad \sigma_i = \sigma \quad\text{or}\quad
      \sigma_i^2 = P(x_i) / 10^{\mathrm{SNR} / 10}$$

    P(x) is the power of one sample: the mean square of its numbers as the model receives them. An offset therefore
    counts as signal, so the SNR of pictures depends on how bright they are; `power="variance"` takes the mean off
    first. The paper does not say which it means, but its numbers fit the mean square: photographs on a scale of 0 to 1
    have about 0.25, so that its 0.05, 0.1 and 0.15 are 20, 14 and 10.5 dB, near the 20, 15 and 10 of its Table 9.

    The same rows get the same noise at every strength, only scaled, so that a curve over strengths is smooth. Nothing
    is clipped to the former range; nest a `CorruptedDataset` with `Clipped` around this one for that. Sequences are
    changed at their real steps only. A silent sample has no power and gets no noise at a given SNR.

    Args:
        std: σ, in units of the values; 0 or more.
        snr_db: SNR in decibels, instead of `std`.
        power: what P is; of no effect with `std`.

    Raises:
        ValueError: both or neither of `std` and `snr_db`; a negative or infinite one; an unknown power.

    Reference: section 6.2 and appendix B.4.

    >>> print(GaussianNoise(std=0.05), "|", GaussianNoise(snr_db=20))
    noise of std 0.05 | noise at 20 dB SNR
    """

    std: float | None = None
    snr_db: float | None = None
    power: Power = "mean_square"

    def __post_init__(self) -> None:
        if (self.std is None) == (self.snr_db is None):
            raise ValueError(f"give either std or snr_db, one of the two; got std={self.std}, snr_db={self.snr_db}")
        if self.std is not None and not 0 <= self.std < math.inf:
            raise ValueError(f"std: expected a number of 0 or more, in units of the values; got {self.std}")
        if self.snr_db is not None and not math.isfinite(self.snr_db):
            raise ValueError(
                f"snr_db: expected a finite number of decibels; got {self.snr_db}; for no noise give std=0"
            )
        check_known("power", self.power, get_args(Power))

    def __str__(self) -> str:
        if self.std is not None:
            return f"noise of std {self.std:g}"
        return f"noise at {self.snr_db:g} dB SNR{' about the mean' if self.power == 'variance' else ''}"

    def corrupt(self, inputs: Inputs, indices: Indices, source: ModalityRows) -> Inputs:
        """See `Corruption`."""
        rows = indices[inputs.present].tolist()

        def change(values: Tensor, first: int) -> Tensor:
            noise = torch.empty(values.shape)
            for out, value, row in zip(noise.view(len(values), -1), values, rows[first:]):
                source.random("noise", row).standard_normal(dtype="float32", out=out.numpy())
                out *= self._std_of(value[None])  # row by row: a sum over a whole batch may round in another way
            return (values + noise.to(values.device)).to(values.dtype)

        return change_values(one_a_row(inputs), change, str(self), source.modality)

    def _std_of(self, value: Tensor) -> float:
        if self.std is not None:
            return self.std
        assert self.snr_db is not None
        return math.sqrt(float(signal_power(value, self.power)) / 10 ** (self.snr_db / 10))


@dataclass(frozen=True)
class Dropped:
    """The modality is missing, in all rows or in a share of them.

    Args:
        share: the probability that a row loses it. Rows lost at a share are lost at every larger one.

    >>> print(Dropped(), "|", Dropped(0.25))
    dropped | dropped in 25 % of rows
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        check_fraction("share", self.share)

    def __str__(self) -> str:
        return "dropped" if self.share == 1 else f"dropped in {100 * self.share:g} % of rows"

    def corrupt(self, inputs: Inputs, indices: Indices, source: ModalityRows) -> Inputs:
        """See `Corruption`."""
        draws = [source.random("drop", row).random() for row in indices.tolist()]
        return without_rows(inputs, torch.tensor(draws, dtype=torch.float64) < self.share)


@dataclass(frozen=True)
class Swapped:
    """Every row has the input of another row: the next one that has this modality, in a random cyclic order.

    So no input is lost or used twice, and none stays where it was. The other row may be of the same class, and may
    hold an equal input where inputs repeat, as captions do.

    >>> print(Swapped())
    swapped
    """

    def __str__(self) -> str:
        return "swapped"

    def corrupt(self, inputs: Inputs, indices: Indices, source: ModalityRows) -> Inputs:
        """See `Corruption`."""
        after = _cyclic_order(len(source), source.seed, source.modality)
        present = inputs.present
        partners = torch.where(present, after[indices], indices)  # a missing row stays with itself: missing
        taken = source.take(partners)
        lost = (present & ~taken.present).nonzero().squeeze(1)  # whose partner lacks the modality: go on to the next
        while len(lost):
            partners[lost] = after[partners[lost]]
            lost = lost[~source.take(partners[lost]).present]
        if (present & (partners == indices)).any():
            raise ValueError(
                f"swapped: expected {source.modality!r} in at least 2 of the data set's {len(source)} rows, so that "
                "there is another row to swap with; got 1. Take more rows"
            )
        return source.take(partners)


@lru_cache(maxsize=8)
def _cyclic_order(size: int, seed: int, modality: str) -> Tensor:
    """Which row comes after each, (size,), in one random cycle of all rows."""
    order = torch.from_numpy(row_random(seed, modality, "swap").permutation(size))
    after = torch.empty_like(order)
    after[order] = order.roll(-1)
    return after


@dataclass(frozen=True)
class Clipped:
    """Numbers outside [low, high] are set to the nearer end.

    >>> print(Clipped(0, 0.5))
    clipped to 0 ... 0.5
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low: expected a number below high; got low={self.low}, high={self.high}")

    def __str__(self) -> str:
        return f"clipped to {self.low:g} ... {self.high:g}"

    def corrupt(self, inputs: Inputs, indices: Indices, source: ModalityRows) -> Inputs:
        """See `Corruption`."""
        return change_values(inputs, lambda values, _: values.clamp(self.low, self.high), str(self), source.modality)


@dataclass(frozen=True)
class TimeShifted:
    """Later (or earlier, if negative) by some frames along the last axis; what leaves is lost.

    Args:
        frames: whole steps of the last axis. For sequences of differing length they are steps, within each sequence.
        fill: stands in the frames that become free. The default 0 is silence in a waveform, and the
            quietest level of spectrograms stored as pixels. "wrap" puts there what left at the
            other end, as the augmentation `shift_time` does.

    >>> print(TimeShifted(-8), "|", TimeShifted(8, fill="wrap"))
    shifted by -8 frames | shifted by +8 frames, wrapped
    """

    frames: int
    fill: float | Literal["wrap"] = 0.0

    def __post_init__(self) -> None:
        if int(self.frames) != self.frames:
            raise ValueError(f"frames: expected a whole number of steps; got {self.frames}")
        if isinstance(self.fill, str) and self.fill != "wrap":
            raise ValueError(f"fill: expected a number, or 'wrap'; got {self.fill!r}")

    def __str__(self) -> str:
        filling = ", wrapped" if self.fill == "wrap" else "" if self.fill == 0 else f", filled with {self.fill:g}"
        return f"shifted by {self.frames:+d} frames{filling}"

    def corrupt(self, inputs: Inputs, indices: Indices, source: ModalityRows) -> Inputs:
        """See `Corruption`."""
        return change_values(
            inputs, lambda values, _: shift_frames(values, self.frames, self.fill), str(self), source.modality
        )


@dataclass(frozen=True)
class Blurred:
    """A Gaussian blur over the last two axes, as pictures and spectrograms have them (see `blur`).

    Args:
        sigma: standard deviation in pixels, 0 or more.
        shape: (height, width) of a picture that is stored flat, e.g. (28, 28) for 784 numbers.

    >>> print(Blurred(1.5))
    blurred by 1.5 pixels
    """

    sigma: float
    shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma: expected a number of pixels of 0 or more; got {self.sigma}")

    def __str__(self) -> str:
        return f"blurred by {self.sigma:g} pixels"

    def corrupt(self, inputs: Inputs, indices: Indices, source: ModalityRows) -> Inputs:
        """See `Corruption`."""

        def change(values: Tensor, _first: int) -> Tensor:
            row = tuple(values.shape[1:])
            if self.shape is None and len(row) < 2:
                raise ValueError(
                    f"{self} needs pictures; a row of {source.modality!r} has shape {row}. If that is a picture stored "
                    "flat, give its size, e.g. shape=(28, 28)"
                )
            if self.shape is not None and math.prod(self.shape) != math.prod(row):
                raise ValueError(f"shape: a row of {source.modality!r} has shape {row}, which is no {self.shape}")
            return blur(values if self.shape is None else values.view(-1, *self.shape), self.sigma).view(values.shape)

        if isinstance(inputs.values, dict):
            raise ValueError(
                f"{self} needs pictures, a float tensor; {source.modality!r} holds a dict of "
                f"{', '.join(inputs.values)}. Corrupt another modality, or drop or swap this one"
            )
        return change_values(inputs, change, str(self), source.modality)


def shift_frames(values: Shaped[Tensor, "n ... time"], frames: int, fill: float | Literal["wrap"]) -> Tensor:
    """Shift n samples along their last axis, time, by some frames; positive is later. For `fill` see `TimeShifted`.

    >>> shift_frames(torch.tensor([[1, 2, 3]]), 1, fill=0).tolist()
    [[0, 1, 2]]
    """
    time = values.shape[-1]
    if fill == "wrap":
        return values.roll(frames, -1)
    source = torch.arange(time, device=values.device) - frames
    outside = (source < 0) | (source >= time)
    return values[..., source.clamp(0, max(0, time - 1))].masked_fill(outside, fill)


def blur(values: Float[Tensor, "n ... height width"], sigma: float) -> Tensor:
    r"""Blur n samples over their last two axes with a Gaussian of `sigma` pixels, first down, then across.

    $$\tilde x_i = \sum_{|k| \le 4\sigma} w_k \, x_{i + k}, \qquad w_k \propto e^{-k^2 / 2\sigma^2}, \; \sum_k w_k = 1$$

    Beyond an edge the value at the edge goes on, so a constant picture stays as it is.

    >>> [round(x, 2) for x in blur(torch.eye(3)[None], sigma=0.5)[0, 1].tolist()]
    [0.18, 0.64, 0.18]
    """
    reach = int(4 * sigma + 0.5)
    weights = [math.exp(-0.5 * (k / sigma) ** 2) if k else 1.0 for k in range(-reach, reach + 1)]
    for axis in (-2, -1):
        size = values.shape[axis]
        places = torch.arange(-reach, size + reach, device=values.device).clamp(0, max(0, size - 1))
        extended = values.index_select(axis, places)
        # A sum of shifted views: unlike a convolution, it rounds in the same way whatever the batch.
        values = torch.zeros_like(values)
        for k, weight in enumerate(weights):
            values.add_(extended.narrow(axis, k, size), alpha=weight / sum(weights))
    return values
