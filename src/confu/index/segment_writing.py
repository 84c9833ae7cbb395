"""One segment of an exact store being written: files that nothing changes after this.

0.npy, 1.npy, ...   the vectors of a subset, (rows that have it, dim) float32
0.rows.npy, ...     which rows these are, ascending; left out where all rows have it
items.arrow         id, metadata and media of every row
ids.npy             the hashes of the ids, ascending, (rows,) uint64
ids.rows.npy        the row of each of these
segment.json        what stands where, and the size and SHA-256 of every file
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from confu.files import write_json
from confu.index.catalog import sync_folder
from confu.index.items import Items
from confu.plan import Subset

ITEMS, IDS, ID_ROWS, ABOUT = "items.arrow", "ids.npy", "ids.rows.npy", "segment.json"
METADATA = "metadata:"
_MEDIA = pa.map_(pa.string(), pa.string())
_BATCH = 1 << 16
_HEADER = 128  # bytes; the number of rows is known only at the end, so that room is left for it


def hash_ids(ids: Iterable[str]) -> np.ndarray:
    """(n,) uint64: a hash of each id, the same on every machine."""
    digests = b"".join(hashlib.blake2b(id.encode(), digest_size=8).digest() for id in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def file_entry(path: Path) -> dict[str, Any]:
    """The size and SHA-256 of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


class SegmentWriter:
    """Writes items part after part, so that they need not be in memory at once.

    Use it as a context manager: a folder that is not finished is removed.

    Args:
        folder: made here; must not be there.
        subsets: those that are stored.
        dim: the size of a vector.
        schema: of the metadata of every part.
    """

    def __init__(self, folder: Path, subsets: Sequence[Subset], dim: int, schema: pa.Schema) -> None:
        self.folder, self.subsets, self.dim = folder, tuple(subsets), dim
        self.rows = 0
        self._hashes: list[np.ndarray] = []
        self._having: dict[Subset, list[np.ndarray]] = {subset: [] for subset in self.subsets}
        self._finished = False
        folder.mkdir(parents=True)
        try:
            self._vectors: dict[Subset, IO[bytes]] = {}
            for number, subset in enumerate(self.subsets):
                self._vectors[subset] = (folder / f"{number}.npy").open("wb")
                self._vectors[subset].write(b"\0" * _HEADER)
            fields = [("id", pa.string()), *((METADATA + field.name, field.type) for field in schema)]
            self._schema = pa.schema([*fields, ("media", _MEDIA)])
            self._sink = pa.OSFile(str(folder / ITEMS), "wb")
            self._items = pa.ipc.new_file(self._sink, self._schema)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def __enter__(self) -> "SegmentWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder if it is not finished."""
        if not self._finished:
            for file in (*self._vectors.values(), self._sink):
                with suppress(OSError):  # what is left to write is not wanted
                    file.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def append(self, items: Items) -> None:
        """Write some items; their metadata has the columns of the schema."""
        n = len(items)
        pairs = [
            [(name, column[row]) for name, column in items.media.items() if column[row] is not None] for row in range(n)
        ]
        columns = [pa.array(items.table.ids, pa.string())]
        columns += [items.metadata[name] for name in items.metadata.column_names]
        table = pa.table([*columns, pa.array(pairs, _MEDIA)], schema=self._schema)
        self._items.write_table(table, max_chunksize=_BATCH)
        for subset in self.subsets:
            if subset in items.table:
                having = items.table.rows_with(subset)
                vectors = items.table[subset].cpu()
                vectors = vectors if len(having) == n else vectors[having]
                self._vectors[subset].write(np.ascontiguousarray(vectors.numpy(), "<f4").data)
                self._having[subset].append(having.numpy() + self.rows)
        self._hashes.append(hash_ids(items.table.ids))
        self.rows += n

    def finish(self) -> dict[str, Any]:
        """Have everything on the disk, and give the entry of the segment for `index.json`."""
        self._items.close()
        self._sink.close()
        stored = []
        for number, (subset, file) in enumerate(self._vectors.items()):
            rows = np.concatenate(self._having[subset] or [np.empty(0, np.int64)])
            file.seek(0)
            file.write(_header(len(rows), self.dim))
            file.close()
            partial = len(rows) != self.rows
            if partial:
                np.save(self.folder / f"{number}.rows.npy", rows, allow_pickle=False)
            stored.append({
                "subset": str(subset), "vectors": f"{number}.npy", "count": len(rows),
                "rows": f"{number}.rows.npy" if partial else None,
            })  # fmt: skip
        hashes = np.concatenate(self._hashes or [np.empty(0, np.uint64)])
        order = np.argsort(hashes, kind="stable")
        np.save(self.folder / IDS, hashes[order], allow_pickle=False)
        np.save(self.folder / ID_ROWS, order.astype(np.int64), allow_pickle=False)
        files = sorted(self.folder.iterdir())
        for file in files:
            sync_file(file)
        entries = {file.name: file_entry(file) for file in files}
        write_json(self.folder / ABOUT, {"rows": self.rows, "dim": self.dim, "subsets": stored, "files": entries})
        sync_folder(self.folder)
        sync_folder(self.folder.parent)
        self._finished = True
        return {"name": self.folder.name, "rows": self.rows, "sha256": file_entry(self.folder / ABOUT)["sha256"]}


def sync_file(path: Path) -> None:
    """Have a file's content on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _header(rows: int, dim: int) -> bytes:
    """The head of a `.npy` file of float32, always of one length."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}"
    magic = b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little")
    return magic + text.ljust(_HEADER - 11).encode() + b"\n"
