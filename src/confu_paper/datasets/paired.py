"""Rows put together afresh in every batch: a photo with any sound and any caption of its class."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.checks import check_known
from confu.data.columns import Indices
from confu.data.dataset import ArrayDataset, Dataset, DatasetView
from confu.types import Batch, Inputs


def paired_by_class(dataset: Dataset, anchor: str, others: Sequence[str] | None = None) -> "PairedDataset":
    """A data set whose batches take the other modalities from other rows of the same class, drawn anew each time.

    Each other modality is drawn on its own, uniformly among the rows of the class that have it, from torch's random
    state, so that an interrupted training goes on with the draws it would have made.

    Args:
        dataset: with labels.
        anchor: the modality that stays with its row; so do id, label and group.
        others: those that are drawn; None is all but the anchor. Modalities that are neither stay with their row.

    Raises:
        ValueError: no labels, an unknown modality, or the anchor among the others.
    """
    return PairedDataset(
        dataset, anchor, [name for name in dataset.modalities if name != anchor] if others is None else others
    )


class PairedDataset(DatasetView):
    """See `paired_by_class`. A class in which no row has a modality is a class whose rows lack it."""

    def __init__(self, dataset: Dataset, anchor: str, others: Sequence[str]) -> None:
        for name in (anchor, *others):
            check_known("modality", name, dataset.modalities)
        if anchor in others:
            raise ValueError(f"others: {anchor!r} is the anchor, which stays with its row; leave it out")
        if dataset.labels is None:
            raise ValueError("dataset: without labels there are no rows of the same class; keep the pairs as they are")
        super().__init__(dataset)
        self.changed = frozenset(others)
        self._labels = dataset.labels
        present = super().present
        self._pools = {name: _Pool(self._labels, present[name]) for name in others}

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """The class of each row."""
        return self._labels

    @property
    def present(self) -> dict[str, Bool[Tensor, " n"]]:
        """By modality, which rows have it: of a drawn one, those of whose class any row has it."""
        drawn = {name: pool.counts[self._labels] > 0 for name, pool in self._pools.items()}
        return {**super().present, **drawn}

    def batch(self, indices: Indices) -> Batch:
        """See `Dataset`; the draws come from torch's random state."""
        indices = indices.long().cpu()
        stay = {name: indices for name in self.modalities if name not in self._pools}
        rows = stay | {name: pool.draw(self._labels[indices]) for name, pool in self._pools.items()}
        inputs = {name: self._inputs(name, rows[name]) for name in self.modalities}
        ids, groups = self.ids, self.groups
        return Batch(
            inputs,
            [str(ids[index]) for index in indices.tolist()],
            self._labels[indices],
            None if groups is None else groups[indices],
        )

    def _inputs(self, name: str, rows: Int[Tensor, " batch"]) -> Inputs:
        """One modality of these rows; a row of -1 has none."""
        mask = rows >= 0
        if isinstance(self.dataset, ArrayDataset):  # nothing else is read
            inputs = self.dataset.columns[name].take(rows[mask], name)
        else:
            inputs = self.dataset.batch(rows[mask]).inputs[name]
        positions = torch.full_like(rows, -1)
        positions[mask] = inputs.rows
        return Inputs(inputs.values, positions)


class _Pool:
    """The rows of each class that have a modality: `order[starts[c] : starts[c] + counts[c]]`."""

    def __init__(self, labels: Int[Tensor, " n"], present: Bool[Tensor, " n"]) -> None:
        rows = present.nonzero()[:, 0]
        self.order = rows[labels[rows].argsort(stable=True)]
        self.counts = labels[rows].bincount(minlength=int(labels.max()) + 1 if len(labels) else 0)
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self, labels: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """A row of each class; -1 where none has the modality. As many numbers are drawn whichever are missing."""
        share = torch.rand(len(labels), dtype=torch.float64)
        counts = self.counts[labels]
        places = self.starts[labels] + (share * counts).long().clamp_max(counts - 1)
        if not len(self.order):
            return torch.full_like(labels, -1)
        return torch.where(counts > 0, self.order[places.clamp(0, len(self.order) - 1)], -1)
