"""The files of an exact store: SQLite for ids, metadata, deletions and commits, and flat float32 files of vectors.

    items.db              tables `item`, `deleted`, `block` (a SHA-256 of what was appended) and `state`
    items.<g>-<n>.f32     vectors of subset n in generation g, (slots, dim); only ever appended to

A write appends vectors, syncs them, and commits one SQLite transaction last: bytes beyond the committed count belong to
no item, and the next write goes over them. An item has a `row`, in the order of arrival, and for each subset a `slot`
in that subset's file, null where it has no vector. A reader sees the state of its last `refresh`.
"""

import hashlib
import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from confu.index.catalog import WriterLock, sync_folder
from confu.index.items import UNIT

_PIECE = 1 << 16  # vectors in memory at once
_VARIABLES = 500  # of one SQL statement
_TRIES = 20
_SYNC = getattr(os, "fdatasync", os.fsync)


class Storage:
    """The database and the vector files, opened to read or by the one writer.

    Args:
        folder: of the index.
        subsets: number of subsets.
        dim: of a vector.
        lock: of the writer; None to read.
        new: make the tables.

    Attributes:
        state: version, generation, rows (ever added in it), live (items), slots of each subset, columns and source.
    """

    def __init__(self, folder: Path, subsets: int, dim: int, lock: WriterLock | None, new: bool = False) -> None:
        self.folder, self.subsets, self.dim, self.lock = folder, subsets, dim, lock
        self.file = folder / "items.db"
        self.state: dict[str, Any] = {}
        self._thread = threading.RLock()  # all threads share the transaction of one connection
        self._maps: dict[int, Tensor] = {}
        self._written: set[Path] = set()  # files of the write that is under way
        self._db: sqlite3.Connection | None = None
        try:
            self._connect(new)
            self.sweep()
        except BaseException:
            self.close()
            raise

    @property
    def connection(self) -> sqlite3.Connection:
        """The open database."""
        assert self._db is not None
        return self._db

    def sql(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Execute a statement."""
        return self.connection.execute(statement, values)

    def select(self, names: str, key: str, values: Sequence[Any]) -> Iterator[tuple]:
        """The items whose key is one of these values, in any order."""
        for start in range(0, len(values), _VARIABLES):
            some = values[start : start + _VARIABLES]
            yield from self.sql(f"SELECT {names} FROM item WHERE {key} IN ({','.join('?' * len(some))})", *some)

    def vectors(self, number: int) -> Float[Tensor, "slots dim"]:
        """The memory-mapped vectors of a subset by its number, those of deleted items among them."""
        slots, known = self.state["slots"][number], self._maps.get(number)
        if not slots:
            return torch.empty(0, self.dim)
        if known is None or len(known) < slots:
            path = self.vector_file(number)
            try:
                # Copy on write: torch takes no read-only arrays, and nothing written to this one reaches the file.
                known = torch.from_numpy(np.memmap(path, "<f4", "c", shape=(slots, self.dim)))
            except ValueError as error:
                raise ValueError(f"{path} is shorter than it was written ({error}); index again") from error
            self._maps[number] = known
        return known[:slots]

    def vector_file(self, number: int, generation: int | None = None) -> Path:
        """The file of a subset, in the current generation by default."""
        return self.folder / f"items.{generation or self.state['generation']}-{number}.f32"

    def blocks(self, number: int) -> list[tuple[int, int, str]]:
        """First slot, number of slots and SHA-256 of what each write has appended to a subset's file."""
        statement = "SELECT start, count, sha256 FROM block WHERE subset = ? ORDER BY start"
        with self.reading():
            return self.sql(statement, number).fetchall()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One state of the index, for one thread at a time."""
        with self._thread:
            begin = self.lock is None and not self._snapshots and not self.connection.in_transaction
            try:
                if begin:
                    self.sql("BEGIN")
                    self._read_state()
                yield
            except sqlite3.Error as error:
                raise ValueError(f"{self.file} cannot be read ({error}); see confu index DIR --verify") from error
            finally:
                if begin and self.connection.in_transaction:
                    self.sql("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[dict[str, Any]]:
        """One transaction, which commits the changes made to the state that it gives, or nothing."""
        if self.lock is None:
            raise ValueError(f"{self.folder} is open for reading only; open it with writable=True")
        with self._thread:
            state = deepcopy(self.state)
            state["version"] += 1
            try:
                self.sql("BEGIN IMMEDIATE")
                yield state
                for path in self._written:
                    with path.open("r+b") as file:
                        _SYNC(file.fileno())
                if self._written:
                    sync_folder(self.folder)
                self.sql("UPDATE state SET value = ?, checksum = ?", text := json.dumps(state), crc([text]))
                self.sql("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):
                    self.sql("ROLLBACK")
                if isinstance(error, OSError | sqlite3.Error):
                    raise ValueError(
                        f"{self.folder} cannot be written ({error}); the index is as it was before. Make room, and try "
                        "again"
                    ) from error
                raise
            finally:
                self._written.clear()
            self._set_state(state)

    def append(self, state: dict[str, Any], number: int, vectors: np.ndarray) -> None:
        """Append vectors to the file of a subset, in a transaction."""
        if not len(vectors):
            return
        start, path = state["slots"][number], self.vector_file(number, state["generation"])
        data = np.ascontiguousarray(vectors, "<f4").data
        self._written.add(path)
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.seek(start * self.dim * 4)
            file.write(data)
        digest = hashlib.sha256(data).hexdigest()
        self.sql("INSERT INTO block VALUES (?, ?, ?, ?)", number, start, len(vectors), digest)
        state["slots"][number] += len(vectors)

    def refresh(self) -> bool:
        """See what a writer has committed; whether there was something."""
        if self.lock is not None:
            return False
        with self._thread:
            before = self.state["version"]
            if self._immutable is None:
                self._open_snapshot()
            elif self._immutable != self._stamp():
                self.connection.close()
                self._connect()
            return self.state["version"] != before

    def sweep(self) -> None:
        """Remove files of other generations: of a killed compaction, or that a reader had open."""
        for path in self.folder.glob("items.*.f32") if self.lock is not None else ():
            if not path.name.startswith(f"items.{self.state['generation']}-"):
                with suppress(OSError):  # Windows keeps what a reader has open
                    path.unlink()

    def damage(self) -> list[str]:
        """Compare everything with its checksums; files are read, not mapped, as one may have been cut."""
        live, n = 0, self.subsets
        try:
            with self.reading():
                problems = [f"{self.file}: {text}" for (text,) in self.sql("PRAGMA integrity_check") if text != "ok"]
                names = ", ".join([*letters("s", n), "id", "media", *letters("m", len(self.state["columns"]))])
                for row, expected, *values in self.sql(f"SELECT row, checksum, {names} FROM item"):
                    live += 1
                    if place_code(row, values[:n]) ^ crc(values[n:]) != expected:
                        problems.append(f"{self.file}: item {values[n]!r} is not as it was written")
                if live != self.state["live"]:
                    problems.append(f"{self.file}: has {live} items; {self.state['live']} were written")
                for number in range(n):
                    path, end = self.vector_file(number), 0
                    for start, count, expected in self.blocks(number):
                        problems += self._block_damage(path, start, count, expected) if start == end else []
                        end = start + count
                    if end != self.state["slots"][number]:
                        problems.append(f"{path}: has {end} vectors; {self.state['slots'][number]} were written")
            return problems
        except (ValueError, OSError) as error:
            return [str(error)]

    def _block_damage(self, path: Path, start: int, count: int, expected: str) -> list[str]:
        digest, off, width = hashlib.sha256(), 0, self.dim * 4
        with path.open("rb") as file:
            file.seek(start * width)
            for first in range(0, count, _PIECE):
                data = file.read(min(_PIECE, count - first) * width)
                digest.update(data)
                vectors = np.frombuffer(data[: len(data) // width * width], "<f4").reshape(-1, self.dim)
                off += int((~(np.abs(np.linalg.norm(vectors, axis=1) - 1) <= UNIT)).sum())
        if digest.hexdigest() != expected:
            return [f"{path}: vectors {start} to {start + count - 1} are not as they were written"]
        return [f"{path}: {off} vectors from {start} on have no length of 1"] if off else []

    def close(self) -> None:
        """Let another process write."""
        with self._thread:
            self._maps.clear()
            if self._db is not None:
                self._db.close()
            if self.lock is not None:
                self.lock.release()
            self._db = self.lock = None

    def _connect(self, new: bool = False) -> None:
        if not new and not self.file.exists():
            raise ValueError(f"{self.folder}: a file of the index is missing ({self.file.name}); index again")
        address = self.file.resolve().as_uri()
        for mode in ("mode=ro", "immutable=1") if self.lock is None else ("mode=rwc",):
            try:
                self._db = sqlite3.connect(
                    f"{address}?{mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=30
                )
                if self.lock is not None:
                    for setting in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -65536"):  # KiB
                        self.sql(f"PRAGMA {setting}")
                if new:
                    self._create_tables()
                # Without a write-ahead log, an open transaction of a reader would keep a writer from its commit.
                self._immutable = self._stamp() if mode == "immutable=1" else None
                log = self._immutable is not None or self.sql("PRAGMA journal_mode").fetchone()[0] == "wal"
                self._snapshots = log and self.lock is None
                self._open_snapshot()
                return
            except sqlite3.Error as error:
                # Where the folder cannot be written, SQLite cannot share memory with a writer; if there is none, the
                # database can be read as a file that does not change.
                if self._db is not None:
                    self._db.close()
                if mode != "mode=ro" or not isinstance(error, sqlite3.OperationalError) or self._stamp()[-1]:
                    raise ValueError(f"{self.file} cannot be read ({error}); see confu index DIR --verify") from error

    def _stamp(self) -> tuple[int, int, int]:
        """What changes with the database: its time and size, and the size of its log."""
        file, log = self.file.stat(), self.file.with_name("items.db-wal")
        return file.st_mtime_ns, file.st_size, log.stat().st_size if log.exists() else 0

    def _create_tables(self) -> None:
        n, slots = self.subsets, "".join(f", {name} INTEGER" for name in letters("s", self.subsets))
        state = {"version": 0, "generation": 1, "rows": 0, "live": 0, "slots": [0] * n, "columns": [], "source": None}
        self.sql("BEGIN IMMEDIATE")
        self.sql(f"CREATE TABLE item (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, media, checksum{slots})")
        self.sql("CREATE TABLE block (subset INTEGER, start INTEGER, count INTEGER, sha256 TEXT)")
        self.sql("CREATE TABLE deleted (row INTEGER)")
        self.sql("CREATE TABLE state (value TEXT, checksum INTEGER)")
        self.sql("INSERT INTO state VALUES (?, ?)", text := json.dumps(state), crc([text]))
        self.sql("COMMIT")

    def _open_snapshot(self) -> None:
        """Read the state; a reader also maps the files, which a writer may remove later."""
        for left in reversed(range(_TRIES)):
            if self._snapshots:
                if self.connection.in_transaction:
                    self.sql("COMMIT")
                self.sql("BEGIN")
            self._read_state()
            try:
                for number in range(self.subsets if self.lock is None else 0):
                    self.vectors(number)
                return
            except FileNotFoundError as error:  # removed by a compaction after the state was read
                if not left:
                    name = Path(error.filename).name
                    raise ValueError(f"{self.folder}: a file of the index is missing ({name}); index again") from error

    def _read_state(self) -> None:
        text, checksum = self.sql("SELECT value, checksum FROM state").fetchone() or ("", 0)
        if crc([text]) != checksum:
            raise ValueError(f"{self.file} is not as it was written; index again")
        self._set_state(json.loads(text))

    def _set_state(self, state: dict[str, Any]) -> None:
        if state["generation"] != self.state.get("generation"):
            self._maps.clear()
        self.state = state


def letters(letter: str, count: int) -> list[str]:
    """The names of the columns of slots (s0, s1, ...) or of metadata (m0, ...)."""
    return [f"{letter}{number}" for number in range(count)]


def place_code(row: int, slots: Sequence[int | None]) -> int:
    """32 bits that change with the row of an item, or with a slot of its vectors."""
    for slot in slots:
        row = row * 1_000_003 + (0 if slot is None else slot + 1)
    return row & 0xFFFFFFFF


def crc(values: Sequence[Any]) -> int:
    """CRC-32 of a record; columns that were added later, null at its end, do not change it."""
    text = "\x1f".join([str(value + 0 if value.__class__ is bool else value) for value in values])
    while text.endswith("\x1fNone"):
        text = text[:-5]
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))
