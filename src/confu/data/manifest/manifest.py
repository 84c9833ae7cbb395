"""A manifest: a table with one row a sample, one column a modality, and where its files lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from confu.checks import check_known
from confu.data.manifest.address import FileResolver
from confu.data.manifest.cells import Source, cells, filled, source_of
from confu.data.manifest.kinds import KINDS, ROLES
from confu.data.manifest.problem import place_of

_SPLITS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Manifest:
    """One row a sample, one column a modality; the columns id, label, split and group have a role of their own.

    Attributes:
        address: what was read, in full.
        base: the full address of the folder where relative paths start.
        table: the cells as they are stored; see `cells` for what counts as missing.
        allow_outside: follow paths that leave `base`.

    >>> clips = Manifest("/data/clips.csv", "/data", pa.table({"id": ["a", "b"], "photo": ["1.png", ""]}))
    >>> clips.columns, clips.sources("photo", "image")
    (('photo',), ['/data/1.png', None])
    """

    address: str
    base: str
    table: pa.Table
    allow_outside: bool = False

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that may be modalities, in the table's order."""
        return tuple(name for name in self.table.column_names if name not in ROLES)

    @cached_property
    def ids(self) -> list[str]:
        """One name a row: the column `id`, or the row's number where that is missing.

        `check_labels` finds those that stand twice.
        """
        named = self._role("id")
        if named is None:
            return [str(row) for row in range(len(self))]
        return [str(row) if name is None else name for row, name in enumerate(named)]

    @cached_property
    def labels(self) -> list[str | None] | None:
        """The class of each row, None where it is not known; None if there is no column `label`."""
        return self._role("label")

    @cached_property
    def splits(self) -> list[str | None] | None:
        """Each row's split, "val", "valid" and "dev" as "validation"; a name that is not known stays as it is."""
        named = self._role("split")
        return None if named is None else [None if name is None else split_name(name) for name in named]

    @cached_property
    def groups(self) -> list[str | None] | None:
        """The group of each row: rows of one group belong together, e.g. pictures of one scene."""
        return self._role("group")

    def sources(self, column: str, kind: str) -> list[Source | None]:
        """What a reader of this kind gets of each row: full addresses, texts, bytes, arrays or numbers.

        Args:
            column: by name.
            kind: one of `KINDS`: what the cells are to be read as.

        Returns:
            one a row; None where the cell is missing.

        Raises:
            ValueError: no such column or kind; a path that leaves the folder, naming row, id and column.
        """
        check_known("kind", kind, KINDS)
        resolve = FileResolver(self.base, self.allow_outside)
        found = []
        for row, cell in enumerate(cells(self.column(column))):
            try:
                found.append(source_of(cell, kind, resolve))
            except ValueError as error:
                raise ValueError(f"{self.where(row, column)}: {error} [{cell!r}]") from error
        return found

    def present(self, column: str) -> Bool[np.ndarray, " n"]:
        """(n,) bool: the rows whose cell is not missing."""
        return np.array(filled(self.column(column)))

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the table.

        Raises:
            ValueError: there is none of this name.
        """
        check_known(f"{self.address}: column", name, self.table.column_names)
        return self.table[name]

    def where(self, row: int, column: str) -> str:
        """Where a cell stands, for a message: `row 17 (id cat-3), column 'photo'`."""
        return place_of(row, self.ids[row], column)

    def take(self, rows: Sequence[int]) -> "Manifest":
        """These rows, in this order. Rows that had only a number for a name keep it as their id."""
        table = self.table
        if "id" not in table.column_names:
            table = table.append_column("id", pa.array(self.ids, pa.large_string()))
        return Manifest(self.address, self.base, table.take(pa.array(rows, pa.int64())), self.allow_outside)

    def _role(self, name: str) -> list[str | None] | None:
        if name not in self.table.column_names:
            return None
        found = cells(self.table[name])
        for row, cell in enumerate(found):
            if isinstance(cell, np.ndarray | list | dict):
                raise ValueError(f"row {row}, column {name!r}: expected one name or number; got {cell!r}")
        return [role_text(cell) for cell in found]


def role_text(cell: Any) -> str | None:
    """An id, label, split or group as text; whole numbers without a decimal point.

    >>> role_text(3.0), role_text("cat"), role_text(None)
    ('3', 'cat', None)
    """
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, bytes):
        cell = cell.decode()
    return None if cell is None else str(cell)


def split_name(name: str) -> str:
    """ "train", "validation" or "test" for what people write for them; any other name as it is.

    >>> split_name("Val"), split_name("holdout")
    ('validation', 'holdout')
    """
    return _SPLITS.get(name.strip().lower(), name)
