"""What one modality of a data set is stored as, and how the rows of a batch are taken from it.

A column answers four questions: how many rows it has (`len`), which of them have a value (`present`), whether the
values are sound (`check`), and what the encoder gets for some rows (`take`).
"""

import copy
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.data.readers.text import Tokenizer
from confu.types import Inputs

Indices = Int[Tensor, " batch"]
_CHUNK_BYTES = 16 * 2**20  # a check must not need a second copy of the data


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
        self.values = values
        self.missing = missing
        self.scale = scale
        self.shape = shape
        self.augment = augment

    def __len__(self) -> int:
        return len(self.values)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """See `Column`."""
        return torch.ones(len(self), dtype=torch.bool) if self.missing is None else ~self.missing

    def check(self, modality: str) -> None:
        """See `Column`. A memory map is checked batch by batch instead: reading all of it here would take minutes."""
        if isinstance(self.values, np.memmap) or not _is_float(self.values):
            return
        row_bytes = max(1, int(np.prod(self.values.shape[1:])) * self.values.dtype.itemsize)
        step = max(1, _CHUNK_BYTES // row_bytes)
        for start in range(0, len(self), step):
            rows = torch.arange(start, min(start + step, len(self)))
            if self.missing is not None:
                rows = rows[~self.missing[rows]]
            _require_finite(self._gather(rows), rows, modality)

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`."""
        rows = torch.arange(len(indices))
        if self.missing is not None:
            present = ~self.missing[indices]
            rows = torch.where(present, present.cumsum(0) - 1, -1)
            indices = indices[present]
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
        sequences: (steps, features) each, at least one step; None where a row lacks this modality.

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
        present = [sequence for sequence in chosen if sequence is not None]
        found = torch.tensor([sequence is not None for sequence in chosen], dtype=torch.bool)
        rows = torch.where(found, found.cumsum(0) - 1, -1)
        longest = max((len(sequence) for sequence in present), default=0)
        values = torch.zeros(len(present), longest, self.dim)
        mask = torch.zeros(len(present), longest, dtype=torch.bool)
        for row, sequence in enumerate(present):
            values[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = True
        return Inputs({"values": values, "mask": mask}, rows)


class CaptionColumn:
    """Texts that repeat: a list of distinct captions, and which of them each row has.

    A batch holds only its distinct captions, so that a caption of many rows is encoded once.

    Args:
        captions: the captions, tokenised once, here.
        index: (n,) the caption of each row; -1 where a row lacks this modality.
        tokenizer: e.g. a `WordVocabulary`.
        deduplicate: False gives every row its own copy of its caption.

    >>> from confu.data.readers.text import WordVocabulary
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
        self._tokens = tokenizer.encode(self.captions)
        self._lengths = self._tokens["attention_mask"].sum(1)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """See `Column`."""
        return self.index >= 0

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens."""
        return sum(tokens.nbytes for tokens in self._tokens.values())

    def on(self, device: torch.device | str) -> "CaptionColumn":
        """The same column with its tokens on a device."""
        made = copy.copy(self)
        made._tokens = {name: tokens.to(device) for name, tokens in self._tokens.items()}
        return made

    def check(self, modality: str) -> None:
        """See `Column`; token numbers are always finite."""

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`."""
        wanted = self.index[indices]
        present = wanted >= 0
        if self.deduplicate:
            distinct, positions = wanted[present].unique(return_inverse=True)
        else:
            distinct, positions = wanted[present], torch.arange(int(present.sum()))
        rows = torch.full_like(wanted, -1)
        rows[present] = positions
        longest = int(self._lengths[distinct].max()) if len(distinct) else 0
        return Inputs({name: tokens[distinct, :longest] for name, tokens in self._tokens.items()}, rows)


def _is_float(values: Tensor | np.ndarray) -> bool:
    return values.is_floating_point() if isinstance(values, Tensor) else np.issubdtype(values.dtype, np.floating)


def _require_finite(values: Tensor, rows: Tensor, modality: str) -> None:
    sound = values.isfinite().flatten(1).all(1)
    if not sound.all():
        row = int(rows[~sound][0])
        raise ValueError(
            f"modality {modality!r}, row {row}: holds NaN or infinity; "
            "repair the value, drop the row, or mark the row as missing this modality"
        )
