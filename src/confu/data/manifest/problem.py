"""What is wrong with one cell of a manifest, as data: it can be listed, counted, stored, and its row set aside."""

from dataclasses import dataclass
from typing import Any

WHOLE_COLUMN = -1
"""The row of a problem that no single row is to blame for, such as a column that is all empty."""

_SHOWN = 60


@dataclass(frozen=True)
class Problem:
    """What is wrong with a cell, or with a column.

    Attributes:
        row: counted from 0; `WHOLE_COLUMN` if setting rows aside would not help.
        id: of the row; "" for a whole column.
        column: of the manifest.
        source: the file's address, or the start of what the cell holds.
        what: what is wrong, and what to do.

    >>> print(Problem(17, "cat-3", "photo", "photos/3.png", "no such file"))
    row 17 (id cat-3), column 'photo': no such file [photos/3.png]
    """

    row: int
    id: str
    column: str
    source: str
    what: str

    def __str__(self) -> str:
        place = f"column {self.column!r}" if self.row < 0 else place_of(self.row, self.id, self.column)
        shown = "" if not self.source or self.source in self.what else f" [{self.source}]"
        return f"{place}: {self.what}{shown}"


def place_of(row: int, id: str, column: str) -> str:
    """Where a cell stands, as every message says it."""
    return f"row {row} (id {id}), column {column!r}"


def described(source: Any, whole: bool = False) -> str:
    """The address of a file, or what a cell holds, for a message.

    Args:
        source: of a cell.
        whole: do not cut a long string: the start of a text is enough, that of an address is not.

    >>> described(b"12345"), described([1.0, 2.0]), described("a" * 70)[-8:]
    ('5 bytes', 'a list of 2', 'aaaaa...')
    """
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    if hasattr(source, "shape"):
        return f"an array of shape {tuple(source.shape)}"
    if isinstance(source, list):
        return f"a list of {len(source)}"
    text = str(source)
    return text if whole or len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
