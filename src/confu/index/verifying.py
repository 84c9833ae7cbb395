"""Reading all of an exact store, to find what is damaged."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from confu.index.about import About
from confu.index.catalog import read_catalog
from confu.index.segment_writing import ABOUT, file_entry, hash_ids
from confu.index.segments import plain_name
from confu.index.snapshot import SEGMENTS, Part, Snapshot, open_snapshot

_ROWS = 1 << 16
_UNIT = 1e-3  # how far from 1 the length of a vector may be


def verify(folder: Path, about: About) -> list[str]:
    """What is wrong with the files of a store; nothing if all is well."""
    try:
        entries = read_catalog(folder).store.get("segments", [])
        wrong = [problem for entry in entries for problem in _files(folder / SEGMENTS, entry)]
        if wrong:
            return wrong
        snapshot = open_snapshot(folder)
    except (ValueError, KeyError, TypeError, OSError) as error:
        return [str(error)]
    return [*(problem for part in snapshot.parts for problem in _content(part, about)), *_ids(snapshot)]


def _files(segments: Path, entry: dict[str, Any]) -> list[str]:
    folder = segments / plain_name(entry["name"])
    about = folder / ABOUT
    if not about.is_file():
        return [f"{about} is missing"]
    if file_entry(about)["sha256"] != entry["sha256"]:
        return [f"{about} is not as it was written"]
    expected = json.loads(about.read_text(encoding="utf-8"))["files"]
    if entry.get("deleted") is not None:
        expected = {**expected, entry["deleted"]["file"]: entry["deleted"]}
    wrong = []
    for name, was in expected.items():
        file = folder / plain_name(name)
        if not file.is_file():
            wrong.append(f"{file} is missing")
        elif file.stat().st_size != was["bytes"]:
            wrong.append(f"{file} has {file.stat().st_size} bytes; {was['bytes']} were written")
        elif file_entry(file)["sha256"] != was["sha256"]:
            wrong.append(f"{file} is not as it was written")
    return wrong


def _content(part: Part, about: About) -> list[str]:
    segment, wrong = part.segment, []
    if segment.dim != about.dim:
        wrong.append(f"{segment.folder}: vectors of {segment.dim} numbers in an index of {about.dim}")
    for subset in segment.subsets:
        for start, piece in enumerate(segment.vectors(subset).split(_ROWS)):
            lengths = piece.norm(dim=1)
            off = ~((lengths - 1).abs() <= _UNIT)  # also NaN
            if bool(off.any()):
                row = int(off.nonzero()[0, 0]) + start * _ROWS
                wrong.append(f"{segment.folder}: {int(off.sum())} vectors of {subset} have no length of 1, first {row}")
                break
    ids = segment.ids().to_pylist()
    if len(segment.find(ids)) != segment.rows:
        wrong.append(f"{segment.folder}: not every id is found by its hash")
    if part.entry["rows"] != segment.rows or (part.deleted is not None and part.live < 0):
        wrong.append(f"{segment.folder}: holds {segment.rows} rows; {part.entry['rows']} were written")
    return wrong


def _ids(snapshot: Snapshot) -> list[str]:
    hashes = [
        hash_ids(part.segment.ids().take(rows).to_pylist()) for part in snapshot.parts for rows in part.live_rows(_ROWS)
    ]
    every = np.concatenate(hashes or [np.empty(0, np.uint64)])
    values, counts = np.unique(every, return_counts=True)
    return [] if len(values) == len(every) else [f"{int((counts - 1).sum())} ids stand twice"]
