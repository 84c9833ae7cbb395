"""Data sets as columns by modality name, and the protocol that training, inference and evaluation read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

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

    >>> import torch
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
        self.columns = dict(columns)
        self._length = next(iter(lengths.values()))
        for what, given in (("labels", labels), ("ids", ids), ("groups", groups)):
            if given is not None and len(given) != self._length:
                raise ValueError(f"{what}: expected {self._length}, one a row of the columns; got {len(given)}")
        if labels is not None and class_names is not None and self._length:
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= len(class_names):
                raise ValueError(
                    f"labels: expected 0 to {len(class_names) - 1} for {len(class_names)} class names; "
                    f"got {low} to {high}"
                )
        for name, column in self.columns.items():
            column.check(name)
        self._labels = None if labels is None else labels.long()
        self._ids = [str(row) for row in range(self._length)] if ids is None else list(ids)
        self._class_names = None if class_names is None else tuple(class_names)
        self.groups = None if groups is None else groups.long()

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the columns, in the order given."""
        return tuple(self.columns)

    @property
    def labels(self) -> Int[Tensor, " n"] | None:
        """The class of each row, if known."""
        return self._labels

    @property
    def ids(self) -> Sequence[str]:
        """A name for each row."""
        return self._ids

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What each label means."""
        return self._class_names

    @property
    def present(self) -> dict[str, Bool[Tensor, " n"]]:
        """By modality, which rows have it."""
        return {name: column.present for name, column in self.columns.items()}

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
            ids=[self._ids[index] for index in indices.tolist()],
            labels=None if self._labels is None else self._labels[indices],
            groups=None if self.groups is None else self.groups[indices],
        )
