"""A data set with some of its modalities corrupted, row by row, and how strong a corruption is on it.

What a row becomes depends on the seed, its index, its modality and the corruption; never on the batch that it is in.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from confu.checks import check_known
from confu.data.columns import Indices, numbered
from confu.data.dataset import Dataset, DatasetView
from confu.data.gaps import picked
from confu.types import Batch, Inputs

Power = Literal["mean_square", "variance"]


@dataclass(frozen=True)
class ModalityRows:
    """One modality of a data set, and random numbers for each of its rows; `seed` is 0 or more."""

    dataset: Dataset
    modality: str
    seed: int = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, indices: Indices) -> Inputs:
        """This modality's inputs of these rows."""
        return self.dataset.batch(indices).inputs[self.modality]

    def random(self, purpose: str, *row: int) -> np.random.Generator:
        """A generator for a row, or without one for the whole data set: see `row_random`."""
        return row_random(self.seed, self.modality, purpose, *row)


@runtime_checkable
class Corruption(Protocol):
    """What happens to a modality: a class with a `__str__`, which names it in tables and figures, and `corrupt`."""

    def corrupt(self, inputs: Inputs, indices: Indices, source: ModalityRows) -> Inputs:
        """The corrupted inputs of a batch of these rows; `source` gives further rows and random numbers."""
        ...


class CorruptedDataset(DatasetView):
    """A data set with some of its modalities corrupted; ids, labels and class names stay.

    A row that lacks a modality still lacks it. Corruptions are made anew for each batch, and are the same each time.
    To apply two to one modality, nest: the inner data set's comes first.

    Args:
        dataset: any; it stays as it is.
        corruptions: by modality; none is the data set itself.
        seed: of all that is drawn, 0 or more.

    Raises:
        ValueError: an unknown modality; a corruption that cannot act on what the modality holds.

    Reference: section 6.2 and appendix B.4, where one modality is made noisy at test time.

    >>> from confu.data import ArrayDataset, TensorColumn
    >>> from confu.data.corruptions import Dropped, GaussianNoise
    >>> data = ArrayDataset({"image": TensorColumn(torch.zeros(3, 2)), "audio": TensorColumn(torch.zeros(3, 2))})
    >>> noisy = CorruptedDataset(data, {"image": GaussianNoise(std=0.05), "audio": Dropped()})
    >>> batch = noisy.batch(torch.tensor([1, 2]))
    >>> batch.inputs["image"].values.shape, batch.inputs["audio"].rows.tolist()
    (torch.Size([2, 2]), [-1, -1])
    """

    def __init__(self, dataset: Dataset, corruptions: Mapping[str, Corruption], seed: int = 0) -> None:
        super().__init__(dataset)
        for name in corruptions:
            check_known("modality", name, dataset.modalities)
        if seed < 0:
            raise ValueError(f"seed: expected 0 or more; got {seed}")
        self.corruptions = dict(corruptions)
        self.changed = frozenset(corruptions)
        self.seed = seed
        if len(dataset):
            self.batch(torch.tensor([0]))  # what cannot work is said now, not after an hour of training

    def batch(self, indices: Indices) -> Batch:
        """These rows, corrupted, in this order; an index may repeat."""
        indices = indices.long().cpu()
        batch = self.dataset.batch(indices)
        changed = {
            name: corruption.corrupt(batch.inputs[name], indices, ModalityRows(self.dataset, name, self.seed))
            for name, corruption in self.corruptions.items()
        }
        contents = {name: numbers for name, numbers in batch.contents.items() if name not in changed}
        return replace(batch, inputs={**batch.inputs, **changed}, contents=contents)


def measured_snr_db(
    dataset: Dataset,
    corruption: Corruption,
    modality: str,
    power: Power = "mean_square",
    seed: int = 0,
    batch_size: int = 256,
) -> float:
    r"""The signal-to-noise ratio that a corruption has on this data, all rows together.

    $$\mathrm{SNR} = 10 \log_{10} \frac{\sum_i P(x_i)}{\sum_i \overline{(\tilde x_i - x_i)^2}}$$

    Args:
        dataset: of the rows to measure on, e.g. a test split.
        corruption: one that changes numbers; noise is applied and measured, so a blur or clipping can be, too.
        modality: to measure on.
        power: what the power P of a sample is; see `GaussianNoise`.
        seed: of the noise.
        batch_size: rows at once.

    Returns:
        decibels; infinity if nothing was changed.

    Raises:
        ValueError: an unknown modality or power; no row has the modality; the corruption loses rows; silence.

    Reference: section 6.2, "a standard deviation of 0.05 corresponding to roughly 20dB SNR".

    >>> from confu.data import ArrayDataset, TensorColumn
    >>> from confu.data.corruptions import GaussianNoise
    >>> data = ArrayDataset({"image": TensorColumn(torch.full((20, 500), 0.5))})
    >>> round(measured_snr_db(data, GaussianNoise(std=0.05), "image"), 1)
    20.0
    """
    check_known("modality", modality, dataset.modalities)
    check_known("power", power, get_args(Power))
    source = ModalityRows(dataset, modality, seed)
    signal = noise = 0.0
    for indices in torch.arange(len(dataset)).split(batch_size):
        inputs = source.take(indices)
        corrupted = corruption.corrupt(inputs, indices, source)
        if not torch.equal(corrupted.present, inputs.present):
            raise ValueError(f"corruption: expected one that keeps every row, as noise does; got {corruption}")
        clean, changed = (samples(one_a_row(each), str(corruption), modality) for each in (inputs, corrupted))
        for before, after in zip(clean, changed):
            signal += float(signal_power(before, power).sum())
            noise += float(signal_power(after.double() - before.double()).sum())
    if not signal:
        raise ValueError(
            f"{modality!r} has no signal to compare with: no row has it, or all of them hold "
            f"{'zeros' if power == 'mean_square' else 'one number each'}; measure on another modality or data set"
        )
    return 10 * math.log10(signal / noise) if noise else math.inf


