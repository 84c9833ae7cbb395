"""Data sets made from another data set: what they do not change, they pass on."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.data.columns import Indices
from confu.data.dataset import Dataset
from confu.types import Batch


class DatasetView:
    """A data set as it is; a subclass changes its rows, its inputs, or both.

    Args:
        dataset: any; it stays as it is.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

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
        """By modality, which rows have it: all of them in a data set that does not say it."""
        known = getattr(self.dataset, "present", {})
        return {name: known.get(name, torch.ones(len(self.dataset), dtype=torch.bool)) for name in self.modalities}

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, indices: Indices) -> Batch:
        """See `Dataset`."""
        return self.dataset.batch(indices)


class RowsOf(DatasetView):
    """Some rows of a data set, in the order given.

    Args:
        dataset: any.
        rows: (rows,) indices into it.

    >>> from confu.data import ArrayDataset, TensorColumn
    >>> data = ArrayDataset({"image": TensorColumn(torch.tensor([[1.0], [2.0], [3.0]]))})
    >>> RowsOf(data, torch.tensor([2, 0])).batch(torch.tensor([0])).inputs["image"].values.tolist()
    [[3.0]]
    """

    def __init__(self, dataset: Dataset, rows: Int[Tensor, " rows"]) -> None:
        super().__init__(dataset)
        self.rows = rows

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
    def groups(self) -> Int[Tensor, " rows"] | None:
        """What each row belongs to, if known."""
        groups = super().groups
        return None if groups is None else groups[self.rows]

    @property
    def present(self) -> dict[str, Bool[Tensor, " rows"]]:
        """By modality, which rows have it."""
        return {name: mask[self.rows] for name, mask in super().present.items()}

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Indices) -> Batch:
        """See `Dataset`."""
        return self.dataset.batch(self.rows[indices])
