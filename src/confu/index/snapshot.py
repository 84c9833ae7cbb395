"""What an exact store holds at one moment: its segments, and which of their rows were deleted since."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from confu.index.catalog import read_catalog, stamp, sync_folder
from confu.index.columns import fitting, schema_from_json
from confu.index.conditions import Condition
from confu.index.segment_writing import file_entry, hash_ids, sync_file
from confu.index.segments import Segment, plain_name
from confu.plan import Subset

SEGMENTS = "segments"
_TRIES = 20


@dataclass(frozen=True, eq=False)
class Part:
    """A segment without its deleted rows.

    Attributes:
        segment: as it was written.
        entry: what `index.json` says of it.
        deleted: (rows,) bool, or None.
    """

    segment: Segment
    entry: dict[str, Any]
    deleted: np.ndarray | None = None

    @property
    def live(self) -> int:
        """Rows that are not deleted."""
        return self.segment.rows - (0 if self.deleted is None else int(self.deleted.sum()))

    def live_rows(self, at_once: int) -> Iterator[np.ndarray]:
        """The rows that are not deleted, some at a time."""
        for start in range(0, self.segment.rows, at_once):
            rows = np.arange(start, min(start + at_once, self.segment.rows))
            rows = rows if self.deleted is None else rows[~self.deleted[rows]]
            if len(rows):
                yield rows

    def allowed(self, target: Subset, where: Sequence[Condition], schema: pa.Schema) -> np.ndarray | None:
        """(count,) bool: which of the stored vectors of a subset may be found; None for all."""
        segment = self.segment
        fits = fitting(lambda name: segment.column(name, schema.field(name).type), where, schema)
        if self.deleted is not None:
            fits = ~self.deleted if fits is None else fits & ~self.deleted
        having = segment.having(target)
        return fits if fits is None or having is None else fits[having]

    def id_of(self, target: Subset, place: int) -> str:
        """The id of the item that a stored vector of a subset belongs to."""
        having = self.segment.having(target)
        return self.segment.id_at(place if having is None else int(having[place]))

    def paths(self) -> list[Path]:
        """The folder, and every file in it that belongs to it."""
        folder = self.segment.folder
        own = [folder, folder / "segment.json", *(folder / name for name in self.segment.files)]
        return own if self.deleted is None else [*own, folder / self.entry["deleted"]["file"]]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The parts of a store.

    Attributes:
        generation: grows by one with every change.
        schema: of the metadata.
        parts: in the order in which they came.
        stamp: of the `index.json` that this was read from.
    """

    generation: int = 0
    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    parts: tuple[Part, ...] = ()
    stamp: tuple[int, int, int] | None = None

    def find(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Part and row of those of the ids that are there."""
        hashes = hash_ids(ids)
        found = {}
        for number, part in enumerate(self.parts):
            for id, row in part.segment.find(ids, hashes).items():
                if part.deleted is None or not part.deleted[row]:
                    found[id] = (number, row)
        return found


def open_snapshot(folder: Path, before: Snapshot | None = None) -> Snapshot:
    """What `index.json` names now; segments that are open already are kept.

    Raises:
        ValueError: if something is missing or damaged.
    """
    known = {part.segment.name: part.segment for part in (before or Snapshot()).parts}
    for left in reversed(range(_TRIES)):
        mark, store = stamp(folder), read_catalog(folder).store
        try:
            parts = tuple(_part(folder / SEGMENTS, entry, known) for entry in store.get("segments", []))
            return Snapshot(int(store.get("generation", 0)), schema_from_json(store.get("columns", [])), parts, mark)
        except FileNotFoundError as error:
            # A writer may have merged segments between the reading of their names and of their files.
            if left and stamp(folder) != mark:
                continue
            raise ValueError(f"{folder}: a file of the index is missing ({error.filename}); index again") from error
        except (KeyError, TypeError, AttributeError, OSError) as error:
            raise ValueError(f"{folder}: its parts are not readable ({error!r}); index again") from error
    raise AssertionError


def write_deleted(part: Part, rows: Sequence[int], generation: int) -> dict[str, Any]:
    """Write down which rows of a part are deleted, these among them, and give its new entry."""
    deleted = np.zeros(part.segment.rows, dtype=bool) if part.deleted is None else part.deleted.copy()
    deleted[np.asarray(rows)] = True
    file = part.segment.folder / f"deleted-{generation:08d}.npy"
    np.save(file, np.packbits(deleted), allow_pickle=False)
    sync_file(file)
    sync_folder(file.parent)
    return {**part.entry, "deleted": {"file": file.name, "count": int(deleted.sum()), **file_entry(file)}}


def _part(segments: Path, entry: dict[str, Any], known: dict[str, Segment]) -> Part:
    folder = segments / plain_name(entry["name"])
    segment = known.get(folder.name) or Segment(folder)
    if entry.get("deleted") is None:
        return Part(segment, entry)
    bits = np.load(folder / plain_name(entry["deleted"]["file"]), allow_pickle=False)
    if len(bits) != -(-segment.rows // 8):
        raise ValueError(f"{folder}: its list of deleted rows is damaged; index again")
    return Part(segment, entry, np.unpackbits(bits, count=segment.rows).astype(bool))
