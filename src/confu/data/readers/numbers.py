"""Numbers: vectors of one size, sequences of differing length, and single numbers."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from confu.data.readers.scaling import Scale, Scaling
from confu.data.readers.source import Source, array_of, is_file, name_of, padded, stacked


class VectorReader:
    """Vectors of one size.

    Args:
        dim: numbers in each.
        scale: how they are standardised, see `Scaling`; by default not at all.
        clip: likewise.
        missing: "mean" takes NaN (in a list also None) for missing numbers, and adds `dim` indicators of them.

    >>> VectorReader(3).read([1, 2, 3]).tolist()
    [1.0, 2.0, 3.0]
    """

    stackable = True
    modality_kind = "vector"

    def __init__(self, dim: int, scale: Scale = None, clip: float | None = None, missing: str = "refuse") -> None:
        _check_size("dim", dim)
        self.scaling, self.reads_nan = Scaling(dim, 1, scale, clip, missing), missing == "mean"
        self.settings: dict[str, Any] = {"kind": "vector", "dim": dim, **self.scaling.settings}
        self.dim = dim

    def read(self, source: Source) -> Float[Tensor, " dim"]:
        """One vector of an array, a tensor, a list of numbers, or a file `.npy` or `.npz` of one array.

        Raises:
            ValueError: another size, no numbers, NaN (unless it means missing) or infinity.
        """
        array = _numbers(source, self.scaling)
        if array.shape != (self.dim,):
            raise ValueError(f"{name_of(source)}: expected a vector of {self.dim} numbers; got shape {array.shape}")
        return _finite_floats(array, source, self.scaling)

    def collate(self, items: Sequence[Tensor] | Float[Tensor, "n dim"]) -> Float[Tensor, "n inputs"]:
        """What the encoder gets: the vectors, stacked and standardised; n x 2 dim with indicators."""
        return self.scaling.apply(stacked(items, (self.dim,)))


class SequenceReader:
    """Sequences of steps that differ in length.

    Args:
        dim: numbers in each step.
        max_steps: longer sequences are cut to so many steps; None keeps all.
        scale: as of `VectorReader`, like the others; a number of each step is a feature.

    >>> reader = SequenceReader(2)
    >>> reader.collate([reader.read([[1, 2], [3, 4]]), reader.read([[5, 6]])])["mask"].tolist()
    [[True, True], [True, False]]
    """

    stackable = False
    modality_kind = "sequence"

    def __init__(
        self,
        dim: int,
        max_steps: int | None = None,
        scale: Scale = None,
        clip: float | None = None,
        missing: str = "refuse",
    ) -> None:
        _check_size("dim", dim)
        _check_size("max_steps", 1 if max_steps is None else max_steps)
        self.scaling, self.reads_nan = Scaling(dim, 1, scale, clip, missing), missing == "mean"
        sizes = {"dim": dim, "max_steps": max_steps}
        self.settings: dict[str, Any] = {"kind": "sequence", **sizes, **self.scaling.settings}
        self.dim, self.max_steps = dim, max_steps

    def read(self, source: Source) -> Float[Tensor, "steps dim"]:
        """One sequence, (steps, dim), or (steps,) if `dim` is 1; sources are those of `VectorReader`.

        Raises:
            ValueError: no step, another size of the steps, no numbers, NaN (unless it means missing) or infinity.
        """
        array = _numbers(source, self.scaling)
        if array.ndim == 1 and self.dim == 1:
            array = array[:, None]
        if array.shape[1:] != (self.dim,) or array.ndim != 2 or not len(array):
            raise ValueError(
                f"{name_of(source)}: expected (steps, {self.dim}) numbers, one step or more; got shape {array.shape}"
            )
        return _finite_floats(array[: self.max_steps], source, self.scaling)

    def collate(self, items: Sequence[Tensor]) -> dict[str, Tensor]:
        """What the encoder gets: `values` (n, longest, dim), or 2 dim with indicators, with zeros at the ends, and
        `mask`, True at real steps.
        """
        inputs = padded(items, (self.dim,))
        if self.scaling.scale is None:
            return inputs
        values, mask = self.scaling.apply(inputs["values"]), inputs["mask"]
        return {"values": values.masked_fill_(~mask[:, :, None], 0), "mask": mask}


class NumberReader:
    """Single numbers, standardised: `mean` is subtracted, then `std` divides.

    >>> reader = number_reader([1.0, None, 3.0])
    >>> reader.collate([reader.read(1), reader.read(4)]).tolist()
    [[-1.0], [2.0]]
    """

    stackable = True
    modality_kind = "number"

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        if not math.isfinite(mean) or not 0 < std < math.inf:
            raise ValueError(f"mean and std: expected finite numbers, std positive; got {mean} and {std}")
        self.mean, self.std = float(mean), float(std)
        self.settings: dict[str, Any] = {"kind": "number", "mean": self.mean, "std": self.std}

    def read(self, source: Source) -> Float[Tensor, "1"]:
        """One number as it is, or that of an array of one.

        Raises:
            ValueError: a text or several numbers, NaN or infinity.
        """
        if is_file(source):
            raise ValueError(f"{name_of(source)}: expected a number; got {type(source).__name__}")
        array = array_of(source)
        if array.size != 1:
            raise ValueError(f"{name_of(source)}: expected one number; got shape {array.shape}")
        return _finite_floats(array.reshape(1), source)

    def collate(self, items: Sequence[Tensor] | Float[Tensor, "n 1"]) -> Float[Tensor, "n 1"]:
        """What the encoder gets: `(number - mean) / std`."""
        return (stacked(items, (1,)) - self.mean) / self.std


def number_reader(sources: Iterable[Source | None]) -> NumberReader:
    """A reader that standardises by the mean and standard deviation of these numbers, e.g. those of the training rows.

    Args:
        sources: None where a row has no number.

    Raises:
        ValueError: no number, or all of them equal, so that they say nothing.
    """
    reader = NumberReader()
    numbers = np.array([reader.read(source).item() for source in sources if source is not None], dtype=np.float64)
    if not len(numbers) or numbers.std() == 0:
        got = "none" if not len(numbers) else f"{len(numbers)} times {numbers[0]}"
        raise ValueError(f"sources: expected numbers that differ, to standardise by; got {got}")
    return NumberReader(float(numbers.mean()), float(numbers.std()))


def _numbers(source: Source, scaling: Scaling) -> np.ndarray:
    """The numbers of a source; where numbers may be missing, None among those of a list is NaN."""
    if scaling.missing == "mean" and isinstance(source, list | tuple):
        try:
            return np.array(source, dtype=np.float64)
        except (ValueError, TypeError):
            pass  # texts, or lists of differing length: the error below says so
    return array_of(source)


def _finite_floats(array: np.ndarray, source: Source, scaling: Scaling | None = None) -> Float[Tensor, "*shape"]:
    """A float32 copy; ValueError for infinity, a number that float32 cannot hold, or NaN that does not mean missing."""
    with np.errstate(over="ignore"):  # what overflows is found below
        values = torch.from_numpy(np.array(array, dtype=np.float32))
    sound = values.isfinite()
    if scaling is not None and scaling.missing == "mean":
        if bool(values.isnan().all()):
            raise ValueError(f"{name_of(source)}: all {values.numel()} numbers are missing; leave the cell empty")
        sound |= torch.from_numpy(np.isnan(array))
    bad = values.numel() - int(sound.sum())
    if bad:
        raise ValueError(
            f"{name_of(source)}: {bad} of {values.numel()} numbers are NaN, infinite or too large for float32; repair "
            "them, leave the cell empty if all is missing, or set the reader's `missing: mean` if some NaN are gaps"
        )
    return values


def _check_size(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}: expected 1 or more; got {value}")
