"""The exact store: flat float32 files searched by `top_k`, and SQLite for everything else.

    items.db              ids, metadata, deletions and commits
    items.<g>-<n>.f32     vectors of subset n in generation g, (slots, dim); only ever appended to

A write appends vectors, syncs them, and commits one SQLite transaction last: bytes beyond the committed count belong to
no item, and the next write goes over them. An item has a `row`, in the order of arrival, and for each subset a `slot`
in that subset's file, null where it has no vector. A deletion changes the database only; `compact` writes the vectors
that are left to files of the next generation. A reader sees the state of its last `refresh`.
"""

import hashlib
import json
import os
import re
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from confu.embeddings import EmbeddingTable
from confu.index import columns
from confu.index.about import About
from confu.index.backend import Change, NewIds, Ranking
from confu.index.catalog import WriterLock, sync_folder
from confu.index.conditions import Condition
from confu.index.items import Items
from confu.index.scan import Nearest, nearest
from confu.plan import Subset

FILES = re.compile(r"items\.(db(-\w+)?|\d+-\d+\.f32)")
_PIECE = 1 << 16  # vectors in memory at once
_VARIABLES = 500  # of one SQL statement
_MASKS = 8  # of conditions, kept for the next search
_COMPACT = 1024  # deleted rows below which a write does not compact
_TRIES = 20
_UNIT = 1e-3  # how far from 1 the length of a stored vector may be
_SYNC = getattr(os, "fdatasync", os.fsync)


def create(folder: Path, about: About, options: Mapping[str, Any]) -> "ExactStore":
    """An empty store in a folder without an `index.json`, open for writing."""
    _check_options(options)
    lock = WriterLock(folder)
    for path in folder.iterdir():  # left by a process that was killed before it wrote `index.json`
        if FILES.fullmatch(path.name):
            path.unlink()
    return ExactStore(folder, about, lock, new=True)


def open_(folder: Path, about: About, options: Mapping[str, Any], writable: bool) -> "ExactStore":
    """The store of a folder; a writer first removes files that a killed one left."""
    _check_options(options)
    return ExactStore(folder, about, WriterLock(folder) if writable else None)


def _check_options(options: Mapping[str, Any]) -> None:
    if options:
        raise ValueError(f"the exact store has no options; got {', '.join(options)}")


