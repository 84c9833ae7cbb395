"""A folder of class folders as a table: the layout of ImageFolder, for images, audio and video."""

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterator

import fsspec
import pyarrow as pa

from confu.data.manifest.cells import FILE_KINDS
from confu.data.manifest.columnar import table_of
from confu.data.manifest.kinds import kind_of_name
from confu.data.manifest.manifest import split_name

_SPLITS = ("train", "validation", "test")


def read_class_folders(files: fsspec.AbstractFileSystem, folder: str, address: str, local: bool) -> pa.Table:
    """A row a file, its kind by its suffix, its label by its folder.

    `class/file`, or `train/class/file` where every top folder is named for a split. Folders below a class are part
    of it. Where files of several kinds are found, those of one path but for the suffix (`cat/1.png`, `cat/1.wav`)
    make one row. Files of other kinds, and those whose name starts with a dot, are no samples.

    Args:
        files: where the folder lies.
        folder: its path there.
        address: its full address, for messages.
        local: whether it lies on this machine.

    Returns:
        columns id (the path), label, split if there are any, and image, audio, video as found.

    Raises:
        ValueError: no such file, one that lies in no class folder, or two of a kind that share a row.
    """
    paths = sorted(_local_files(folder) if local else _files(files, folder))
    media = [(path, kind) for path in paths if (kind := kind_of_name(path)) in FILE_KINDS]
    if not media:
        raise ValueError(
            f"{address}: holds no manifest (.parquet, .jsonl, .csv, .tar) and no image, audio or video file; "
            "give the folder that holds the class folders"
        )
    tops = {path.split("/")[0] for path, _ in media}
    has_splits = all(split_name(top) in _SPLITS for top in tops) and all(path.count("/") > 1 for path, _ in media)
    several = len({kind for _, kind in media}) > 1
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for path, kind in media:
        parts = path.split("/")
        if len(parts) < 2:
            raise ValueError(f"{address}: {path} lies in no class folder; move it to <class>/{path}")
        row = rows[posixpath.splitext(path)[0] if several else path]
        if kind in row:
            raise ValueError(
                f"{address}: {row[kind]} and {path} would be the {kind} of one row, as they differ by their suffix "
                "alone; rename one"
            )
        row[kind] = path
        row["label"] = parts[1] if has_splits else parts[0]
        if has_splits:
            row["split"] = split_name(parts[0])
    return table_of([{"id": name, **row} for name, row in rows.items()], address)


def _files(files: fsspec.AbstractFileSystem, folder: str) -> Iterator[str]:
    for path in files.find(folder):
        relative = posixpath.relpath(path, folder)
        if not any(part.startswith(".") for part in relative.split("/")):
            yield relative


def _local_files(folder: str) -> Iterator[str]:
    """As `_files`; follows links to folders, each folder once, so that a link to its parent does not run in circles."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(place, name)) not in seen  # noqa: PTH118
        )
        relative = os.path.relpath(place, folder)
        yield from (posixpath.normpath(posixpath.join(relative, name)) for name in names if not name.startswith("."))
