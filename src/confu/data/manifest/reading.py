"""Reading a manifest, whichever form it has and wherever it lies: a table, class folders, or a WebDataset tar."""

import json
import os
import posixpath
import re
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from confu.data.manifest.address import file_system, full_address, is_local, joined, parent_of
from confu.data.manifest.manifest import AS_NAMED, SPLITS, Manifest, TableOptions, split_name
from confu.data.manifest.tabular import (
    read_arrow,
    read_csv,
    read_json,
    read_json_lines,
    read_parquet,
    table_of,
    without_texts,
)
from confu.data.media import FILE_KINDS, kind_of_name, suffix_of

_HUB = "hf://datasets/"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_NUMBERED = re.compile(r"[-_.]?\d+(?:[-_]of[-_]\d+)?")
"""What tells the shards of one table apart: `train-00000-of-00002`, `part-3`."""


def read_manifest(address: str | Path, allow_outside: bool = False, options: TableOptions = AS_NAMED) -> Manifest:
    """Read a table of samples: one row a sample, one column a modality.

    - `.parquet`, `.arrow`, `.feather`, `.jsonl`, `.json`, `.csv`, `.tsv`, also compressed, `.csv.gz`: paths in it are
      relative to its folder. An empty cell is a missing modality.
    - a folder that holds one such file: that file; or several that are numbered, or named by their split
      (`train-00000-of-00002.parquet`): all of them, as one table.
    - a pattern, `shards/*.parquet`: the files that it fits, as one table.
    - a folder that `save_to_disk` of Hugging Face's `datasets` has made.
    - a data set of the Hugging Face hub, `hf://datasets/org/name`, or one of its configurations, `.../name/en`: its
      Parquet files, or other tables, as one table.
    - a folder of class folders, `class/file` or `train/class/file`: see `read_class_folders`.
    - a WebDataset `.tar`: see `read_webdataset`. Its files are read into memory.

    The columns id, label, split and group have a role of their own, unless `options` names others; every other may be
    a modality.

    Args:
        address: a local path, or any address that fsspec knows, e.g. `s3://bucket/clips.parquet`.
        allow_outside: follow paths that leave the manifest's folder: absolute, with `..`, through a link, or on
            another file system. Only for a manifest that you trust.
        options: which columns have which role, and which texts mean a missing cell.

    Raises:
        ValueError: no such file, an unknown form, a damaged file, or no rows.
    """
    given, address = str(address), full_address(address)
    files, path = file_system(address)
    try:
        if files.isdir(path):
            names = sorted(Path(entry).name for entry in files.ls(path, detail=False))
            # `.json` files beside other things mostly describe them.
            tables = [name for name in names if _form_of(name) in {*_READERS} - {".json"} and not name.startswith(".")]
            if shards := _saved_shards(address, names) or _numbered_shards(address, tables):
                base, table = address, _read_shards(address, shards, options)
            elif len(tables) > 1:
                raise ValueError(
                    f"{address}: holds several manifests, {', '.join(tables)}; name the one to read, or read all as "
                    f"one table with a pattern, {joined(address, '*' + suffix_of(tables[0]))!r}"
                )
            elif tables:
                return read_manifest(joined(address, tables[0]), allow_outside, options)
            elif address.startswith(_HUB):
                base, table = address, _read_shards(address, _hub_shards(address), options)
            else:
                base, table = address, read_class_folders(address)
        elif files.isfile(path):
            base, table = parent_of(address), _read_table(address, options)
        elif "*" in path:
            base = parent_of(address.partition("*")[0])
            matches = sorted(posixpath.relpath(match, file_system(base)[1]) for match in files.glob(path))
            if not matches:
                raise ValueError(f"{address}: no file fits this pattern")
            table = _read_shards(base, [(match, None) for match in matches], options)
        else:
            hub = f"; a data set of the Hugging Face hub is named {_HUB}{given}" if _HUB_NAME.fullmatch(given) else ""
            raise ValueError(f"{address}: no such file or folder{hub}")
    except (ValueError, ImportError):
        raise
    except Exception as error:  # each file system has its own
        if isinstance(error, OSError) or not is_local(address):
            raise ValueError(f"{address}: cannot be read ({type(error).__name__}: {error})") from error
        raise
    if not table.num_rows:
        raise ValueError(f"{address}: holds no rows; write one row a sample")
    emptied: dict[tuple[str, str], int] = {}
    for position, (name, kind) in enumerate(zip(table.column_names, table.schema.types)):
        if options.missing and pa.types.is_large_string(kind) and name != options.column_of("id"):
            without, counts = without_texts(table[name], ("", *options.missing))
            table = table.set_column(position, name, without)
            emptied |= {(name, text): count for text, count in counts.items() if text}
    manifest = Manifest(address, base, table, allow_outside, options, emptied)
    if not manifest.columns:
        raise ValueError(
            f"{address}: holds no modality, only {', '.join(table.column_names)}; add a column for each modality"
        )
    return manifest


