"""Data sets with gaps: rows that lack modalities, drawn at random, and what a baseline puts in their place."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.checks import check_fraction, check_known
from confu.data.columns import Indices, distinct
from confu.data.dataset import Dataset, DatasetView
from confu.types import Batch, Inputs, Mask


def random_gaps(
    rows: int, modalities: Sequence[str], share: float, seed: int | Sequence[int] = 0
) -> dict[str, Bool[Tensor, " rows"]]:
    """Which rows have which modality, if a share of the rows lacks one modality each, any of them alike.

    The rows that lack one at a small share lack the same one at a larger share.

    Args:
        rows: how many.
        modalities: their names, two or more.
        share: of the rows that lack one, in [0, 1].
        seed: of the draw.

    Returns:
        modality -> (rows,) bool.

    >>> present = random_gaps(1000, ("image", "audio"), share=0.5)
    >>> int((~present["image"]).sum() + (~present["audio"]).sum()), bool((present["image"] | present["audio"]).all())
    (500, True)
    """
    check_fraction("share", share)
    if len(modalities) < 2:
        raise ValueError(f"modalities: a row must keep one, so that two or more are needed; got {list(modalities)}")
    generator = np.random.default_rng(seed)
    order = torch.from_numpy(generator.permutation(rows))
    lacks = torch.from_numpy(generator.integers(0, len(modalities), rows))
    lacks[order[round(share * rows) :]] = -1
    return {name: lacks != number for number, name in enumerate(modalities)}


class IncompleteDataset(DatasetView):
    """A data set of which some rows lack some modalities.

    Args:
        dataset: any; it stays as it is.
        present: modality -> (rows,) bool, False where a row shall lack it. Modalities not named stay as they are.

    Raises:
        ValueError: an unknown modality, or a mask of another length.
    """

    def __init__(self, dataset: Dataset, present: Mapping[str, Bool[Tensor, " n"]]) -> None:
        super().__init__(dataset)
        for name, mask in present.items():
            check_known("modality", name, dataset.modalities)
            if mask.shape != (len(dataset),):
                raise ValueError(f"present[{name!r}]: expected shape ({len(dataset)},); got {tuple(mask.shape)}")
        self._kept = dict(present)

    @property
    def present(self) -> dict[str, Bool[Tensor, " n"]]:
        """By modality, which rows have it."""
        return {name: mask & self._kept.get(name, mask) for name, mask in super().present.items()}

    @property
    def contents(self) -> dict[str, Int[Tensor, " n"]]:
        """By modality, equal numbers for equal values, where they are known; -1 in rows without it."""
        present = self.present
        return {name: numbers.masked_fill(~present[name], -1) for name, numbers in super().contents.items()}

    def batch(self, indices: Indices) -> Batch:
        """See `Dataset`."""
        batch = self.dataset.batch(indices)
        lost = {name: without_rows(batch.inputs[name], ~kept[indices]) for name, kept in self._kept.items()}
        contents = {
            name: numbers.masked_fill(~self._kept[name][indices], -1) if name in self._kept else numbers
            for name, numbers in batch.contents.items()
        }
        return replace(batch, inputs={**batch.inputs, **lost}, contents=contents)


class FilledDataset(DatasetView):
    """A data set whose gaps hold zeros, and texts without a word, and which says that they are there.

    That is a baseline and nothing to train with: the encoder learns that zeros belong to every caption.

    Args:
        dataset: with gaps; at least one row must have a value of each modality.

    Raises:
        ValueError: a modality that every row lacks.

    >>> from confu.data import ArrayDataset, TensorColumn
    >>> column = TensorColumn(torch.ones(2, 1), missing=torch.tensor([False, True]))
    >>> filled = FilledDataset(ArrayDataset({"sensor": column}))
    >>> filled.batch(torch.tensor([1, 0])).inputs["sensor"].values.tolist()
    [[0.0], [1.0]]
    """

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self._example = {name: mask.nonzero()[:1, 0] for name, mask in super().present.items()}
        for name, row in self._example.items():
            if not len(row):
                raise ValueError(f"modality {name!r}: every row lacks it, so that nothing says what zeros look like")

    @property
    def present(self) -> dict[str, Bool[Tensor, " n"]]:
        """By modality, which rows have it: all."""
        return {name: torch.ones(len(self), dtype=torch.bool) for name in self.modalities}

    def batch(self, indices: Indices) -> Batch:
        """See `Dataset`."""
        batch = self.dataset.batch(indices)
        inputs = dict(batch.inputs)
        for name, values in batch.inputs.items():
            if not bool(values.present.any()):  # a batch of gaps alone: the shape comes from another row
                example = self.dataset.batch(self._example[name]).inputs[name].values
                values = Inputs(example, torch.zeros_like(values.rows))
            inputs[name] = _filled(values, batch.inputs[name].present)
        return replace(batch, inputs=inputs)


def _filled(inputs: Inputs, kept: Mask) -> Inputs:
    """Inputs with zeros in place of those that are not kept; in a mask one step stays, as no encoder reads none."""
    rows = inputs.rows.clamp_min(0)

    def blank(name: str, values: Tensor) -> Tensor:
        values = values[rows].clone() if len(values) else values.new_zeros(len(rows), *values.shape[1:])
        values[~kept] = 0
        if "mask" in name:
            values[~kept, 0] = 1
        return values

    values = inputs.values
    filled = (
        {name: blank(name, part) for name, part in values.items()} if isinstance(values, dict) else blank("", values)
    )
    return Inputs(filled, torch.arange(len(kept)))


def without_rows(inputs: Inputs, drop: Mask) -> Inputs:
    """The same inputs with these rows missing; inputs that no row has any more are left out.

    >>> without_rows(Inputs(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1, 1])), torch.tensor([True, False, False]))
    Inputs(values=tensor([[2.]]), rows=tensor([-1,  0,  0]))
    """
    positions, rows = distinct(torch.where(drop, -1, inputs.rows))
    return Inputs(picked(inputs.values, positions), rows)


def picked(values: Tensor | dict[str, Tensor], positions: Tensor) -> Tensor | dict[str, Tensor]:
    """These of the stored inputs."""
    return {name: part[positions] for name, part in values.items()} if isinstance(values, dict) else values[positions]
