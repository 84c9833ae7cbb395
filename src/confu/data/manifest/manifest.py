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
from confu.data.manifest.cells import cells, filled, source_of
from confu.data.media import KINDS
from confu.data.readers.source import Source

ROLES = ("id", "label", "split", "group")
"""Columns that are no modality, known by these names."""

SPLITS = ("train", "validation", "test")
_SPLIT_NAMES = {**dict.fromkeys(("valid", "val", "dev"), "validation"), "training": "train", "testing": "test"}


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
        names = self._role("id") or [None] * len(self)
        return [str(row) if name is None else name for row, name in enumerate(names)]

    @cached_property
    def labels(self) -> list[str | None] | None:
        """The class of each row, None where it is not known; None if there is no column `label`."""
        return self._role("label")

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
        """A column of the table.

        Raises:
            ValueError: there is none of this name.
        """
        check_known(f"{self.address}: column", name, self.table.column_names)
        return self.table[name]

    def where(self, row: int, column: str) -> str:
        """Where a cell stands, for a message: `row 17 (id cat-3), column 'photo'`."""
        return f"row {row} (id {self.ids[row]}), column {column!r}"

    def take(self, rows: Sequence[int]) -> "Manifest":
        """These rows, in this order. Rows that had only a number for a name keep it as their id."""
        table = self.table
        if "id" not in table.column_names:
            table = table.append_column("id", pa.array(self.ids, pa.large_string()))
        return Manifest(self.address, self.base, table.take(pa.array(rows, pa.int64())), self.allow_outside)

    def _role(self, name: str) -> list[str | None] | None:
        if name not in self.table.column_names:
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


def split_rows(
    groups: Sequence[str | None] | None, n: int, seed: int = 0, shares: Sequence[float] = (0.8, 0.1, 0.1)
) -> list[str]:
    """A split for every row, near the shares; rows of one group share theirs.

    Groups are drawn in random order, larger ones first, each into the split that lacks most rows of its share. A
    split whose share is not 0 gets at least one group.

    Args:
        groups: (n,) the group of each row, None for a row of its own; None if there are no groups.
        n: rows.
        seed: 0 or more. The same arguments give the same splits on any machine.
        shares: of train, validation and test, in that order; they sum to 1.

    Returns:
        (n,) "train", "validation" or "test".

    Raises:
        ValueError: shares that are no shares; fewer groups than splits.

    Example:
        >>> split_rows(["a", "a", "b", "c", "a", "c"], 6)
        ['train', 'train', 'test', 'validation', 'train', 'validation']
    """
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(
            f"shares: expected three that sum to 1, of train, validation and test, e.g. (0.8, 0.1, 0.1); got {shares}"
        )
    if groups is not None and len(groups) != n:
        raise ValueError(f"groups: expected {n}, one a row; got {len(groups)}")
    members: dict[tuple[str, str | int], list[int]] = {}
    for row in range(n):
        group = None if groups is None else groups[row]
        members.setdefault(("row", row) if group is None else ("group", group), []).append(row)
    empty = [split for split, share in enumerate(shares) if share > 0]
    if len(members) < len(empty):
        what = "rows" if groups is None else "groups"
        raise ValueError(
            f"{n} rows make {len(members)} {what}, too few for {len(empty)} splits; give more rows, a column 'split', "
            "or shares with a 0 in them"
        )
    units = list(members.values())
    order = np.random.default_rng(seed).permutation(len(units))
    units = sorted((units[position] for position in order), key=len, reverse=True)  # stable: equal ones stay shuffled
    lacking = [share * n for share in shares]
    splits = [""] * n
    for position, rows in enumerate(units):
        # As many groups left as splits without one: each of these gets one.
        choice = empty if len(units) - position <= len(empty) else [s for s in range(3) if shares[s] > 0]
        split = max(choice, key=lambda candidate: lacking[candidate])
        lacking[split] -= len(rows)
        empty = [other for other in empty if other != split]
        for row in rows:
            splits[row] = SPLITS[split]
    return splits
