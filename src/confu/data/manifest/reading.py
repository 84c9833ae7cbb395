"""Reading a manifest, whichever form it has and wherever it lies."""

from pathlib import Path

import pyarrow as pa

from confu.data.manifest.address import file_system, full_address, is_local, joined, parent_of
from confu.data.manifest.class_folders import read_class_folders
from confu.data.manifest.kinds import suffix_of
from confu.data.manifest.manifest import Manifest
from confu.data.manifest.tabular import read_csv, read_json_lines, read_parquet
from confu.data.manifest.webdataset import read_webdataset

_READERS = {
    ".parquet": read_parquet,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_csv,
    ".tar": read_webdataset,
}


def read_manifest(address: str | Path, allow_outside: bool = False) -> Manifest:
    """Read a table of samples: one row a sample, one column a modality.

    - `.parquet`, `.jsonl`, `.csv`: paths in it are relative to its folder. An empty cell is a missing modality.
    - a folder that holds one such file: that file.
    - a folder of class folders, `class/file` or `train/class/file`: see `read_class_folders`.
    - a WebDataset `.tar`: see `read_webdataset`. Its files are read into memory.

    The columns id, label, split and group have a role of their own; every other may be a modality.

    Args:
        address: a local path, or any address that fsspec knows, e.g. `s3://bucket/clips.parquet`.
        allow_outside: follow paths that leave the manifest's folder: absolute, with `..`, through a link, or on
            another file system. Only for a manifest that you trust.

    Raises:
        ValueError: no such file, an unknown form, a damaged file, or no rows.
    """
    address = full_address(address)
    files, path = file_system(address)
    try:
        if files.isdir(path):
            return _read_folder(address, allow_outside)
        if not files.isfile(path):
            raise ValueError(f"{address}: no such file or folder")
        read = _READERS.get(suffix_of(address.partition("::")[0]))
        if read is None:
            raise ValueError(
                f"{address}: expected a manifest, {', '.join(_READERS)}, or a folder of class folders; "
                f"got {suffix_of(address) or 'no suffix'!r}"
            )
        with files.open(path, "rb") as file:
            table = read(file, address)
    except OSError as error:
        raise ValueError(f"{address}: cannot be read ({error})") from error
    return _manifest(address, parent_of(address), table, allow_outside)


def _read_folder(address: str, allow_outside: bool) -> Manifest:
    files, path = file_system(address)
    names = sorted(Path(found).name for found in files.ls(path, detail=False))
    manifests = [name for name in names if suffix_of(name) in _READERS and not name.startswith(".")]
    if len(manifests) > 1:
        raise ValueError(f"{address}: holds several manifests, {', '.join(manifests)}; name the one to read")
    if manifests:
        return read_manifest(joined(address, manifests[0]), allow_outside)
    local = path if is_local(address) else None
    return _manifest(address, address, read_class_folders(files, path, address, local is not None), allow_outside)


def _manifest(address: str, base: str, table: pa.Table, allow_outside: bool) -> Manifest:
    if not table.num_rows:
        raise ValueError(f"{address}: holds no rows; write one row a sample")
    manifest = Manifest(address, base, table, allow_outside)
    if not manifest.columns:
        raise ValueError(
            f"{address}: holds no modality, only {', '.join(table.column_names)}; add a column for each modality"
        )
    return manifest