def _read_table(address: str, options: TableOptions) -> pa.Table:
    suffix = _form_of(address)
    if suffix not in _READERS:
        raise ValueError(
            f"{address}: expected a manifest, {', '.join(_READERS)}, or a folder of class folders; "
            f"got {suffix_of(address) or 'no suffix'!r}. Convert it, e.g. by pandas: "
            'pandas.read_excel("clips.xlsx").to_parquet("clips.parquet")'
        )
    files, path = file_system(address)
    with files.open(path, "rb", compression=_COMPRESSED.get(suffix_of(address))) as file:
        try:
            return _READERS[suffix](file, address, options)
        except (EOFError, zlib.error) as error:
            raise ValueError(f"{address}: damaged or cut short ({error}); fetch the file again") from error


def _form_of(name: str) -> str:
    """The suffix of a table, without that of its compression."""
    suffix = suffix_of(name)
    return suffix_of(name[: -len(suffix)]) if suffix in _COMPRESSED else suffix


Shards = Sequence[tuple[str, str | None]]
"""Files of one table, by their paths in its folder, each with the split of its rows, if that says it."""


def _numbered_shards(address: str, names: Sequence[str]) -> Shards:
    """The tables of a folder, if their names differ by a number or by a split."""
    stems = [_NUMBERED.sub("", name.partition(_form_of(name))[0]) for name in names]
    splits = [split_name(stem) for stem in stems]
    if len(names) < 2 or len(set(map(_form_of, names))) > 1:
        return []
    if all(split in SPLITS for split in splits):
        return list(zip(names, splits))
    return [(name, None) for name in names] if len(set(stems)) == 1 else []


def _hub_shards(address: str) -> Shards:
    """The tables of a data set of the Hugging Face hub, of one configuration, each with its split.

    Its Parquet files, or tables of another form if it has none. Folders and names say the split; what other folders
    they lie in, the configuration.
    """
    files, path = file_system(address)
    names = sorted(posixpath.relpath(name, path) for name in files.find(path))
    of_form = {form: [name for name in names if _form_of(name) == form] for form in _READERS if form != ".json"}
    tables = of_form[".parquet"] or next(filter(None, of_form.values()), [])
    if not tables:
        raise ValueError(
            f"{address}: holds no table ({', '.join(of_form)}); if the hub shows its rows, they are in "
            f"{_HUB}ORG/NAME@refs/convert/parquet"
        )
    configurations: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    for name in tables:
        folder, _, file = name.rpartition("/")
        parts = [*folder.split("/"), _NUMBERED.sub("", file.partition(_form_of(file))[0])]
        splits = [split_name(part) for part in parts]
        rest = "/".join(part for part, split in zip(parts[:-1], splits) if split not in SPLITS)
        configurations[rest].append((name, next((split for split in reversed(splits) if split in SPLITS), None)))
    if len(configurations) > 1:
        folders = ", ".join(joined(address, one) for one in configurations)
        raise ValueError(f"{address}: holds several configurations; name one of {folders}")
    (shards,) = configurations.values()
    return shards


def _saved_shards(address: str, names: Sequence[str]) -> Shards:
    """The Arrow files of a folder that `datasets.save_to_disk` has made, of a data set or of several splits."""
    if "dataset_dict.json" in names:
        splits = _names_in(address, "dataset_dict.json", lambda content: content["splits"])
        return [
            (posixpath.join(split, name), split_name(split))
            for split in splits
            for name, _ in _saved_shards(joined(address, split), ["state.json"])
        ]
    if "state.json" in names:
        read = _names_in(address, "state.json", lambda content: [file["filename"] for file in content["_data_files"]])
        return [(name, None) for name in read]
    return []


def _names_in(folder: str, name: str, pick: Callable[[Any], list[str]]) -> list[str]:
    """Names of files or folders beside a JSON file that lists them."""
    address = joined(folder, name)
    files, path = file_system(address)
    try:
        names = pick(json.loads(files.cat_file(path)))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{address}: not what datasets.save_to_disk writes ({error}); save the data set again"
        ) from error
    for one in names:
        if one != posixpath.basename(one) or one in ("", ".", ".."):
            raise ValueError(f"{address}: expected names of files beside it; got {one!r}")
    return names


def _read_shards(base: str, shards: Shards, options: TableOptions) -> pa.Table:
    """The rows of several files with the same columns as one table, in the order of the files."""
    tables = []
    splits = {split for _, split in shards}
    for name, split in shards:
        table = _read_table(joined(base, name), options)
        # Files of one split are a table that is not split yet: Hugging Face calls it "train".
        if split is not None and len(splits) > 1 and "split" not in table.column_names:
            table = table.append_column("split", pa.array([split] * len(table), pa.large_string()))
        tables.append(table)
        if set(table.column_names) != set(tables[0].column_names):
            differ = sorted(set(table.column_names) ^ set(tables[0].column_names))
            raise ValueError(
                f"{base}: {shards[0][0]} and {name} are read as one table, but only one of them has the column "
                f"{differ[0]!r}; give them the same columns, or name the file to read"
            )
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise ValueError(f"{base}: {', '.join(name for name, _ in shards)} do not make one table ({error})") from error


