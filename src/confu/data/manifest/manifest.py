"""A manifest: a table with one row a sample, one column a modality, and where its files lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from confu.checks import check_known
from confu.data.manifest.address import FileResolver
from confu.data.manifest.cells import cells, filled, is_list, is_text, source_of
from confu.data.media import KINDS
from confu.data.readers.source import Source

ROLES = ("id", "label", "split", "group")
"""What a column can be that is no modality; unless `TableOptions.roles` says otherwise, the columns of these names."""

_MISSING = "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null"
_ERRORS = "NaT|#REF!|#VALUE!|#DIV/0!|#NAME?|#NUM!|#NULL!"
PANDAS_MISSING = (*_MISSING.split("|"), *_ERRORS.split("|"))
"""The texts that pandas and spreadsheets write for a missing cell: those that `pandas.read_csv` reads as missing, what
it writes for a missing date, and the errors of spreadsheets."""

SPLITS = ("train", "validation", "test")
_SPLIT_NAMES = {**dict.fromkeys(("valid", "val", "dev"), "validation"), "training": "train", "testing": "test"}


@dataclass(frozen=True)
class TableOptions:
    """How the columns and cells of a table are to be understood.

    Attributes:
        roles: each of `ROLES` with its column, or None for none; None: the columns of these names, as they are spelled.
        missing: texts that mean a missing cell, e.g. `PANDAS_MISSING`, in every column but that of the ids. An empty
            text always does.
        separator: what stands between several labels of one cell, e.g. ";"; None: a text is one label.
    """

    roles: Mapping[str, str | None] | None = None
    missing: Sequence[str] = ()
    separator: str | None = None

    def column_of(self, role: str) -> str | None:
        """The name of the column that has a role, whether a table has it or not."""
        return role if self.roles is None else self.roles.get(role)

    @property
    def role_columns(self) -> tuple[str, ...]:
        """The names of all of them."""
        return tuple(name for name in map(self.column_of, ROLES) if name is not None)


AS_NAMED = TableOptions()
"""The columns id, label, split and group have their roles, and only an empty text is a missing one."""


@dataclass(frozen=True, eq=False)
class Manifest:
    """One row a sample, one column a modality; those of the ids, labels, splits and groups have a role of their own.

    Attributes:
        address: what was read, in full.
        base: the full address of the folder where relative paths start.
        table: the cells as they are stored; see `cells` for what counts as missing.
        allow_outside: follow paths that leave `base`.
        options: which columns have which role, and which texts mean a missing cell.
        emptied: (column, text) -> the cells that held one of these texts, and are missing in the table.

    >>> clips = Manifest("/data/clips.csv", "/data", pa.table({"id": ["a", "b"], "photo": ["1.png", ""]}))
    >>> clips.columns, clips.sources("photo", "image")
    (('photo',), ['/data/1.png', None])
    """

    address: str
    base: str
    table: pa.Table
    allow_outside: bool = False
    options: TableOptions = AS_NAMED
    emptied: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that may be modalities, in the table's order."""
        return tuple(name for name in self.table.column_names if name not in self.options.role_columns)

    def role_column(self, role: str) -> str | None:
        """The column of the table that has this role, one of `ROLES`; None if there is none."""
        name = self.options.column_of(role)
        return name if name in self.table.column_names else None

    @cached_property
    def ids(self) -> list[str]:
        """One name a row: the column of the ids, or the row's number where that is missing.

        `check_labels` finds those that stand twice.
        """
        names = self._role("id") or [None] * len(self)
        return [str(row) if name is None else name for row, name in enumerate(names)]

    @cached_property
    def labels(self) -> list[str | None] | None:
        """The class of each row, None where it is not known; None without such a column, or if it holds several a row.

        `label_sets` has those.
        """
        return None if self.has_label_sets else self._role("label")

    @property
    def has_label_sets(self) -> bool:
        """Whether a cell of the labels may hold several: a list, or texts with a separator."""
        name = self.role_column("label")
        return name is not None and (is_list(self.table[name].type) or self.options.separator is not None)

    @cached_property
    def label_sets(self) -> list[tuple[str, ...]] | None:
        """The classes of each row, () where none is known; None if there is no column of labels."""
        if not self.has_label_sets:
            return None if self.labels is None else [() if label is None else (label,) for label in self.labels]
        sets: list[tuple[str, ...]] = []
        name = str(self.role_column("label"))
        if is_list(kind := self.table[name].type) and not (
            is_text(kind.value_type) or pa.types.is_integer(kind.value_type)
        ):
            raise ValueError(
                f"{self.address}: column {name!r}: expected a class, or a list of the names or numbers of classes; got "
                f"a list of {kind.value_type}. Write the names of each row's classes, or choose another column "
                "(--label COLUMN, data.roles)"
            )
        for cell in cells(self.table[name]):
            values = [] if cell is None else cell if isinstance(cell, list | np.ndarray) else [cell]
            texts = [text for text in map(role_text, values) if text is not None]
            if self.options.separator is not None:
                texts = [part.strip() for text in texts for part in text.split(self.options.separator)]
            sets.append(tuple(dict.fromkeys(text for text in texts if text and text not in self.options.missing)))
        return sets

    @cached_property
    def splits(self) -> list[str | None] | None:
        """Each row's split, "val", "valid" and "dev" as "validation"; a name that is not known stays as it is."""
        names = self._role("split")
        return None if names is None else [None if name is None else split_name(name) for name in names]

    @cached_property
    def groups(self) -> list[str | None] | None:
        """The group of each row: rows of one group belong together, e.g. pictures of one scene."""
        return self._role("group")

    def sources(self, column: str, kind: str) -> list[Source | None]:
        """What a reader of this kind, one of `KINDS`, gets of each row: addresses, texts, bytes, arrays or numbers.

        Returns:
            one a row; None where the cell is missing.

        Raises:
            ValueError: no such column or kind; a path that leaves the folder, naming row, id and column.
        """
        check_known("kind", kind, KINDS)
        resolve = FileResolver(self.base, self.allow_outside)
        sources = []
        for row, cell in enumerate(cells(self.column(column))):
            try:
                sources.append(source_of(cell, kind, resolve))
            except ValueError as error:
                raise ValueError(f"{self.where(row, column)}: {error} [{cell!r}]") from error
        return sources

    def present(self, column: str) -> Bool[np.ndarray, " n"]:
        """(n,) bool: the rows whose cell is not missing."""
        return np.array(filled(self.column(column)))

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the table, or the records of several: `a+b` (see `joined_name`) is a struct of `a` and `b`.

        Raises:
            ValueError: there is none of this name.
        """
        if (parts := self._joined_parts(name)) is None:
            check_known(f"{self.address}: column", name, self.table.column_names)
            return self.table[name]
        if name not in self._records:
            for part in parts:
                check_known(f"{self.address}: column", part, self.table.column_names)
            table = self.table.select(parts).combine_chunks()
            self._records[name] = pa.chunked_array([table.to_struct_array().combine_chunks()])
        return self._records[name]

    def has(self, column: str) -> bool:
        """Whether there is a column of this name, or all columns of a joined one."""
        return set(self._joined_parts(column) or [column]) <= set(self.table.column_names)

    @cached_property
    def _records(self) -> dict[str, pa.ChunkedArray]:
        return {}

    def _joined_parts(self, name: str) -> list[str] | None:
        if "+" not in name or name in self.table.column_names:
            return None
        return [part for part in name.split("+") if part]

    def where(self, row: int, column: str) -> str:
        """Where a cell stands, for a message: `row 17 (id cat-3), column 'photo'`."""
        return f"row {row} (id {self.ids[row]}), column {column!r}"

    def take(self, rows: Sequence[int]) -> "Manifest":
        """These rows, in this order. Rows that had only a number for a name keep it as their id."""
        table, options = self.table, self.options
        if self.role_column("id") is None:
            name = next(name for name in ("id", *(f"id_{i}" for i in range(2, 9999))) if name not in table.column_names)
            table = table.append_column(name, pa.array(self.ids, pa.large_string()))
            options = replace(options, roles={role: options.column_of(role) for role in ROLES} | {"id": name})
        return replace(self, table=table.take(pa.array(rows, pa.int64())), options=options)

    def _role(self, role: str) -> list[str | None] | None:
        if (name := self.role_column(role)) is None:
            return None
        values = cells(self.table[name])
        for row, cell in enumerate(values):
            if isinstance(cell, np.ndarray | list | dict):
                raise ValueError(f"row {row}, column {name!r}: expected one name or number; got {cell!r}")
        return [role_text(cell) for cell in values]


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
    plain = name.strip().lower()
    return plain if plain in SPLITS else _SPLIT_NAMES.get(plain, name)
