"""A column whose rows are read from their sources when a batch asks for them."""

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from confu.data.columns import Indices
from confu.data.parallel import in_threads
from confu.data.readers import Reader
from confu.data.readers.source import Source
from confu.types import Inputs

Where = Callable[[int], str]


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
        self, sources: Sequence[Source | None], reader: Reader, workers: int = 0, where: Where | None = None
    ) -> None:
        self.sources = list(sources)
        self.reader = reader
        self.workers = workers
        self.where = where or row_number

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """(n,) the rows that have a source."""
        return present_rows(self.sources)

    def check(self, modality: str) -> None:
        """See `Column`; each source is checked when it is read."""

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`.

        Raises:
            ValueError: a source that cannot be read, with its row.
        """
        chosen = [row for row in indices.tolist() if self.sources[row] is not None]
        first = first_rows(self.sources, chosen)
        distinct = list(dict.fromkeys(first.values()))
        items = list(in_threads(self._read, distinct, min(self.workers, len(distinct))))
        position = {row: number for number, row in enumerate(distinct)}
        rows = [-1 if self.sources[row] is None else position[first[row]] for row in indices.tolist()]
        return Inputs(self.reader.collate(items), torch.tensor(rows, dtype=torch.long))

    def _read(self, row: int) -> Tensor | str:
        return read_row(self.reader, self.sources[row], row, self.where)


def read_row(reader: Reader, source: Source, row: int, where: Where) -> Tensor | str:
    """What a reader makes of a row's source; its errors name the row."""
    try:
        return reader.read(source)
    except ValueError as error:
        raise ValueError(f"{where(row)}: {error}") from error


def row_number(row: int) -> str:
    """How a row is named where nothing more is known of it."""
    return f"row {row}"


def present_rows(sources: Sequence[Source | None]) -> Bool[Tensor, " n"]:
    """(n,) True where there is a source.

    >>> present_rows(["a.png", None]).tolist()
    [True, False]
    """
    return torch.tensor([source is not None for source in sources], dtype=torch.bool)


def first_rows(sources: Sequence[Source | None], rows: Sequence[int]) -> dict[int, int]:
    """Of each of these rows, the first of them that has the same path, text or object.

    Args:
        sources: of all rows.
        rows: with a source each.

    >>> first_rows(["a.png", "b.png", "a.png"], [2, 1, 0])
    {2: 2, 1: 1, 0: 2}
    """
    seen: dict[Hashable, int] = {}
    first = {}
    for row in rows:
        source = sources[row]
        same = str(source) if isinstance(source, str | Path) else (id(source),)
        first[row] = seen.setdefault(same, row)
    return first