def read_class_folders(address: str) -> pa.Table:
    """The layout of ImageFolder as a table: a row a file, its kind by its suffix, its label by its folder.

    `class/file`, or `train/class/file` where every top folder is named for a split. Folders below a class are part
    of it. Where files of several kinds are found, those of one path but for the suffix (`cat/1.png`, `cat/1.wav`)
    make one row. Files of other kinds, and those whose name starts with a dot, are no samples.

    Returns:
        columns id (the path), label, split if there are any, and image, audio, video as there are.

    Raises:
        ValueError: no such file, one that lies in no class folder, or two of a kind that share a row.
    """
    media = [(path, kind) for path in sorted(_files_below(address)) if (kind := kind_of_name(path)) in FILE_KINDS]
    if not media:
        raise ValueError(
            f"{address}: holds no manifest (.parquet, .jsonl, .csv, .tar) and no image, audio or video file; "
            "give the folder that holds the class folders"
        )
    has_splits = all(split_name(path.split("/")[0]) in SPLITS and path.count("/") > 1 for path, _ in media)
    several = len({kind for _, kind in media}) > 1
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for path, kind in media:
        folders = path.split("/")[:-1]
        if not folders:
            raise ValueError(f"{address}: {path} lies in no class folder; move it to <class>/{path}")
        row = rows[posixpath.splitext(path)[0] if several else path]
        if kind in row:
            raise ValueError(
                f"{address}: {row[kind]} and {path} would be the {kind} of one row, as they differ by their suffix "
                "alone; rename one"
            )
        row[kind], row["label"] = path, folders[1 if has_splits else 0]
        if has_splits:
            row["split"] = split_name(folders[0])
    return table_of([{"id": name, **row} for name, row in rows.items()], address)


def _files_below(address: str) -> Iterator[str]:
    """The files of a folder by their paths in it, without hidden ones."""
    files, folder = file_system(address)
    if not is_local(address):
        paths = (posixpath.relpath(path, folder) for path in files.find(folder))
        yield from (path for path in paths if not any(part.startswith(".") for part in path.split("/")))
        return
    # Links to folders are followed, each folder once, so that a link to its parent does not run in circles.
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


def read_webdataset(file: Any, address: str, options: TableOptions = AS_NAMED) -> pa.Table:
    """Read the files of an uncompressed WebDataset tar into memory, a row a key; nothing is unpacked.

    A key is a member's path up to the first dot of its name: `a/1.png` and `a/1.json` are of the row `a/1`. The
    suffix names the column: images, audio and video by their kind, `txt` is `text`, `cls` is `label`, a `json` gives
    its fields, and any other suffix its own name. Where a name stands before the suffix, it names the column:
    `1.depth.png` is the `depth` of row `1`.

    Raises:
        ValueError: a damaged tar; a member with an unsafe name, or that is a link; two that share a cell; a `json`
            that holds no object.
    """
    rows: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                name = _safe_name(member, address)
                folder, _, base = name.rpartition("/")
                stem, dot, suffix = base.partition(".")
                if not stem or not dot:
                    continue  # no key, or no suffix: WebDataset leaves these out too
                content = tar.extractfile(member)
                assert content is not None  # a regular file
                key = posixpath.join(folder, stem)
                row = rows.setdefault(key, {})
                for column, cell in _member_cells(suffix.lower(), content.read(), f"{address}: member {name}").items():
                    if row.get(column) is not None:
                        raise ValueError(
                            f"{address}: member {name}: the row {key} has a {column!r} already; a row holds one of each"
                        )
                    row[column] = cell
    except tarfile.TarError as error:
        raise ValueError(f"{address}: not readable as an uncompressed tar ({error}); fetch the file again") from error
    named = [{**row, "id": key if row.get("id") is None else row["id"]} for key, row in rows.items()]
    return table_of(named, address, options)


def _safe_name(member: tarfile.TarInfo, address: str) -> str:
    name = posixpath.normpath(member.name)
    if name.startswith("/") or name.split("/")[0] == ".." or "\\" in name or "\0" in name:
        raise ValueError(f"{address}: member {member.name!r} has an unsafe name; write relative names without '..'")
    if not member.isfile():
        raise ValueError(f"{address}: member {member.name!r} is a link or a device, not a file; pack the files")
    return name


def _member_cells(suffix: str, content: bytes, what: str) -> dict[str, Any]:
    if suffix == "json":
        try:
            fields = json.loads(content)
        except ValueError as error:
            raise ValueError(f"{what}: no JSON ({error})") from error
        if not isinstance(fields, dict):
            raise ValueError(f"{what}: expected a JSON object; got {str(fields)[:40]}")
        return fields
    if suffix == "cls":
        try:
            return {"label": content.decode().strip()}
        except UnicodeDecodeError as error:
            raise ValueError(f"{what}: no text in UTF-8 ({error})") from error
    if suffix in ("txt", "text", "caption"):
        return {"text": content}  # as bytes: one that is no UTF-8 shall not stop the reading of all others
    name, _, last = suffix.rpartition(".")
    kind = kind_of_name(f"x.{last}")
    return {name or (kind if kind in FILE_KINDS else last): content}


_READERS = {
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".tab": read_csv,
    ".tar": read_webdataset,
}
_COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}
