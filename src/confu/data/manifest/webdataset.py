"""A WebDataset tar as a table: the files of one key make a row, their suffixes name the columns."""

import json
import posixpath
import tarfile
from typing import Any

import pyarrow as pa

from confu.data.manifest.address import BinaryFile
from confu.data.manifest.cells import FILE_KINDS
from confu.data.manifest.columnar import table_of
from confu.data.manifest.kinds import kind_of_name

_TEXT, _LABEL, _FIELDS = ("txt", "text", "caption"), "cls", "json"


def read_webdataset(file: BinaryFile, address: str) -> pa.Table:
    """Read the files of a tar into memory, a row a key; nothing is unpacked.

    A key is a member's path up to the first dot of its name: `a/1.png` and `a/1.json` are of the row `a/1`. The
    suffix names the column: images, audio and video by their kind, `txt` is `text`, `cls` is `label`, a `json` gives
    its fields, and any other suffix its own name. Where a name stands before the suffix, it names the column:
    `1.depth.png` is the `depth` of row `1`.

    Args:
        file: an uncompressed tar.
        address: for messages.

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
                for column, cell in _cells(suffix, content.read(), f"{address}: member {name}").items():
                    if row.get(column) is not None:
                        raise ValueError(
                            f"{address}: member {name}: the row {key} has a {column!r} already; a row holds one of each"
                        )
                    row[column] = cell
    except tarfile.TarError as error:
        raise ValueError(f"{address}: not readable as an uncompressed tar ({error}); fetch the file again") from error
    named = [{**row, "id": key if row.get("id") is None else row["id"]} for key, row in rows.items()]
    return table_of(named, address)


def _safe_name(member: tarfile.TarInfo, address: str) -> str:
    name = posixpath.normpath(member.name)
    if name.startswith("/") or name.split("/")[0] == ".." or "\\" in name or "\0" in name:
        raise ValueError(f"{address}: member {member.name!r} has an unsafe name; write relative names without '..'")
    if not member.isfile():
        raise ValueError(f"{address}: member {member.name!r} is a link or a device, not a file; pack the files")
    return name


def _cells(suffix: str, content: bytes, what: str) -> dict[str, Any]:
    suffix = suffix.lower()
    if suffix == _FIELDS:
        try:
            fields = json.loads(content)
        except ValueError as error:
            raise ValueError(f"{what}: no JSON ({error})") from error
        if not isinstance(fields, dict):
            raise ValueError(f"{what}: expected a JSON object; got {str(fields)[:40]}")
        return fields
    if suffix == _LABEL:
        try:
            return {"label": content.decode().strip()}
        except UnicodeDecodeError as error:
            raise ValueError(f"{what}: no text in UTF-8 ({error})") from error
    if suffix in _TEXT:
        return {"text": content}  # as bytes: one that is no UTF-8 shall not stop the reading of all others
    name, _, last = suffix.rpartition(".")
    kind = kind_of_name(f"x.{last}")
    return {name or (kind if kind in FILE_KINDS else last): content}
