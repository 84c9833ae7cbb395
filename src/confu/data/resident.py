"""A data set that lives on the device: its values are copied there once, and a batch is then taken from them there."""

import copy
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from confu.data.columns import CaptionColumn, Column, Indices, SequenceColumn, TensorColumn, numbered, ragged_places
from confu.data.dataset import ArrayDataset, Dataset, DatasetView, RowsOf
from confu.data.gaps import IncompleteDataset
from confu.types import Inputs

_SHARE = 0.8  # of the device's free memory; a step needs some too


def resident(datasets: Sequence[Dataset], device: torch.device | str) -> list[Dataset]:
    """The same data sets with their values on the device; on a CPU they are there already, and nothing is copied.

    Batches hold the same numbers. Only what is drawn by a column's `augment` comes from the device's random state.

    Args:
        datasets: `ArrayDataset`s in memory, or rows of them; what two of them share is copied once.
        device: to copy to.

    Raises:
        ValueError: if one is not in memory, or all together do not fit in the device's free memory.

    >>> from confu.data import ArrayDataset, TensorColumn
    >>> data = ArrayDataset({"image": TensorColumn(torch.tensor([[1.0], [2.0]]))})
    >>> resident([data], "cpu")[0] is data
    True
    """
    device = torch.device(device)
    if device.type == "cpu":
        return list(datasets)
    columns: dict[int, tuple[str, Column]] = {}
    for dataset in datasets:
        columns |= {id(column): (name, column) for name, column in _base(dataset).columns.items()}
    sizes: Counter[str] = Counter()
    for name, column in columns.values():
        sizes[name] += _bytes(name, column)
    _check_room(sizes, device)
    moved = {key: on_device(name, column, device) for key, (name, column) in columns.items()}
    return [_with_columns(dataset, moved) for dataset in datasets]


def on_device(modality: str, column: Column, device: torch.device | str) -> Column:
    """A column whose values are on the device, with the same inputs in a batch.

    Raises:
        ValueError: if its values are not in memory, or it is of a kind that is not known.
    """
    _bytes(modality, column)
    if isinstance(column, TensorColumn):
        moved = copy.copy(column)
        moved.values = torch.as_tensor(
            np.array(column.values) if isinstance(column.values, np.ndarray) else column.values
        )
        moved.values = moved.values.to(device)
        return moved
    if isinstance(column, CaptionColumn):
        return column.on(device)
    assert isinstance(column, SequenceColumn)
    return _Sequences(column, device)


class _Sequences:
    """The sequences of a `SequenceColumn` one after another, so that a batch is one selection."""

    def __init__(self, column: SequenceColumn, device: torch.device | str) -> None:
        self.present: Bool[Tensor, " n"] = column.present
        self.lengths = torch.tensor([0 if sequence is None else len(sequence) for sequence in column.sequences])
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.steps = torch.cat([sequence for sequence in column.sequences if sequence is not None]).to(device)

    def __len__(self) -> int:
        return len(self.lengths)

    def check(self, modality: str) -> None:
        """See `Column`; the sequences were checked before."""

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`."""
        present = self.present[indices]
        lengths, starts = self.lengths[indices[present]], self.starts[indices[present]]
        places, mask = ragged_places(starts, lengths)
        places, mask = places.to(self.steps.device), mask.to(self.steps.device)
        values = self.steps.index_select(0, places.flatten()).view(*places.shape, self.steps.shape[1])
        return Inputs({"values": torch.where(mask[..., None], values, 0), "mask": mask}, numbered(present))


def _base(dataset: Dataset) -> ArrayDataset:
    """What is below views that choose rows and leave the values alone."""
    while isinstance(dataset, RowsOf | IncompleteDataset):
        dataset = dataset.dataset
    if not isinstance(dataset, ArrayDataset):
        raise ValueError(
            f"resident needs data that is in memory: an ArrayDataset, or rows of one; {type(dataset).__name__} makes "
            "its batches as they are asked for. Leave resident out for it"
        )
    return dataset


def _with_columns(dataset: Dataset, moved: dict[int, Column]) -> Dataset:
    changed = copy.copy(dataset)
    if isinstance(changed, DatasetView):
        changed.dataset = _with_columns(changed.dataset, moved)
    else:
        assert isinstance(changed, ArrayDataset)
        changed.columns = {name: moved[id(column)] for name, column in changed.columns.items()}
    return changed


def _bytes(modality: str, column: Column) -> int:
    if isinstance(column, TensorColumn) and not isinstance(column.values, np.memmap):
        return int(column.values.nbytes)
    if isinstance(column, CaptionColumn):
        return column.nbytes
    if isinstance(column, SequenceColumn):
        return sum(sequence.nbytes for sequence in column.sequences if sequence is not None)
    what = "is memory-mapped" if isinstance(column, TensorColumn) else f"is read by {type(column).__name__}"
    raise ValueError(
        f"resident needs data that is in memory, but modality {modality!r} ({len(column)} rows) {what}. "
        "Read it into memory first, or leave resident out"
    )


def _check_room(sizes: dict[str, int], device: torch.device) -> None:
    if device.type != "cuda":  # no other device says how much is free
        return
    free, _ = torch.cuda.mem_get_info(device)
    needed = sum(sizes.values())
    if needed > _SHARE * free:
        parts = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in sizes.items())
        raise ValueError(
            f"resident: the data needs {needed / 2**30:.2f} GiB ({parts}), more than {_SHARE:.0%} of the "
            f"{free / 2**30:.2f} GiB that are free on {device}. Leave resident out, or take fewer rows or modalities"
        )
