"""Standardising numbers by the training rows: mean and standard deviation of each feature, applied to a batch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from confu.checks import check_known

Scale = str | Mapping[str, Sequence[float]] | None
MISSING = ("refuse", "mean")
_ITEMS = 256  # that are summed at a time
_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # a range no wider than that of its size is no signal


class Scaling:
    """`(value - mean) / std` of each feature, cut to `clip` standard deviations; a feature with std 0 becomes 0.

    Args:
        features: how many there are.
        axis: of an item that they lie along, counted from its end.
        scale: "standard" is to be fitted before it is applied; {"mean": [...], "std": [...]} are the fitted numbers, in
            which a std of 0 marks a constant feature; None or "none" leaves values as they are.
        clip: standardised values are cut to -clip and clip; None leaves them.
        missing: what NaN means: "refuse" takes none, "mean" makes it the mean and adds an indicator for each feature,
            1 where the value is missing, behind the features.

    Raises:
        ValueError: another word, numbers that do not fit the features, a clip that is not positive, or one that is
            without effect.

    >>> scaling = Scaling(2, scale="standard").fit([torch.tensor([1.0, 5.0]), torch.tensor([3.0, 5.0])])
    >>> scaling.settings["scale"], scaling.apply(torch.tensor([[4.0, 7.0]])).tolist()
    ({'mean': [2.0, 5.0], 'std': [1.0, 0.0]}, [[2.0, 0.0]])
    """

    def __init__(
        self, features: int, axis: int = 1, scale: Scale = None, clip: float | None = None, missing: str = "refuse"
    ) -> None:
        check_known("missing", missing, MISSING)
        if clip is not None and not 0 < clip < math.inf:
            raise ValueError(f"clip: expected a positive number of standard deviations; got {clip}")
        if isinstance(scale, str):
            check_known("scale", scale, ("standard", "none"))
        elif scale is None and clip is not None:
            raise ValueError(f"clip: {clip} goes with scale: standard; add it, or remove clip")
        if missing == "mean" and scale in (None, "none"):
            raise ValueError("missing: mean goes with scale: standard, which knows the mean; add it")
        self.features, self.axis, self.missing = features, axis, missing
        self.scale = None if scale == "none" else scale
        self.clip = None if self.scale is None else clip
        if isinstance(scale, Mapping):
            if set(scale) != {"mean", "std"}:
                raise ValueError(f"scale: expected 'standard', 'none', or mean and std; got {', '.join(scale)}")
            self.mean, self.std = (self._numbers(name, scale[name]) for name in ("mean", "std"))
            if (self.std < 0).any():
                raise ValueError(f"scale: std: expected 0 (a constant feature) or more; got {float(self.std.min())}")
            self.scale = {"mean": self.mean.tolist(), "std": self.std.tolist()}
        elif not isinstance(scale, str | None):
            raise ValueError(f"scale: expected 'standard', 'none', or mean and std; got {scale!r}")

    def _numbers(self, name: str, numbers: Sequence[float]) -> np.ndarray:
        array = np.asarray(numbers, dtype=np.float64)
        if array.shape != (self.features,) or not np.isfinite(array).all():
            raise ValueError(f"scale: {name}: expected {self.features} finite numbers, one a feature; got {numbers}")
        return array

    @property
    def settings(self) -> dict[str, Any]:
        """Of a reader's settings those of the scaling; what is not used is left out."""
        used = {"scale": self.scale, "clip": self.clip, "missing": None if self.missing == "refuse" else self.missing}
        return {name: value for name, value in used.items() if value is not None}

    @property
    def unfitted(self) -> bool:
        """Whether `fit` is still to come."""
        return self.scale == "standard"

    @property
    def constant(self) -> list[int]:
        """The features with one value, or none, in the rows of the fit."""
        return np.flatnonzero(self.std == 0).tolist() if isinstance(self.scale, Mapping) else []

    def fit(self, items: Iterable[Tensor]) -> "Scaling":
        """The same with the mean and standard deviation of all values of these items, in float64 and in one pass.

        NaN is left out, and uint8 are pixels, 0 to 255 for 0 to 1. A feature without any value gets 0 and 0.
        """
        count, mean, squares = np.zeros((3, self.features))
        lowest, highest = np.full(self.features, np.inf), np.full(self.features, -np.inf)
        remaining = iter(items)
        while chunk := list(islice(remaining, _ITEMS)):
            rows = torch.cat([item.movedim(-self.axis, -1).reshape(-1, self.features) for item in chunk])
            values = rows.double().numpy() / (255 if rows.dtype == torch.uint8 else 1)
            known = ~np.isnan(values)
            added = known.sum(0)
            # Chan, Golub and LeVeque 1979: the moments of two parts make those of the whole.
            own_mean = np.where(known, values, 0).sum(0) / np.maximum(added, 1)
            own_squares = (np.where(known, values - own_mean, 0) ** 2).sum(0)
            total = np.maximum(count + added, 1)
            squares += own_squares + (own_mean - mean) ** 2 * count * added / total
            mean += (own_mean - mean) * added / total
            count += added
            lowest = np.minimum(lowest, np.where(known, values, np.inf).min(0))
            highest = np.maximum(highest, np.where(known, values, -np.inf).max(0))
        rounding = _ROUNDING * np.maximum(np.abs(lowest), np.abs(highest))  # of no value infinite, thus constant
        std = np.where(highest - lowest > rounding, np.sqrt(squares / np.maximum(count, 1)), 0)
        fitted = {"mean": mean.tolist(), "std": std.tolist()}
        return Scaling(self.features, self.axis, fitted, self.clip, self.missing)

    def as_if_fitted(self) -> dict[str, Any]:
        """Settings of the same shapes that leave values as they are: to try a network before anything is read."""
        fitted = {"mean": [0.0] * self.features, "std": [1.0] * self.features}
        return {**self.settings, "scale": fitted} if self.unfitted else {}

    def channels(self) -> list[tuple[float, float]]:
        """The mean and the divisor of each feature; that of a constant one is infinite."""
        if self.unfitted:
            raise ValueError(
                "scale: standard is not fitted yet; train with a run file, or give the numbers: "
                "scale={'mean': [...], 'std': [...]}, one a feature"
            )
        return [(float(mean), float(std) or math.inf) for mean, std in zip(self.mean, self.std)]

    def apply(self, values: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """A batch standardised, as float32; `dtype` is that of the computation."""
        if self.scale is None:
            return values
        shape = (self.features, 2) + (1,) * (self.axis - 1)
        mean, divisor = torch.tensor(self.channels(), dtype=torch.float64).to(dtype).view(shape).unbind(1)
        scaled = ((values.to(dtype) - mean) / divisor).float()
        absent = values.isnan() if self.missing == "mean" else None
        if absent is not None:
            scaled = scaled.masked_fill(absent, 0)
        if self.clip is not None:
            scaled = scaled.clamp(-self.clip, self.clip)
        return scaled if absent is None else torch.cat([scaled, absent.float()], -self.axis)


def scaling_of(reader: Any) -> Scaling | None:
    """How a reader standardises; None if it is of a kind that does not."""
    return getattr(reader, "scaling", None)
