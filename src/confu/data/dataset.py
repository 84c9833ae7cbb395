"""Data sets as columns by modality name, data sets made from others, and the protocol that everything else reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.data.columns import Column, Indices
from confu.types import Batch


@runtime_checkable
class Dataset(Protocol):
    """Rows that are fetched by the batch, so that no per-row Python runs in training."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the modalities, in a fixed order."""
        ...

    @property
    def labels(self) -> Int[Tensor, " n"] | None:
        """The class of each row, if known."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """A name for each row."""
        ...

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What each label means."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: Indices) -> Batch:
        """These rows, in this order; an index may repeat."""
        ...


@dataclass(frozen=True)
class Splits:
    """A data set in the three parts of an experiment, which share no row."""

    train: Dataset
    validation: Dataset
    test: Dataset


class ArrayDataset:
    """A data set whose columns are held in memory or memory-mapped.

    Args:
        columns: by modality name; all of one length. Finite values are checked here (memory maps: at each batch).
        labels: (n,) class indices.
        ids: one name a row, by default "0", "1", ...
        class_names: what each label means.
        groups: (n,) rows of one group mean the same thing (see `Batch.groups`); -1 is a row of no group.

    Raises:
        ValueError: columns, labels, ids or groups of differing lengths; NaN or infinity; a label without a class name.

    >>> from confu.data.columns import TensorColumn
    >>> data = ArrayDataset({"image": TensorColumn(torch.rand(3, 4)), "audio": TensorColumn(torch.rand(3, 2))})
    >>> data.modalities, len(data.batch(torch.tensor([2, 0])))
    (('image', 'audio'), 2)
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        labels: Int[Tensor, " n"] | None = None,
        ids: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        groups: Int[Tensor, " n"] | None = None,
    ) -> None:
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns: expected at least one, all with the same number of rows; got {lengths}")
        self._length = next(iter(lengths.values()))
        for what, values in (("labels", labels), ("ids", ids), ("groups", groups)):
            if values is not None and len(values) != self._length:
                raise ValueError(f"{what}: expected {self._length}, one a row of the columns; got {len(values)}")
        if labels is not None and class_names is not None and self._length:
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= len(class_names):
                raise ValueError(
                    f"labels: expected 0 to {len(class_names) - 1} for {len(class_names)} class names; "
                    f"got {low} to {high}"
                )
        for name, column in columns.items():
            column.check(name)
        self.columns = dict(columns)
        self.labels: Int[Tensor, " n"] | None = None if labels is None else labels.long()
        self.ids: list[str] = [str(row) for row in range(self._length)] if ids is None else list(ids)
        self.class_names: tuple[str, ...] | None = None if class_names is None else tuple(class_names)
        self.groups: Int[Tensor, " n"] | None = None if groups is None else groups.long()

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the columns, in the order given."""
        return tuple(self.columns)

    @property
    def present(self) -> dict[str, Bool[Tensor, " n"]]:
        """By modality, which rows have it."""
        return {name: column.present for name, column in self.columns.items()}

    @property
    def contents(self) -> dict[str, Int[Tensor, " n"]]:
        """By modality, equal numbers for equal values; of the columns that know it (see `Batch.contents`)."""
        known = {name: getattr(column, "contents", None) for name, column in self.columns.items()}
        return {name: numbers for name, numbers in known.items() if numbers is not None}

    def __len__(self) -> int:
        return self._length

    def batch(self, indices: Indices) -> Batch:
        """These rows, in this order; an index may repeat.

        Raises:
            ValueError: an index outside the data set; NaN or infinity in a memory-mapped row.
        """
        indices = indices.long().cpu()
        if len(indices) and not (int(indices.min()) >= 0 and int(indices.max()) < self._length):
            raise ValueError(
                f"indices: expected 0 to {self._length - 1}; got {int(indices.min())} to {int(indices.max())}"
            )
        return Batch(
            inputs={name: column.take(indices, name) for name, column in self.columns.items()},
            ids=[self.ids[index] for index in indices.tolist()],
            labels=None if self.labels is None else self.labels[indices],
            groups=None if self.groups is None else self.groups[indices],
            contents={name: numbers[indices] for name, numbers in self.contents.items()},
        )


class DatasetView:
    """A data set as it is; a subclass changes its rows, its inputs, or both.

    Args:
        dataset: any; it stays as it is.

    Attributes:
        changed: modalities whose values it changes, so that their contents are not those of `dataset`.
    """

    changed: frozenset[str] = frozenset()

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
    def contents(self) -> dict[str, Int[Tensor, " n"]]:
        """By modality, equal numbers for equal values, where they are known and stay as they are."""
        known: dict[str, Tensor] = getattr(self.dataset, "contents", {})
        return {name: numbers for name, numbers in known.items() if name not in self.changed}

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

    >>> from confu.data import TensorColumn
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
    def contents(self) -> dict[str, Int[Tensor, " rows"]]:
        """By modality, equal numbers for equal values, where they are known."""
        return {name: numbers[self.rows] for name, numbers in super().contents.items()}

    @property
    def present(self) -> dict[str, Bool[Tensor, " rows"]]:
        """By modality, which rows have it."""
        return {name: mask[self.rows] for name, mask in super().present.items()}

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Indices) -> Batch:
        """See `Dataset`."""
        return self.dataset.batch(self.rows[indices])


def row_contents(dataset: Dataset, batch_size: int = 256) -> dict[str, Int[Tensor, " n"]]:
    """By modality, equal numbers for rows with equal inputs, -1 in rows without one; see `Batch.contents`.

    A data set that does not know it for all of its modalities is read once.
    """
    known: dict[str, Tensor] = getattr(dataset, "contents", {})
    if all(name in known for name in dataset.modalities):
        return known
    parts = [dataset.batch(rows).with_contents().contents for rows in torch.arange(len(dataset)).split(batch_size)]
    return {name: torch.cat([part[name] for part in parts]) for name in dataset.modalities} if parts else {}
