"""The exact store: immutable segments of memory-mapped vectors, and one small file that names them."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from torch import Tensor

from confu.index.about import About
from confu.index.backend import Change, Found
from confu.index.catalog import WriterLock, read_catalog, stamp
from confu.index.columns import schema_to_json
from confu.index.conditions import Condition
from confu.index.gathering import joined, no_items, selected
from confu.index.incoming import Incoming
from confu.index.items import Items
from confu.index.scan import best, scan
from confu.index.segment_writing import SegmentWriter
from confu.index.snapshot import SEGMENTS, Snapshot, open_snapshot, write_deleted
from confu.index.verifying import verify
from confu.plan import Subset

_AT_ONCE = 1 << 14  # items in memory while segments are merged
_MOST = 16  # segments


def create(folder: Path, about: About, options: Mapping[str, Any]) -> "ExactStore":
    """An empty store in a folder that is new or empty; the caller writes `index.json`."""
    _no_options(options)
    return ExactStore(folder, about, WriterLock(folder), Snapshot())


def open_(folder: Path, about: About, options: Mapping[str, Any], writable: bool) -> "ExactStore":
    """The store of a folder; a writer first removes what a killed one left."""
    _no_options(options)
    lock = WriterLock(folder) if writable else None
    store = ExactStore(folder, about, lock, open_snapshot(folder))
    if writable:
        store.sweep()
    return store


class ExactStore:
    """Searches every vector, reading them from the disk's cache; needs no other package.

    Attributes:
        snapshot: what a search sees; replaced, never changed, so that a search that is under way keeps its own.
    """

    def __init__(self, folder: Path, about: About, lock: WriterLock | None, snapshot: Snapshot) -> None:
        self.folder, self.about, self.snapshot = folder, about, snapshot
        self.options: dict[str, Any] = {}
        self._lock = lock

    @property
    def schema(self) -> pa.Schema:
        """The columns of metadata."""
        return self.snapshot.schema

    def __len__(self) -> int:
        return sum(part.live for part in self.snapshot.parts)

    def ids(self) -> Iterator[str]:
        """Every id, in the order in which the items came."""
        for part in self.snapshot.parts:
            for row in part.live_rows(_AT_ONCE):
                yield from part.segment.ids().take(pa.array(row)).to_pylist()

    def search(
        self, queries: Float[Tensor, "queries dim"], target: Subset, k: int, where: Sequence[Condition] = ()
    ) -> list[Found]:
        """The k nearest of all that fit."""
        snapshot = self.snapshot
        found = [
            scan(queries, part.segment.vectors(target), k, part.allowed(target, where, snapshot.schema), number)
            for number, part in enumerate(snapshot.parts)
            if target in part.segment.subsets
        ]
        return [
            Found([snapshot.parts[part].id_of(target, row) for part, row in places], scores)
            for scores, places in best(found, k, len(queries))
        ]

    def fetch(self, ids: Sequence[str]) -> Items:
        """Stored items in this order."""
        snapshot = self.snapshot
        places = snapshot.find(ids)
        if missing := [id for id in ids if id not in places]:
            raise KeyError(missing[0])
        parts, order = [], {}
        for number in sorted({number for number, _ in places.values()}):
            here = [id for id, (part, _) in places.items() if part == number]
            for id in here:
                order[id] = len(order)
            rows = np.array([places[id][1] for id in here])
            parts.append(snapshot.parts[number].segment.items(rows, snapshot.schema))
        if not parts:
            return no_items(self.about.subsets, self.about.dim, snapshot.schema)
        return selected(joined(parts), [order[id] for id in ids])

    def add(self, items: Items, replace: bool = False) -> Change:
        """Store items in a new segment."""
        return self.add_all([items], replace)

    def add_all(self, parts: Iterable[Items], replace: bool = False, about: About | None = None) -> Change:
        """Store items part after part, all of them or none.

        Args:
            parts: with the same columns of metadata each, and no id twice.
            replace: items take the place of those with the same id.
            about: what the index says of itself from then on.
        """
        self._check_writable()
        with _nothing_lost(self.folder):
            self._merge(_crowded([part.live for part in self.snapshot.parts]))
            with Incoming(self._next(), self.about, self.snapshot, replace) as incoming:
                incoming.take(parts)
                if incoming.ids or about is not None:
                    entries = [*self._without(incoming.replaced), *incoming.finish()]
                    self._publish(entries, incoming.schema, about)
        replaced = sum(map(len, incoming.replaced.values()))
        return Change(len(incoming.ids) - replaced, replaced)

    def delete(self, ids: Sequence[str]) -> int:
        """Forget items."""
        self._check_writable()
        gone: dict[int, list[int]] = {}
        for part, row in self.snapshot.find(list(dict.fromkeys(ids))).values():
            gone.setdefault(part, []).append(row)
        if gone:
            with _nothing_lost(self.folder):
                self._publish(self._without(gone), self.snapshot.schema)
        return sum(map(len, gone.values()))

    def compact(self) -> None:
        """Write all items that are there into one segment, and remove the others."""
        self._check_writable()
        parts = self.snapshot.parts
        if len(parts) > 1 or any(part.deleted is not None for part in parts):
            with _nothing_lost(self.folder):
                self._merge(0)

    def refresh(self) -> bool:
        """See what another process has published since."""
        if self.snapshot.stamp == stamp(self.folder):
            return False
        before, self.snapshot = self.snapshot, open_snapshot(self.folder, self.snapshot)
        return self.snapshot.generation != before.generation

    def sweep(self) -> None:
        """Remove files that belong to nothing: those of a killed writer, and of segments that were merged."""
        used = {file for part in self.snapshot.parts for file in part.paths()}
        for folder in (self.folder / SEGMENTS).glob("*"):
            if folder not in used:
                shutil.rmtree(folder, ignore_errors=True)  # else by the next writer
        for file in (self.folder / SEGMENTS).glob("*/deleted-*.npy"):
            if file not in used:
                file.unlink(missing_ok=True)

    def verify(self) -> list[str]:
        """Read everything and say what is wrong."""
        return verify(self.folder, self.about)

    def close(self) -> None:
        """Let another one write."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self.snapshot = Snapshot()

    def _merge(self, first: int) -> None:
        """Write the segments from this one on into one, without their deleted rows."""
        before = self.snapshot
        if first >= len(before.parts):
            return
        with SegmentWriter(self._next(), self.about.subsets, self.about.dim, before.schema) as writer:
            for part in before.parts[first:]:
                for rows in part.live_rows(_AT_ONCE):
                    writer.append(part.segment.items(rows, before.schema))
            merged = [writer.finish()] if writer.rows else []
            self._publish([*(part.entry for part in before.parts[:first]), *merged], before.schema)

    def _next(self) -> Path:
        return self.folder / SEGMENTS / f"{self.snapshot.generation + 1:08d}"

    def _without(self, gone: Mapping[int, Sequence[int]]) -> list[dict[str, Any]]:
        """The entries of the segments, these rows deleted; of a segment that has none left, nothing."""
        entries = []
        for number, part in enumerate(self.snapshot.parts):
            entry = part.entry
            if number in gone:
                if part.live == len(gone[number]):
                    continue
                entry = write_deleted(part, gone[number], self.snapshot.generation + 1)
            entries.append(entry)
        return entries

    def _publish(self, entries: list[dict[str, Any]], schema: pa.Schema, about: About | None = None) -> None:
        catalog = read_catalog(self.folder)
        store = {
            "generation": self.snapshot.generation + 1, "columns": schema_to_json(schema), "segments": entries,
        }  # fmt: skip
        replace(catalog, store=store, about=about or catalog.about).write(self.folder)
        self.snapshot = open_snapshot(self.folder, self.snapshot)
        self.sweep()

    def _check_writable(self) -> None:
        if self._lock is None:
            raise ValueError(f"{self.folder} is open for reading only; open it with writable=True")


def _no_options(options: Mapping[str, Any]) -> None:
    if options:
        raise ValueError(f"the exact store has no options; got {', '.join(options)}")


@contextmanager
def _nothing_lost(folder: Path) -> Iterator[None]:
    """An error of the disk as one that says what became of the index."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written ({error}); the index is as it was before. Make room, and try again"
        ) from error


def _crowded(sizes: Sequence[int]) -> int:
    """The first of the segments at the end that are to be merged before another comes; their number if none is.

    Merging starts from the end and goes on as long as a segment is no larger than all behind it together: an item is
    then written again only about as often as the store has doubled, and there are never many files.

    >>> _crowded([5000, 10, 10, 5]), _crowded([5000] + [10] * _MOST)
    (4, 1)
    """
    if len(sizes) < _MOST:
        return len(sizes)
    first, behind = len(sizes) - 2, sizes[-1] + sizes[-2]
    while first > 0 and sizes[first - 1] <= behind:
        first -= 1
        behind += sizes[first]
    return first