def signal_power(values: Shaped[Tensor, "n ..."], power: Power = "mean_square") -> Float[Tensor, " n"]:
    """The power of each of n samples, float64: the mean of its squared numbers, or of those about their mean.

    >>> signal_power(torch.tensor([[1.0, 3.0]])).item(), signal_power(torch.tensor([[1.0, 3.0]]), "variance").item()
    (5.0, 1.0)
    """
    flat = values.reshape(len(values), -1).double()
    return (flat if power == "mean_square" else flat - flat.mean(1, keepdim=True)).square().mean(1)


def row_random(seed: int, modality: str, purpose: str, *row: int) -> np.random.Generator:
    """A generator that depends on its arguments alone, so that no batch and no order changes what a row draws.

    It is seeded by a hash of them all: rows, modalities and purposes have independent streams. Without a row the
    numbers are for all rows together.

    >>> row_random(0, "image", "noise", 7).random() == row_random(0, "image", "noise", 7).random()
    True
    """
    words = [zlib.crc32(modality.encode()), zlib.crc32(purpose.encode()), len(row), *row, seed]
    # SFC64 is the cheapest to seed and to draw from: 0.1 ms for the normal numbers of a 112 x 112 spectrogram.
    return np.random.Generator(np.random.SFC64(words))


def one_a_row(inputs: Inputs) -> Inputs:
    """The same inputs, those that rows share copied, so that each present row has its own, in the rows' order.

    >>> shared = Inputs(torch.tensor([[1.0], [2.0]]), torch.tensor([1, -1, 1]))
    >>> one_a_row(shared).values.tolist(), one_a_row(shared).rows.tolist()
    ([[2.0], [2.0]], [0, -1, 1])
    """
    return Inputs(picked(inputs.values, inputs.rows[inputs.present]), numbered(inputs.present))


def samples(inputs: Inputs, user: str, modality: str) -> list[Tensor]:
    """The numbers of each stored input, (n, ...) a tensor; sequences one by one without padding, (1, features, steps).

    Args:
        inputs: a float tensor, or sequences: `values` (n, steps, features) with a `mask` (n, steps) of real steps.
        user: of the numbers, for the message.
        modality: for the message.

    Raises:
        ValueError: tokens and other whole numbers, on which no arithmetic makes sense.
    """
    values = inputs.values
    mask = values["mask"] if isinstance(values, dict) and set(values) == {"values", "mask"} else None
    numbers = values["values"] if isinstance(values, dict) and mask is not None else values
    if isinstance(numbers, dict) or not numbers.is_floating_point():
        got = f"a dict of {', '.join(numbers)}" if isinstance(numbers, dict) else str(numbers.dtype)
        raise ValueError(
            f"{user}: expected {modality!r} to hold numbers such as pixels or samples (floats, or sequences of them "
            f"with a mask); got {got}, as tokens are. Corrupt another modality, or drop or swap this one"
        )
    return [numbers] if mask is None else [row[real].T[None] for row, real in zip(numbers, mask)]


def change_values(inputs: Inputs, change: Callable[[Tensor, int], Tensor], user: str, modality: str) -> Inputs:
    """Change the numbers of each stored input; arguments and errors are those of `samples`.

    `change` gets what `samples` gives, and the position of the first of these inputs; it returns the same shape.
    """
    parts = samples(inputs, user, modality)
    changed = [change(part, first) if part.numel() else part for first, part in enumerate(parts)]
    if not isinstance(inputs.values, dict):
        return Inputs(changed[0], inputs.rows)
    numbers = inputs.values["values"].clone()
    for row, (real, part) in enumerate(zip(inputs.values["mask"], changed)):
        numbers[row, real] = part[0].T
    return Inputs({**inputs.values, "values": numbers}, inputs.rows)
