"""Conversion of exact and FAISS indexes of the first format, which kept items in segments.

segments/<name>/segment.json          subset -> file of vectors, and of the rows that have one
segments/<name>/items.arrow           id, metadata:<column> and media of every row
segments/<name>/deleted-<n>.npy       bits of the rows that were deleted
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from confu.embeddings import EmbeddingTable
from confu.index.backend import Backend, load_backend
from confu.index.catalog import Catalog
from confu.index.items import Items
from confu.plan import Subset

_SEGMENTS = "segments"
_ROWS = 1 << 14  # at once
_METADATA = "metadata:"


def migrated(folder: Path, catalog: Catalog, options: Mapping[str, Any], writable: bool) -> Backend:
    """The backend of an index of the first format, converted; a kill leaves the index as it was.

    Raises:
        ValueError: if it is to be read only.
    """
    if not writable:
        raise ValueError(
            f"{folder} was made by an earlier version of confu; convert it once with `confu index {folder} --compact` "
            "(nothing is embedded again)"
        )
    store = load_backend(catalog.kind).create(folder, catalog.about, options)
    try:
        store.add(read_segments(folder, catalog))
        Catalog(catalog.about, catalog.kind, catalog.options).write(folder)
    except BaseException:
        store.close()
        raise
    return store


def remove_segments(folder: Path) -> None:
    """Remove the files of the first format, once `index.json` is of the second."""
    if (folder / _SEGMENTS).exists():
        shutil.rmtree(folder / _SEGMENTS, ignore_errors=True)
        (folder / ".writer").unlink(missing_ok=True)


def read_segments(folder: Path, catalog: Catalog) -> Iterator[Items]:
    """The items of an index of the first format, in their order.

    Raises:
        ValueError: if a file is missing or damaged, or a name leads out of the folder.
    """
    try:
        for entry in catalog.segments or []:
            yield from _read_segment(folder / _SEGMENTS / _plain(entry["name"]), entry)
    except (OSError, KeyError, TypeError, pa.ArrowException) as error:
        raise ValueError(f"{folder}: its files are not readable ({error}); index again") from error


def _read_segment(folder: Path, entry: Mapping[str, Any]) -> Iterator[Items]:
    segment = json.loads((folder / "segment.json").read_text(encoding="utf-8"))
    deleted = np.zeros(segment["rows"], dtype=bool)
    if entry.get("deleted"):
        bits = np.load(folder / _plain(entry["deleted"]["file"]), allow_pickle=False)
        deleted = np.unpackbits(bits, count=segment["rows"]).astype(bool)
    stored = {}
    for one in segment["subsets"]:
        vectors = np.load(folder / _plain(one["vectors"]), mmap_mode="r" if one["count"] else None, allow_pickle=False)
        rows = np.load(folder / _plain(one["rows"]), allow_pickle=False) if one["rows"] else np.arange(segment["rows"])
        stored[Subset.parse(one["subset"])] = vectors, rows
    with pa.ipc.open_file(pa.memory_map(str(folder / "items.arrow"))) as file:
        table = file.read_all()
    for start in range(0, segment["rows"], _ROWS):
        rows = np.flatnonzero(~deleted[start : start + _ROWS]) + start
        vectors, complete = {}, {}
        for subset, (values, having) in stored.items():
            mask = np.isin(rows, having)
            vectors[subset] = torch.zeros(len(rows), segment["dim"])
            vectors[subset][torch.from_numpy(mask)] = torch.from_numpy(values[np.searchsorted(having, rows[mask])])
            complete[subset] = torch.from_numpy(mask)
        part = table.take(pa.array(rows))
        names = [name for name in part.column_names if name.startswith(_METADATA)]
        metadata = part.select(names).rename_columns([name.removeprefix(_METADATA) for name in names])
        ids = tuple(part["id"].to_pylist())
        media = [dict(pairs) for pairs in part["media"].to_pylist()]
        yield Items.from_media(EmbeddingTable(ids, vectors, complete), metadata, media)


def _plain(name: str) -> str:
    """The name of a file in the folder at hand: an index may come from a stranger."""
    if not name or name != Path(name).name or name in (".", ".."):
        raise ValueError(f"expected the name of a file in this folder; got {name!r}")
    return name
