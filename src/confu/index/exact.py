"""The exact store: every vector is compared, read through memory maps; its files are those of `storage.py`."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from confu.index import columns
from confu.index.backend import Change, NewIds, Ranking
from confu.index.catalog import About, WriterLock
from confu.index.conditions import Condition, Filter, translate
from confu.index.items import Items, stack_vectors
from confu.index.scan import Nearest, nearest
from confu.index.storage import Storage, crc, letters, place_code
from confu.plan import Subset

FILES = re.compile(r"items\.(db(-\w+)?|\d+-\d+\.f32)")
_PIECE = 1 << 16  # vectors in memory at once
_MASKS = 8  # of conditions, kept for the next search
_COMPACT = 1024  # deleted rows below which a write does not compact


def create(folder: Path, about: About, options: Mapping[str, Any]) -> "ExactStore":
    """An empty store in a folder without an `index.json`, open for writing."""
    return _opened(folder, about, options, True, new=True)


def open_(folder: Path, about: About, options: Mapping[str, Any], writable: bool) -> "ExactStore":
    """The store of a folder; a writer first removes files that a killed one left."""
    return _opened(folder, about, options, writable)


def _opened(folder: Path, about: About, options: Mapping[str, Any], writable: bool, new: bool = False) -> "ExactStore":
    if options:
        raise ValueError(f"the exact store has no options; got {', '.join(options)}")
    lock = WriterLock(folder) if writable else None
    for path in folder.iterdir() if new else ():  # left by a process that was killed before it wrote `index.json`
        if FILES.fullmatch(path.name):
            path.unlink()
    return ExactStore(about, Storage(folder, len(about.subsets), about.dim, lock, new))


class ExactStore:
    """A backend that needs no other package, and finds exactly the nearest."""

    def __init__(self, about: About, storage: Storage) -> None:
        self.about, self.storage = about, storage
        self.options: dict[str, Any] = {}
        self._generation = -1
        self._slots: dict[int, np.ndarray] = {}
        self._deleted: list[int] = []
        self._masks: dict[Any, Tensor] = {}

    @property
    def schema(self) -> pa.Schema:
        """The columns of metadata."""
        return columns.schema_from_json(self.storage.state["columns"])

    @property
    def source(self) -> dict[str, Any] | None:
        """What the items were made of, as the last write said."""
        return self.storage.state["source"]

    @property
    def dial(self) -> tuple[str, int] | None:
        """None: nothing to trade for recall."""
        return None

    def __len__(self) -> int:
        with self.storage.reading():
            return self.storage.state["live"]

    def ids(self) -> Iterator[str]:
        """Every id, in the order in which the items came."""
        with self.storage.reading():
            return iter([id for (id,) in self.storage.sql("SELECT id FROM item ORDER BY row")])

    def search(
        self, queries: Float[Tensor, "queries dim"], target: Subset, k: int, where: Sequence[Filter] = ()
    ) -> list[Ranking]:
        """The k nearest of all that fit."""
        number = self.about.subsets.index(target)
        with self.storage.reading():
            scores, slots = self.scan(number, queries, k, self._allowed(number, tuple(where)))
            slot_rows = self._slot_rows(number)
            rows = slots if slot_rows is None else torch.from_numpy(slot_rows)[slots]
            ids = dict(self.storage.select("row, id", "row", list(set(rows.flatten().tolist()))))
        return [[(ids[row], score) for row, score in zip(*line)] for line in zip(rows.tolist(), scores.tolist())]

    def scan(
        self, number: int, queries: Float[Tensor, "queries dim"], k: int, allowed: Bool[Tensor, " slots"] | None
    ) -> Nearest:
        """The k nearest of the vectors of a subset that are allowed."""
        return nearest(queries, self.storage.vectors(number), k, allowed)

    def fetch(self, ids: Sequence[str]) -> Items:
        """Stored items in this order."""
        n = len(self.about.subsets)
        with self.storage.reading():
            names = ", ".join(["id", "media", *letters("s", n), *letters("m", len(self.schema))])
            records = {record[0]: record for record in self.storage.select(names, "id", list(dict.fromkeys(ids)))}
            if missing := [id for id in ids if id not in records]:
                raise KeyError(missing[0])
            ordered = [records[id] for id in ids]
            vectors = {}
            for number, subset in enumerate(self.about.subsets):
                stored = self.storage.vectors(number)
                slots = [record[2 + number] for record in ordered]
                vectors[subset] = [None if slot is None else stored[slot] for slot in slots]
            metadata = {
                field.name: columns.from_numbers([record[number] for record in ordered], field.type)
                for number, field in enumerate(self.schema, start=2 + n)
            }
            table = stack_vectors(ids, vectors, self.about.dim)
        return Items.from_media(table, pa.table(metadata), [json.loads(record[1] or "{}") for record in ordered])

    def add(self, parts: Iterable[Items], replace: bool = False, source: dict[str, Any] | None = None) -> Change:
        """Store items part after part, all of them or none."""
        new, state = NewIds(replace), self.storage.state
        if state["rows"] - state["live"] > max(state["live"], _COMPACT):
            self.compact()
        with self.storage.writing() as state:
            for items in parts:
                self._insert(state, items, new)
            state["source"] = state["source"] if source is None else source
        return new.change

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items; their vectors stay in the files until `compact`."""
        with self.storage.reading():
            rows = [row for (row,) in self.storage.select("row", "id", list(dict.fromkeys(ids)))]
        if rows or self.storage.lock is None:  # which is an error
            with self.storage.writing() as state:
                self._remove(state, rows)
        return len(rows)

    def compact(self) -> None:
        """Write the vectors that are left into files of the next generation, and remove the old ones."""
        n, storage = len(self.about.subsets), self.storage
        slots = letters("s", n)
        if storage.lock is not None and storage.state["live"] == storage.state["rows"]:
            return
        with storage.writing() as state:
            records = storage.sql(f"SELECT row, checksum, {', '.join(slots)} FROM item ORDER BY row").fetchall()
            storage.sql("DELETE FROM block")
            storage.sql("DELETE FROM deleted")
            old = [storage.vectors(number) for number in range(n)]
            state |= {"generation": state["generation"] + 1, "rows": len(records), "slots": [0] * n}
            for number in range(n):
                used = [record[2 + number] for record in records if record[2 + number] is not None]
                for start in range(0, len(used), _PIECE):
                    storage.append(state, number, old[number][used[start : start + _PIECE]].numpy())
            counts, changes = [0] * n, []
            for row, (before, checksum, *places) in enumerate(records):
                moved: list[int | None] = [None] * n
                for number, place in enumerate(places):
                    if place is not None:
                        moved[number] = counts[number]
                        counts[number] += 1
                checksum ^= place_code(before, places) ^ place_code(row, moved)
                changes.append((row, checksum, *moved, before))
            assigned = ", ".join(f"{name} = ?" for name in ("row", "checksum", *slots))
            # In ascending order no row goes where another one still is.
            storage.connection.executemany(f"UPDATE item SET {assigned} WHERE row = ?", changes)
        storage.sweep()

    def refresh(self) -> bool:
        """See what another process has committed since."""
        return self.storage.refresh()

    def with_dial(self, value: int | None) -> "ExactStore":
        """The same store; it has no dial."""
        return self

    def verify(self) -> list[str]:
        """Read everything again and report damage."""
        try:
            fresh = Storage(self.storage.folder, len(self.about.subsets), self.about.dim, None)
        except ValueError as error:
            return [str(error)]
        try:
            return fresh.damage()
        finally:
            fresh.close()

    def close(self) -> None:
        """Let another process write."""
        self.storage.close()

    def _insert(self, state: dict[str, Any], items: Items, new: NewIds) -> None:
        storage, table, ids, n, first = self.storage, items.table, list(items.table.ids), len(items), state["rows"]
        existing = dict(storage.select("id, row", "id", ids)) if storage.state["live"] else {}
        new.check(ids, list(existing))
        self._remove(state, list(existing.values()))
        metadata = columns.plain_columns(items.metadata)
        schema = columns.merged_schema(columns.schema_from_json(state["columns"]), metadata.schema)
        for name in letters("m", len(schema))[len(state["columns"]) :]:
            storage.sql(f"ALTER TABLE item ADD COLUMN {name}")
        state["columns"] = columns.schema_to_json(schema)
        slots = []
        for number, subset in enumerate(self.about.subsets):
            places: list[int | None] = [None] * n
            if subset in table:
                mask, start, vectors = table.complete[subset].cpu(), state["slots"][number], table[subset].cpu()
                storage.append(state, number, (vectors if bool(mask.all()) else vectors[mask]).numpy())
                for place, row in enumerate(mask.nonzero()[:, 0].tolist(), start=start):
                    places[row] = place
            slots.append(places)
        media: list[str | None] = [None] * n
        if items.media:
            media = [json.dumps(one, ensure_ascii=False) if (one := items.media_of(row)) else None for row in range(n)]
        held = columns.cast_columns(metadata, schema, n)
        values = [columns.to_numbers(held[name]) for name in schema.names]
        for place, kind in enumerate(schema.types):
            if pa.types.is_list(kind):
                values[place] = [one if one is None else json.dumps(one, ensure_ascii=False) for one in values[place]]
        rows = range(first, first + n)
        own = [crc(record) for record in zip(ids, media, *values)]
        checksums = [one ^ place_code(row, places) for one, row, places in zip(own, rows, zip(*slots))]
        names = ["row", "id", "media", "checksum", *letters("s", len(slots)), *letters("m", len(schema))]
        statement = f"INSERT INTO item ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        storage.connection.executemany(statement, zip(rows, ids, media, checksums, *slots, *values))
        state["rows"] += n
        state["live"] += n

    def _remove(self, state: dict[str, Any], rows: Sequence[int]) -> None:
        for statement in ("DELETE FROM item WHERE row = ?", "INSERT INTO deleted VALUES (?)"):
            self.storage.connection.executemany(statement, [(row,) for row in rows])
        state["live"] -= len(rows)

    # Rows are only ever added in a generation: what is kept of one in memory only grows.

    def _allowed(self, number: int, where: tuple[Filter, ...]) -> Tensor | None:
        """(slots,) bool: the vectors of items that are there and fit; None for all."""
        state = self.storage.state
        if state["generation"] != self._generation:
            self._generation, self._slots, self._deleted = state["generation"], {}, []
        rows = state["rows"]
        if rows == state["live"] and not where:
            return None
        key = state["version"], number, where
        if key not in self._masks:
            if where:
                mask = np.zeros(rows, dtype=bool)
                mask[self._fitting(where)] = True
            else:
                mask = np.ones(rows, dtype=bool)
                statement = "SELECT row FROM deleted WHERE rowid > ?"
                self._deleted += [row for (row,) in self.storage.sql(statement, len(self._deleted))]
                mask[self._deleted] = False
            slot_rows = self._slot_rows(number)
            if slot_rows is not None:
                mask = mask[slot_rows] & (slot_rows >= 0)
            kept = [old for old in self._masks if old[0] == state["version"]][1 - _MASKS :]
            self._masks = {old: self._masks[old] for old in kept} | {key: torch.from_numpy(mask)}
        return self._masks[key]

    def _slot_rows(self, number: int) -> np.ndarray | None:
        """(slots,) the row of each vector, -1 if it was deleted before this was read; None if every row has one."""
        slots = self.storage.state["slots"][number]
        if slots == self.storage.state["rows"]:
            return None
        known = self._slots.get(number, np.empty(0, np.int64))
        if len(known) < slots:
            statement = f"SELECT s{number}, row FROM item WHERE row > ? AND s{number} IS NOT NULL"
            pairs = self.storage.sql(statement, int(known.max(initial=-1))).fetchall()
            known = np.concatenate([known, np.full(slots - len(known), -1)])
            places, rows = np.array(pairs, np.int64).reshape(-1, 2).T
            known[places] = rows
            self._slots[number] = known
        return known

    def _fitting(self, where: Sequence[Filter]) -> np.ndarray:
        """The rows of the items that fit."""
        schema, parameters = self.schema, []

        def leaf(condition: Condition) -> str:
            name, operator = f"m{schema.get_field_index(condition.column)}", condition.operator
            kind = schema.field(condition.column).type
            if operator.endswith("null"):
                return f"{name} {operator}"
            values = condition.value if isinstance(condition.value, tuple) else [condition.value]
            parameters.extend(columns.to_numbers(pa.array(values, kind.value_type if pa.types.is_list(kind) else kind)))
            if operator.endswith("contains"):
                fits = f"instr({name}, ?) > 0"
                if pa.types.is_list(kind):
                    fits = f"EXISTS (SELECT 1 FROM json_each({name}) WHERE value = ?)"
                return f"({name} IS NOT NULL AND {'NOT ' if operator.startswith('not') else ''}{fits})"
            return f"{name} {operator} " + (f"({', '.join('?' * len(values))})" if operator.endswith("in") else "?")

        clause = translate(where, leaf, lambda kind, parts: f"({f' {kind.__name__.upper()} '.join(parts)})")
        # One text of all rows is read at several times the speed of as many records.
        (rows,) = self.storage.sql(f"SELECT group_concat(row) FROM item WHERE {clause}", *parameters).fetchone()
        return np.fromstring(rows, np.int64, sep=",") if rows else np.empty(0, np.int64)
