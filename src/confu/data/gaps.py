"""Data sets with holes: rows that lack modalities, drawn at random, and what a baseline puts in their place."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu._typing import Batch, Inputs
from confu.checks import check_fraction, check_known
from confu.data.columns import Indices
from confu.data.dataset import Dataset


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


class IncompleteDataset:
    """A data set of which some rows lack some modalities; ids, labels and class names stay.

    Args:
        dataset: any; it stays as it is.
        present: modality -> (rows,) bool, False where a row shall lack it. Modalities not named stay as they are.
        fill: True puts zeros where a modality is missing, and tokens of an empty text, and says that it is there.
            That is a baseline and nothing to train with: the encoder learns that zeros belong to every caption.

    Raises:
        ValueError: an unknown modality, or a mask of another length.
    """

    def __init__(self, dataset: Dataset, present: Mapping[str, Bool[Tensor, " n"]], fill: bool = False) -> None:
        for name, mask in present.items():
            check_known("modality", name, dataset.modalities)
            if mask.shape != (len(dataset),):
                raise ValueError(f"present[{name!r}]: expected shape ({len(dataset)},); got {tuple(mask.shape)}")
        self.dataset = dataset
        self.fill = fill
        self._kept = dict(present)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the modalities."""
        return self.dataset.modalities

    @property
    def labels(self) -> Int[Tensor, " n"] | None:
        """The class of each row, if known."""
        return self.dataset.labels

    @property
    def ids(self) -> Sequence[str]:
        """A name for each row."""
        return self.dataset.ids

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What each label means."""
        return self.dataset.class_names

    @property
    def groups(self) -> Int[Tensor, " n"] | None:
        """What each row belongs to, if known."""
        return getattr(self.dataset, "groups", None)

    @property
    def present(self) -> dict[str, Bool[Tensor, " n"]]:
        """By modality, which rows have it; all of them if the holes are filled."""
        everyone = torch.ones(len(self), dtype=torch.bool)
        there = dict(getattr(self.dataset, "present", {}))
        if self.fill:  # with its own holes those that the data had are filled
            there |= dict.fromkeys(self._kept, everyone)
            return {name: there.get(name, everyone) for name in self.modalities}
        return {name: there.get(name, everyone) & self._kept.get(name, everyone) for name in self.modalities}

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, indices: Indices) -> Batch:
        """See `Dataset`."""
        batch = self.dataset.batch(indices)
        change = filled if self.fill else hidden
        inputs = {
            name: change(one, self._kept[name][indices]) if name in self._kept else one
            for name, one in batch.inputs.items()
        }
        return Batch(inputs, batch.ids, batch.labels, batch.groups)


class RowsOf:
    """Some rows of a data set, in the order given.

    Args:
        dataset: any.
        rows: (rows,) indices into it.
    """

    def __init__(self, dataset: Dataset, rows: Int[Tensor, " rows"]) -> None:
        self.dataset = dataset
        self.rows = rows

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the modalities."""
        return self.dataset.modalities

    @property
    def labels(self) -> Int[Tensor, " rows"] | None:
        """The class of each row, if known."""
        return None if self.dataset.labels is None else self.dataset.labels[self.rows]

    @property
    def ids(self) -> Sequence[str]:
        """A name for each row."""
        ids: list[str] = list(self.dataset.ids)
        return [ids[row] for row in self.rows.tolist()]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What each label means."""
        return self.dataset.class_names

    @property
    def groups(self) -> Int[Tensor, " rows"] | None:
        """What each row belongs to, if known."""
        groups = getattr(self.dataset, "groups", None)
        return None if groups is None else groups[self.rows]

    @property
    def present(self) -> dict[str, Bool[Tensor, " rows"]]:
        """By modality, which rows have it, where that is known."""
        return {name: mask[self.rows] for name, mask in getattr(self.dataset, "present", {}).items()}

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Indices) -> Batch:
        """See `Dataset`."""
        return self.dataset.batch(self.rows[indices])


def hidden(inputs: Inputs, kept: Bool[Tensor, " batch"]) -> Inputs:
    """Inputs without those of the rows that are not kept; what no row has any more is not encoded.

    >>> hidden(Inputs(torch.tensor([[1.0], [2.0]]), torch.tensor([1, 0, 1])), torch.tensor([True, False, True]))
    Inputs(values=tensor([[2.]]), rows=tensor([ 0, -1,  0]))
    """
    rows = torch.where(kept, inputs.rows, -1)
    if torch.equal(rows, inputs.rows):
        return inputs
    used, position = rows[rows >= 0].unique(return_inverse=True)
    compact = torch.full_like(rows, -1)
    compact[rows >= 0] = position
    values = inputs.values
    if isinstance(values, dict):
        return Inputs({name: value[used] for name, value in values.items()}, compact)
    return Inputs(values[used], compact)


def filled(inputs: Inputs, kept: Bool[Tensor, " batch"]) -> Inputs:
    """Inputs with zeros in place of those that are not kept; in a mask one step stays, as no encoder reads none.

    >>> filled(Inputs(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1])), torch.tensor([True, False])).values.tolist()
    [[1.0], [0.0]]
    """
    kept = kept & inputs.present
    rows = torch.arange(len(kept))
    source = inputs.rows.clamp_min(0)

    def blank(name: str, value: Tensor) -> Tensor:
        value = value[source].clone() if len(value) else value.new_zeros(len(rows), *value.shape[1:])
        value[~kept] = 0
        if "mask" in name:
            value[~kept, 0] = 1
        return value

    values = inputs.values
    if isinstance(values, dict):
        return Inputs({name: blank(name, value) for name, value in values.items()}, rows)
    return Inputs(blank("", values), rows)