class ExactStore:
    """Compares every vector, read through memory maps; needs no other package.

    Args:
        folder: of the index.
        about: with the subsets and the dim.
        lock: of the writer; None to read.
        new: make the tables.
    """

    dial = None

    def __init__(self, folder: Path, about: About, lock: WriterLock | None, new: bool = False) -> None:
        self.folder, self.about = folder, about
        self.options: dict[str, Any] = {}
        self._lock = lock
        self._thread = threading.RLock()  # all threads share the transaction of one connection
        self._db: sqlite3.Connection | None = None
        self._state: dict[str, Any] = {}
        self._files: dict[int, IO[bytes]] = {}  # of the write that is under way
        self._clear()
        try:
            self._connect(new)
            if lock is not None:
                self._sweep()
        except BaseException:
            self.close()
            raise

    @property
    def schema(self) -> pa.Schema:
        """The columns of metadata."""
        return columns.schema_from_json(self._state["columns"])

    @property
    def source(self) -> dict[str, Any] | None:
        """What the items were made of, as the last write said."""
        return self._state["source"]

    def __len__(self) -> int:
        with self._reading():
            return self._state["live"]

    def ids(self) -> Iterator[str]:
        """Every id, in the order in which the items came."""
        with self._reading():
            return iter([id for (id,) in self._sql("SELECT id FROM item ORDER BY row")])

    def search(
        self,
        queries: Float[Tensor, "queries dim"],
        target: Subset,
        k: int,
        where: Sequence[Condition] = (),
        scan: Callable[..., Nearest] = nearest,
    ) -> list[Ranking]:
        """The k nearest of all that fit, as `scan(queries, vectors, k, allowed)` finds them."""
        number = self.about.subsets.index(target)
        with self._reading():
            scores, slots = scan(queries, self.vectors(number), k, self._allowed(number, tuple(where)))
            slot_rows = self._slot_rows(number)
            rows = slots if slot_rows is None else torch.from_numpy(slot_rows)[slots]
            ids = dict(self._select("row, id", "row", list(set(rows.flatten().tolist()))))
        return [[(ids[row], score) for row, score in zip(*line)] for line in zip(rows.tolist(), scores.tolist())]

    def fetch(self, ids: Sequence[str]) -> Items:
        """Stored items in this order."""
        subsets = self.about.subsets
        with self._reading():
            names = ["id", "media", *self._names("s", len(subsets)), *self._names("m", len(self.schema))]
            records = {record[0]: record for record in self._select(", ".join(names), "id", list(dict.fromkeys(ids)))}
            if missing := [id for id in ids if id not in records]:
                raise KeyError(missing[0])
            ordered = [records[id] for id in ids]
            vectors, complete = {}, {}
            for number, subset in enumerate(subsets):
                slots = [record[2 + number] for record in ordered]
                mask = complete[subset] = torch.tensor([slot is not None for slot in slots], dtype=torch.bool)
                vectors[subset] = torch.zeros(len(ids), self.about.dim)
                vectors[subset][mask] = self.vectors(number)[[slot for slot in slots if slot is not None]]
            first = 2 + len(subsets)
            metadata = {
                field.name: columns.from_numbers([record[number] for record in ordered], field.type)
                for number, field in enumerate(self.schema, start=first)
            }
        media = [json.loads(record[1] or "{}") for record in ordered]
        return Items.from_media(EmbeddingTable(tuple(ids), vectors, complete), pa.table(metadata), media)

    def add(self, parts: Iterable[Items], replace: bool = False, source: dict[str, Any] | None = None) -> Change:
        """Store items part after part, all of them or none."""
        self._check_writable()
        new = NewIds(replace)
        if self._state["rows"] - self._state["live"] > max(self._state["live"], _COMPACT):
            self.compact()
        with self._writing() as state:
            for items in parts:
                self._insert(state, items, new)
            state["source"] = state["source"] if source is None else source
        return new.change

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items; their vectors stay in the files until `compact`."""
        self._check_writable()
        with self._thread:
            rows = [row for (row,) in self._select("row", "id", list(dict.fromkeys(ids)))]
            if rows:
                with self._writing() as state:
                    self._remove(state, rows)
        return len(rows)

    def compact(self) -> None:
        """Write the vectors that are left into new files, and remove the old ones."""
        self._check_writable()
        if self._state["live"] == self._state["rows"]:
            return
        n = len(self.about.subsets)
        slots = self._names("s", n)
        with self._writing() as state:
            records = self._sql(f"SELECT row, checksum, {', '.join(slots)} FROM item ORDER BY row").fetchall()
            self._sql("DELETE FROM block")
            self._sql("DELETE FROM deleted")
            old = [self.vectors(number) for number in range(n)]
            state |= {"generation": state["generation"] + 1, "rows": len(records), "slots": [0] * n}
            for number in range(n):
                used = [record[2 + number] for record in records if record[2 + number] is not None]
                for start in range(0, len(used), _PIECE):
                    self._append(state, number, old[number][used[start : start + _PIECE]].numpy())
            counts, changes = [0] * n, []
            for row, (before, checksum, *places) in enumerate(records):
                moved: list[int | None] = [None] * n
                for number, place in enumerate(places):
                    if place is not None:
                        moved[number] = counts[number]
                        counts[number] += 1
                checksum ^= crc([before, *places]) ^ crc([row, *moved])
                changes.append((row, checksum, *moved, before))
            assigned = ", ".join(f"{name} = ?" for name in ("row", "checksum", *slots))
            # In ascending order no row goes where another one still is.
            self._connection.executemany(f"UPDATE item SET {assigned} WHERE row = ?", changes)
        self._sweep()

    def refresh(self) -> bool:
        """See what another process has committed since."""
        if self._lock is not None:
            return False
        with self._thread:
            before = self._state["version"]
            if self._immutable is None:
                self._open_snapshot()
            elif self._immutable != self._stamp():
                self._connection.close()
                self._connect()
            return self._state["version"] != before

    def with_dial(self, value: int | None) -> "ExactStore":
        """The same store; it has no dial."""
        return self

    def verify(self) -> list[str]:
        """Read everything again and report damage."""
        try:
            fresh = ExactStore(self.folder, self.about, None)
        except ValueError as error:
            return [str(error)]
        try:
            return fresh.damage()
        finally:
            fresh.close()

    def damage(self) -> list[str]:
        """Compare everything with its checksums; files are read, not mapped, as one may have been cut."""
        path, live, end, n = self.folder / "items.db", 0, 0, len(self.about.subsets)
        try:
            with self._reading():
                problems = [f"{path}: {text}" for (text,) in self._sql("PRAGMA integrity_check") if text != "ok"]
                names = ", ".join([*self._names("s", n), "id", "media", *self._names("m", len(self.schema))])
                for row, expected, *values in self._sql(f"SELECT row, checksum, {names} FROM item"):
                    live += 1
                    if crc([row, *values[:n]]) ^ crc(values[n:]) != expected:
                        problems.append(f"{path}: item {values[n]!r} is not as it was written")
                if live != self._state["live"]:
                    problems.append(f"{path}: has {live} items; {self._state['live']} were written")
                for number in range(n):
                    path, end, blocks = self.vector_file(number), 0, self.blocks(number)
                    for start, count, expected in blocks:
                        problems += self._block_damage(path, start, count, expected) if start == end else []
                        end = start + count
                    if end != self._state["slots"][number]:
                        problems.append(f"{path}: has {end} vectors; {self._state['slots'][number]} were written")
            return problems
        except (ValueError, OSError) as error:
            return [str(error)]

    def _block_damage(self, path: Path, start: int, count: int, expected: str) -> list[str]:
        digest, off, width = hashlib.sha256(), 0, self.about.dim * 4
        with path.open("rb") as file:
            file.seek(start * width)
            for first in range(0, count, _PIECE):
                data = file.read(min(_PIECE, count - first) * width)
                digest.update(data)
                vectors = np.frombuffer(data[: len(data) // width * width], "<f4").reshape(-1, self.about.dim)
                off += int((~(np.abs(np.linalg.norm(vectors, axis=1) - 1) <= _UNIT)).sum())
        if digest.hexdigest() != expected:
            return [f"{path}: vectors {start} to {start + count - 1} are not as they were written"]
        return [f"{path}: {off} vectors from {start} on have no length of 1"] if off else []

    def close(self) -> None:
        """Let another process write."""
        with self._thread:
            self._clear()
            if self._db is not None:
                self._db.close()
            if self._lock is not None:
                self._lock.release()
            self._db = self._lock = None

    # What a store built on this one (FAISS) reads of it.

    def vectors(self, number: int) -> Float[Tensor, "slots dim"]:
        """The memory-mapped vectors of a subset by its number, those of deleted items among them."""
        slots = self._state["slots"][number]
        known = self._maps.get(number)
        if not slots:
            return torch.empty(0, self.about.dim)
        if known is None or len(known) < slots:
            path = self.vector_file(number)
            try:
                # Copy on write: torch takes no read-only arrays, and nothing written to this one reaches the file.
                known = torch.from_numpy(np.memmap(path, "<f4", "c", shape=(slots, self.about.dim)))
            except ValueError as error:
                raise ValueError(f"{path} is shorter than it was written ({error}); index again") from error
            self._maps[number] = known
        return known[:slots]

    def vector_file(self, number: int) -> Path:
        """The file of a subset in the current generation."""
        return self.folder / f"items.{self._state['generation']}-{number}.f32"

    def blocks(self, number: int) -> list[tuple[int, int, str]]:
        """First slot, number of slots and SHA-256 of what each write has appended to a subset's file."""
        with self._reading():
            return self._sql(
                "SELECT start, count, sha256 FROM block WHERE subset = ? ORDER BY start", number
            ).fetchall()

    # Opening

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._db is not None
        return self._db

    def _sql(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)

    def _select(self, names: str, key: str, values: Sequence[Any]) -> Iterator[tuple]:
        """The items whose key is one of these values, in any order."""
        for start in range(0, len(values), _VARIABLES):
            some = values[start : start + _VARIABLES]
            yield from self._sql(f"SELECT {names} FROM item WHERE {key} IN ({','.join('?' * len(some))})", *some)

    @staticmethod
    def _names(letter: str, count: int) -> list[str]:
        return [f"{letter}{number}" for number in range(count)]

    def _connect(self, new: bool = False) -> None:
        file = self.folder / "items.db"
        if not new and not file.exists():
            raise ValueError(f"{self.folder}: a file of the index is missing ({file.name}); index again")
        address = file.resolve().as_uri()
        modes = ("mode=ro", "immutable=1") if self._lock is None else ("mode=rwc",)
        for mode in modes:
            try:
                self._db = sqlite3.connect(
                    f"{address}?{mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=30
                )
                if self._lock is not None:
                    self._sql("PRAGMA journal_mode = WAL")
                    self._sql("PRAGMA synchronous = FULL")
                    self._sql("PRAGMA cache_size = -65536")  # KiB
                    self._sql(f"PRAGMA journal_size_limit = {1 << 26}")
                if new:
                    self._create_tables()
                # Without a write-ahead log, an open transaction of a reader would keep a writer from its commit.
                self._immutable = self._stamp() if mode == "immutable=1" else None
                log = self._immutable is not None or self._sql("PRAGMA journal_mode").fetchone()[0] == "wal"
                self._snapshots = log and self._lock is None
                self._open_snapshot()
                return
            except sqlite3.Error as error:
                # Where the folder cannot be written, SQLite cannot share memory with a writer; if there is none, the
                # database can be read as a file that does not change.
                if self._db is not None:
                    self._db.close()
                if mode != "mode=ro" or not isinstance(error, sqlite3.OperationalError) or self._stamp()[-1]:
                    raise ValueError(f"{file} cannot be read ({error}); see confu index DIR --verify") from error

    def _stamp(self) -> tuple[int, int, int]:
        """What changes with the database: its time and size, and the size of its log."""
        file, log = self.folder / "items.db", self.folder / "items.db-wal"
        return file.stat().st_mtime_ns, file.stat().st_size, log.stat().st_size if log.exists() else 0

    def _create_tables(self) -> None:
        n = len(self.about.subsets)
        slots = "".join(f", {name} INTEGER" for name in self._names("s", n))
        state = {"version": 0, "generation": 1, "rows": 0, "live": 0, "slots": [0] * n, "columns": [], "source": None}
        self._sql("BEGIN IMMEDIATE")
        self._sql(f"CREATE TABLE item (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, media, checksum{slots})")
        self._sql("CREATE TABLE block (subset INTEGER, start INTEGER, count INTEGER, sha256 TEXT)")
        self._sql("CREATE TABLE deleted (row INTEGER)")
        self._sql("CREATE TABLE state (value TEXT, checksum INTEGER)")
        self._sql("INSERT INTO state VALUES (?, ?)", text := json.dumps(state), crc([text]))
        self._sql("COMMIT")

    def _open_snapshot(self) -> None:
        """Read the state; a reader also opens the files, which a writer may remove later."""
        for left in reversed(range(_TRIES)):
            if self._snapshots:
                if self._connection.in_transaction:
                    self._sql("COMMIT")
                self._sql("BEGIN")
            text, checksum = self._sql("SELECT value, checksum FROM state").fetchone() or ("", 0)
            if crc([text]) != checksum:
                raise ValueError(f"{self.folder / 'items.db'} is not as it was written; index again")
            state = json.loads(text)
            if state["generation"] != self._state.get("generation"):
                self._clear()
            if state["version"] != self._state.get("version"):
                self._masks.clear()
            self._state = state
            try:
                for number in range(len(state["slots"]) if self._lock is None else 0):
                    self.vectors(number)
                return
            except FileNotFoundError as error:
                if not left:
                    name = Path(error.filename).name
                    raise ValueError(f"{self.folder}: a file of the index is missing ({name}); index again") from error

    def _clear(self) -> None:
        """Forget what is kept in memory of one generation."""
        self._maps: dict[int, Tensor] = {}
        self._known_slots: dict[int, np.ndarray] = {}
        self._known_columns: dict[str, pa.ChunkedArray] = {}
        self._known_deleted: list[int] = []
        self._masks: dict[Any, Tensor | None] = {}

    def _sweep(self) -> None:
        """Remove files of other generations: of a killed compaction, or once a reader had them open."""
        for path in self.folder.glob("items.*.f32"):
            if not path.name.startswith(f"items.{self._state['generation']}-"):
                with suppress(OSError):  # Windows keeps what a reader has open
                    path.unlink()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._thread:
            one_by_one = self._lock is None and not self._snapshots and not self._connection.in_transaction
            try:
                if one_by_one:
                    self._sql("BEGIN")
                    self._open_snapshot()
                yield
            except sqlite3.Error as error:
                path = self.folder / "items.db"
                raise ValueError(f"{path} cannot be read ({error}); see confu index DIR --verify") from error
            finally:
                if one_by_one and self._connection.in_transaction:
                    self._sql("COMMIT")

    # Reading: rows are only ever added in a generation, so that what is kept in memory only grows.

    def _allowed(self, number: int, where: tuple[Condition, ...]) -> Tensor | None:
        """(slots,) bool: the vectors of items that are there and fit; None for all."""
        rows, live = self._state["rows"], self._state["live"]
        if rows == live and not where:
            return None
        key = number, where
        if key not in self._masks:
            mask = columns.fitting(self._column, where, self.schema)
            mask = np.ones(rows, dtype=bool) if mask is None else mask.copy()
            if rows != live:
                known = len(self._known_deleted)
                self._known_deleted += [row for (row,) in self._sql("SELECT row FROM deleted WHERE rowid > ?", known)]
                mask[self._known_deleted] = False
            slot_rows = self._slot_rows(number)
            if slot_rows is not None:
                mask = mask[slot_rows] & (slot_rows >= 0)
            while len(self._masks) >= _MASKS:
                self._masks.pop(next(iter(self._masks)))
            self._masks[key] = torch.from_numpy(mask)
        return self._masks[key]

    def _slot_rows(self, number: int) -> np.ndarray | None:
        """(slots,) the row of each vector, -1 if it was deleted before this was read; None if every row has one."""
        slots = self._state["slots"][number]
        if slots == self._state["rows"]:
            return None
        known = self._known_slots.get(number, np.empty(0, np.int64))
        if len(known) < slots:
            last = int(known.max(initial=-1))
            statement = f"SELECT s{number}, row FROM item WHERE row > ? AND s{number} IS NOT NULL"
            pairs = np.array(self._sql(statement, last).fetchall(), np.int64).reshape(-1, 2)
            known = np.concatenate([known, np.full(slots - len(known), -1)])
            known[pairs[:, 0]] = pairs[:, 1]
            self._known_slots[number] = known
        return known

    def _column(self, name: str) -> pa.ChunkedArray:
        """A column of metadata by row, null where the item was deleted before this was read."""
        number = self.schema.get_field_index(name)
        kind, rows = self.schema.field(number).type, self._state["rows"]
        known = self._known_columns.get(name, pa.chunked_array([], kind)).cast(kind)
        if len(known) < rows:
            values: list[Any] = [None] * (rows - len(known))
            for row, value in self._sql(f"SELECT row, m{number} FROM item WHERE row >= ?", len(known)):
                values[row - len(known)] = value
            chunks = [*known.chunks, columns.from_numbers(values, kind)]
            known = pa.chunked_array(chunks if len(chunks) < 16 else [pa.concat_arrays(chunks)], kind)
        self._known_columns[name] = known
        return known

    # Writing

    def _check_writable(self) -> None:
        if self._lock is None:
            raise ValueError(f"{self.folder} is open for reading only; open it with writable=True")

    @contextmanager
    def _writing(self) -> Iterator[dict[str, Any]]:
        """One transaction, which commits the state that is changed in it."""
        with self._thread:
            state = deepcopy(self._state)
            state["version"] += 1
            try:
                self._sql("BEGIN IMMEDIATE")
                yield state
                for file in self._files.values():
                    file.flush()
                    _SYNC(file.fileno())
                if self._files:
                    sync_folder(self.folder)
                self._sql("UPDATE state SET value = ?, checksum = ?", text := json.dumps(state), crc([text]))
                self._sql("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):
                    self._sql("ROLLBACK")
                if isinstance(error, OSError | sqlite3.Error):
                    raise ValueError(
                        f"{self.folder} cannot be written ({error}); the index is as it was before. Make room, and try "
                        "again"
                    ) from error
                raise
            finally:
                for file in self._files.values():
                    with suppress(OSError):  # after an error: what is left to write is not needed
                        file.close()
                self._files = {}
            if state["generation"] != self._state["generation"]:
                self._clear()
            self._masks.clear()
            self._state = state

    def _insert(self, state: dict[str, Any], items: Items, new: NewIds) -> None:
        table, ids, n, first = items.table, list(items.table.ids), len(items), state["rows"]
        existing = dict(self._select("id, row", "id", ids))
        new.check(ids, list(existing))
        self._remove(state, list(existing.values()))
        metadata = columns.plain_columns(items.metadata)
        schema = columns.merged_schema(columns.schema_from_json(state["columns"]), metadata.schema)
        for name in self._names("m", len(schema))[len(state["columns"]) :]:
            self._sql(f"ALTER TABLE item ADD COLUMN {name}")
        state["columns"] = columns.schema_to_json(schema)
        slots = []
        for number, subset in enumerate(self.about.subsets):
            places: list[int | None] = [None] * n
            if subset in table:
                mask, start = table.complete[subset].cpu().numpy(), state["slots"][number]
                vectors = table[subset].cpu().numpy()
                self._append(state, number, vectors if mask.all() else vectors[mask])
                for place, row in enumerate(np.flatnonzero(mask).tolist(), start=start):
                    places[row] = place
            slots.append(places)
        media = [json.dumps(one, ensure_ascii=False) if (one := items.media_of(row)) else None for row in range(n)]
        empty = [None] * n
        values = [
            columns.to_numbers(metadata[name]) if name in metadata.column_names else empty for name in schema.names
        ]
        places = zip(range(first, first + n), *slots)
        checksums = [crc(one) ^ crc(place) for one, place in zip(zip(ids, media, *values), places)]
        names = ["row", "id", "media", "checksum", *self._names("s", len(slots)), *self._names("m", len(schema))]
        statement = f"INSERT INTO item ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        records = zip(range(first, first + n), ids, media, checksums, *slots, *values)
        self._connection.executemany(statement, records)
        state["rows"] += n
        state["live"] += n

    def _remove(self, state: dict[str, Any], rows: Sequence[int]) -> None:
        for statement in ("DELETE FROM item WHERE row = ?", "INSERT INTO deleted VALUES (?)"):
            self._connection.executemany(statement, [(row,) for row in rows])
        state["live"] -= len(rows)

    def _append(self, state: dict[str, Any], number: int, vectors: np.ndarray) -> None:
        if not len(vectors):
            return
        start = state["slots"][number]
        if number not in self._files:
            path = self.folder / f"items.{state['generation']}-{number}.f32"
            self._files[number] = path.open("r+b" if path.exists() else "w+b")
            self._files[number].seek(start * self.about.dim * 4)
        data = np.ascontiguousarray(vectors, "<f4").data
        self._files[number].write(data)
        digest = hashlib.sha256(data).hexdigest()
        self._sql("INSERT INTO block VALUES (?, ?, ?, ?)", number, start, len(vectors), digest)
        state["slots"][number] += len(vectors)


def crc(values: Sequence[Any]) -> int:
    """CRC-32 of a record; columns that were added later, null at its end, do not change it."""
    last = len(values)
    while last and values[last - 1] is None:
        last -= 1
    text = "\x1f".join([str(int(value) if value is True or value is False else value) for value in values[:last]])
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))
