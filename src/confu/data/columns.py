"""What one modality of a data set is stored as, and how the rows of a batch are taken from it.

A column answers four questions: how many rows it has (`len`), which of them have a value (`present`), whether the
values are sound (`check`), and what the encoder gets for some rows (`take`). One that knows which rows have the same
value says it by `contents`: (n,) equal numbers for equal values, -1 for none.
"""

import copy
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.data.parallel import in_threads
from confu.data.readers.reader import Reader
from confu.data.readers.source import Source, padded
from confu.data.readers.text import Tokenizer
from confu.types import Inputs

Indices = Int[Tensor, " batch"]
_CHUNK_BYTES = 16 * 2**20  # a check must not need a second copy of the data
_TOKENISED = 1024  # captions that are padded to one length at a time


@runtime_checkable
class Column(Protocol):
    """One modality of a data set."""

    def __len__(self) -> int: ...

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """Which rows have this modality; known without reading the values."""
        ...

    def check(self, modality: str) -> None:
        """Raise a ValueError that names the modality and the row of the first value that is no finite number."""
        ...

    def take(self, indices: Indices, modality: str) -> Inputs:
        """The inputs of these rows."""
        ...


class TensorColumn:
    """One array of equal shape a row, in memory or memory-mapped.

    Args:
        values: (n, ...) tensor or numpy array, e.g. from `np.load(..., mmap_mode="r")`. Floats of any width become
            float32 in a batch, integers int64.
        missing: (n,) bool, True where a row lacks this modality; its values are never looked at.
        scale: the stored value that shall become 1.0, e.g. 255 for uint8 pixels. The batch then holds float32.
        shape: the shape of one row in a batch, if it differs from the stored one, e.g. (1, 28, 28) for 784 pixels.
        augment: changes the stored values of a batch at random before they are scaled, from torch's random state.

    >>> column = TensorColumn(torch.tensor([[0], [255], [51]], dtype=torch.uint8), scale=255)
    >>> column.take(torch.tensor([2, 1]), "image").values.tolist()
    [[0.20000000298023224], [1.0]]
    """

    def __init__(
        self,
        values: Tensor | np.ndarray,
        missing: Bool[Tensor, " n"] | None = None,
        scale: float | None = None,
        shape: tuple[int, ...] | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not len(values.shape):
            raise ValueError("values: expected an array with one entry a row; got a single number")
        if missing is not None and missing.shape != (len(values),):
            raise ValueError(f"missing: expected shape ({len(values)},) as values has rows; got {tuple(missing.shape)}")
        if scale is not None and not 0 < scale < float("inf"):
            raise ValueError(f"scale: expected a positive number (the value that becomes 1.0); got {scale}")
        if shape is not None and np.prod(shape) != np.prod(values.shape[1:]):
            raise ValueError(f"shape: a row holds {tuple(values.shape[1:])}, which does not reshape to {shape}")
        # A plain array is shared with torch; a memory map stays numpy so that only the rows of a batch are read.
        if isinstance(values, np.ndarray) and not isinstance(values, np.memmap) and values.flags.writeable:
            values = torch.from_numpy(values)
        self.values, self.missing = values, missing
        self.scale, self.shape, self.augment = scale, shape, augment

    def __len__(self) -> int:
        return len(self.values)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """See `Column`."""
        return torch.ones(len(self), dtype=torch.bool) if self.missing is None else ~self.missing

    def check(self, modality: str) -> None:
        """See `Column`. A memory map is checked batch by batch instead: reading all of it here would take minutes."""
        floats = (
            self.values.dtype.is_floating_point if isinstance(self.values, Tensor) else self.values.dtype.kind == "f"
        )
        if isinstance(self.values, np.memmap) or not floats:
            return
        row_bytes = max(1, int(np.prod(self.values.shape[1:])) * self.values.dtype.itemsize)
        for rows in torch.arange(len(self)).split(max(1, _CHUNK_BYTES // row_bytes)):
            if self.missing is not None:
                rows = rows[~self.missing[rows]]
            _require_finite(self._gather(rows), rows, modality)

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`."""
        rows = torch.arange(len(indices))
        if self.missing is not None:
            present = ~self.missing[indices]
            rows, indices = numbered(present), indices[present]
        values = self._gather(indices)
        if isinstance(self.values, np.memmap) and values.is_floating_point():
            _require_finite(values, indices, modality)
        if self.augment is not None:
            values = self.augment(values)
        if self.scale is not None:
            values = values.to(torch.float32).div_(self.scale)  # in place: the gathered rows are a copy
        else:
            values = values.to(torch.float32 if values.is_floating_point() else torch.int64)
        return Inputs(values if self.shape is None else values.reshape(-1, *self.shape), rows)

    def _gather(self, indices: Tensor) -> Tensor:
        if isinstance(self.values, np.ndarray):
            return torch.from_numpy(np.asarray(self.values[indices.numpy()]))
        return self.values.index_select(0, indices.to(self.values.device))


class SequenceColumn:
    """Sequences of differing length, padded with zeros to the longest of each batch.

    A batch holds `values` (present, longest, features) float32 and `mask` (present, longest) bool, True at real steps.

    Args:
        sources: (steps, features) each, at least one step; None where a row lacks this modality.

    >>> column = SequenceColumn([torch.ones(2, 3), None, torch.ones(1, 3)])
    >>> inputs = column.take(torch.tensor([2, 1, 0]), "audio")
    >>> inputs.rows.tolist(), inputs.values["mask"].tolist()
    ([0, -1, 1], [[True, False], [True, True]])
    """

    def __init__(self, sequences: Sequence[Tensor | np.ndarray | None]) -> None:
        self.sequences = [None if s is None else torch.as_tensor(s, dtype=torch.float32) for s in sequences]
        features = {s.shape[1:] for s in self.sequences if s is not None}
        for row, sequence in enumerate(self.sequences):
            if sequence is not None and (sequence.ndim != 2 or not len(sequence)):
                raise ValueError(
                    f"sequences: row {row}: expected (steps, features) with at least one step, "
                    f"got {tuple(sequence.shape)}; give None for a row without this modality"
                )
        if len(features) != 1:
            sizes = sorted(size[0] for size in features)
            raise ValueError(f"sequences: all rows need the same number of features; got {sizes or 'no sequence'}")
        self.dim = next(iter(features))[0]

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """See `Column`."""
        return torch.tensor([sequence is not None for sequence in self.sequences], dtype=torch.bool)

    def check(self, modality: str) -> None:
        """See `Column`."""
        for row, sequence in enumerate(self.sequences):
            if sequence is not None:
                _require_finite(sequence[None], torch.tensor([row]), modality)

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`."""
        chosen = [self.sequences[index] for index in indices.tolist()]
        present = torch.tensor([sequence is not None for sequence in chosen], dtype=torch.bool)
        return Inputs(padded([sequence for sequence in chosen if sequence is not None], (self.dim,)), numbered(present))


class CaptionColumn:
    """Texts that repeat: a list of distinct captions, and which of them each row has.

    A batch holds only its distinct captions, so that a caption of many rows is encoded once.

    Args:
        captions: the captions, tokenised once, here.
        index: (n,) the caption of each row; -1 where a row lacks this modality.
        tokenizer: e.g. a `WordVocabulary`.
        deduplicate: False gives every row its own copy of its caption.

    >>> from confu.data import WordVocabulary
    >>> captions = ["a one", "a two"]
    >>> column = CaptionColumn(captions, torch.tensor([0, 1, 1]), WordVocabulary.from_texts(captions))
    >>> inputs = column.take(torch.tensor([2, 1]), "text")
    >>> inputs.values["input_ids"].shape, inputs.rows.tolist()
    (torch.Size([1, 3]), [0, 0])
    """

    def __init__(
        self, captions: Sequence[str], index: Int[Tensor, " n"], tokenizer: Tokenizer, deduplicate: bool = True
    ) -> None:
        if len(index) and not (int(index.min()) >= -1 and int(index.max()) < len(captions)):
            raise ValueError(
                f"index: expected -1 (missing) to {len(captions) - 1} for {len(captions)} captions; "
                f"got {int(index.min())} to {int(index.max())}"
            )
        self.captions = list(captions)
        self.index = index.long()
        self.tokenizer = tokenizer
        self.deduplicate = deduplicate
        # One after another without padding, so that one long caption does not widen all of them.
        parts: list[dict[str, Tensor]] = []
        for start in range(0, max(1, len(self.captions)), _TOKENISED):
            tokens = tokenizer.encode(self.captions[start : start + _TOKENISED])
            real = tokens["attention_mask"].bool()
            parts.append({name: values[real] for name, values in tokens.items()} | {"": real.sum(1)})
        tokens = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        self._lengths = tokens.pop("")
        self._starts = self._lengths.cumsum(0) - self._lengths
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self.index)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """See `Column`."""
        return self.index >= 0

    @property
    def contents(self) -> Int[Tensor, " n"]:
        """The caption of each row."""
        return self.index

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens."""
        return sum(tokens.nbytes for tokens in self._tokens.values())

    def on(self, device: torch.device | str) -> "CaptionColumn":
        """The same column with its tokens on a device."""
        moved = copy.copy(self)
        moved._tokens = {name: tokens.to(device) for name, tokens in self._tokens.items()}
        return moved

    def check(self, modality: str) -> None:
        """See `Column`; token numbers are always finite."""

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`."""
        index = self.index[indices]
        captions, rows = distinct(index) if self.deduplicate else (index[index >= 0], numbered(index >= 0))
        places, mask = ragged_places(self._starts[captions], self._lengths[captions])
        device = self._tokens["attention_mask"].device
        places, mask = places.to(device), mask.to(device)
        values = {name: tokens[places] * mask for name, tokens in self._tokens.items()}
        return Inputs(values, rows)


class SourceColumn:
    """Rows that are read and decoded at every batch, no more than the batch needs.

    Rows with the same path or text share one input, so that it is read and encoded once a batch.

    Args:
        sources: one a row, e.g. a path; None where a row lacks this modality.
        reader: reads them.
        workers: threads that read a batch; 0 reads in the caller's.
        where: names a row in messages, e.g. "row 17 (id cat-3), column 'photo'"; None is "row 17".

    >>> from confu.data.readers import VectorReader
    >>> column = SourceColumn([[1.0, 2.0], None, [3.0, 4.0]], VectorReader(2))
    >>> inputs = column.take(torch.tensor([2, 1]), "sensor")
    >>> inputs.values.tolist(), inputs.rows.tolist()
    ([[3.0, 4.0]], [0, -1])
    """

    def __init__(
        self,
        sources: Sequence[Source | None],
        reader: Reader,
        workers: int = 0,
        where: Callable[[int], str] = "row {}".format,
    ) -> None:
        self.sources = list(sources)
        self.reader, self.workers, self.where = reader, workers, where

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """(n,) the rows that have a source."""
        return torch.tensor([source is not None for source in self.sources], dtype=torch.bool)

    def check(self, modality: str) -> None:
        """See `Column`; each source is checked when it is read."""

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`.

        Raises:
            ValueError: a source that cannot be read, with its row.
        """
        first = first_rows(self.sources, [row for row in indices.tolist() if self.sources[row] is not None])
        position = {row: number for number, row in enumerate(dict.fromkeys(first.values()))}
        items = list(in_threads(self._read, position, min(self.workers, len(position))))
        rows = [position[first[row]] if row in first else -1 for row in indices.tolist()]
        return Inputs(self.reader.collate(items), torch.tensor(rows, dtype=torch.long))

    def _read(self, row: int) -> Tensor | str:
        try:
            return self.reader.read(self.sources[row])
        except ValueError as error:
            raise ValueError(f"{self.where(row)}: {error}") from error


def first_rows(sources: Sequence[Source | None], rows: Sequence[int]) -> dict[int, int]:
    """Of each of these rows, the first of them that has the same path, text or object.

    >>> first_rows(["a.png", "b.png", "a.png"], [2, 1, 0])
    {2: 2, 1: 1, 0: 2}
    """
    seen: dict[Hashable, int] = {}
    same = {row: str(s) if isinstance(s := sources[row], str | Path) else (id(s),) for row in rows}
    return {row: seen.setdefault(same[row], row) for row in rows}


def ragged_places(
    starts: Int[Tensor, " items"], lengths: Int[Tensor, " items"]
) -> tuple[Int[Tensor, "items longest"], Bool[Tensor, "items longest"]]:
    """Where the steps of items that stand one after another are, 0 at padding, and which of them are no padding.

    >>> [part.tolist() for part in ragged_places(torch.tensor([4, 0]), torch.tensor([1, 2]))]
    [[[4, 0], [0, 1]], [[True, False], [True, True]]]
    """
    step = torch.arange(int(lengths.max()) if len(lengths) else 0)
    mask = step < lengths[:, None]
    return torch.where(mask, starts[:, None] + step, 0), mask


def numbered(present: Bool[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """0, 1, 2, ... in the rows that are present, -1 in the others."""
    return torch.where(present, present.cumsum(0) - 1, -1)


def distinct(index: Int[Tensor, " batch"]) -> tuple[Int[Tensor, " distinct"], Int[Tensor, " batch"]]:
    """The distinct numbers of 0 or more in ascending order, and where each row's stands among them; -1 stays.

    >>> [part.tolist() for part in distinct(torch.tensor([5, -1, 2, 5]))]
    [[2, 5], [1, -1, 0, 1]]
    """
    present = index >= 0
    numbers, positions = index[present].unique(return_inverse=True)
    rows = torch.full_like(index, -1)
    rows[present] = positions
    return numbers, rows


def _require_finite(values: Tensor, rows: Tensor, modality: str) -> None:
    sound = values.isfinite().flatten(1).all(1)
    if not sound.all():
        row = int(rows[~sound][0])
        raise ValueError(
            f"modality {modality!r}, row {row}: holds NaN or infinity; "
            "repair the value, drop the row, or mark the row as missing this modality"
        )
