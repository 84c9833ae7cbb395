"""A data set with some of its modalities corrupted, and how strong a corruption is on it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import torch

from confu.checks import check_known
from confu.data.columns import Indices
from confu.data.dataset import Dataset
from confu.data.per_row import Corruption, Source, one_a_row, samples
from confu.data.signal import Power, signal_power
from confu.data.view import DatasetView
from confu.types import Batch


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
        self.seed = seed
        if len(dataset):
            self.batch(torch.tensor([0]))  # what cannot work is said now, not after an hour of training

    def batch(self, indices: Indices) -> Batch:
        """These rows, corrupted, in this order; an index may repeat."""
        indices = indices.long().cpu()
        batch = self.dataset.batch(indices)
        changed = {
            name: corruption.corrupt(batch.inputs[name], indices, Source(self.dataset, name, self.seed))
            for name, corruption in self.corruptions.items()
        }
        return replace(batch, inputs={**batch.inputs, **changed})


def measured_snr_db(
    dataset: Dataset,
    corruption: Corruption,
    modality: str,
    power: Power = "mean_square",
    seed: int = 0,
    batch_size: int = 256,
) -> float:
    r"""The signal-to-noise ratio that a corruption has on this data, all rows together.

    $$\mathrm{SNR} = 10 \log_{10} rac{\sum_i P(x_i)}{\sum_i \overline{(	ilde x_i - x_i)^2}}$$

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
    source = Source(dataset, modality, seed)
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
