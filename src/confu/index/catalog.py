"""`index.json`, which says what an index is, and the lock of its one writer."""

import json
import os
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confu.files import write_json
from confu.index.about import About

FILE = "index.json"
FORMAT, VERSION = "confu.index", 2
_LOCK = ".writer.db"


@dataclass(frozen=True)
class Catalog:
    """The content of `index.json`.

    Attributes:
        about: the model and the data; a backend may know a newer `source`.
        kind: of the backend.
        options: of the backend, without secrets.
        segments: files of the exact store as version 1 kept them, which `migrate` reads; None for others.
    """

    about: About
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    segments: list[dict[str, Any]] | None = None

    def write(self, folder: Path) -> None:
        """Replace the file."""
        backend = {"kind": self.kind, "options": self.options}
        content = {"format": FORMAT, "version": VERSION, "about": self.about.to_dict(), "backend": backend}
        write_json(folder / FILE, content)
        sync_folder(folder)


def read_catalog(folder: Path) -> Catalog:
    """Read the `index.json` of a folder.

    Raises:
        ValueError: if there is none, or it is damaged or of a newer version.
    """
    file = folder / FILE
    if not file.is_file():
        raise ValueError(f"{folder}: holds no {FILE}; expected a folder that `confu index` wrote")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"it has not the format {FORMAT!r}")
        version, segments = content.get("version"), None
        if version not in (1, VERSION):
            raise ValueError(f"it has version {version}, this confu reads version {VERSION}")
        backend = content["backend"]
        if not isinstance(backend["options"], dict):
            raise ValueError("'options' must be an object")
        if version == 1 and backend["kind"] in ("exact", "faiss"):
            segments = list(content["store"].get("segments", []))
        return Catalog(About.from_dict(content["about"]), str(backend["kind"]), backend["options"], segments)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: not readable as the description of an index ({error}); index again") from error


class WriterLock:
    """Held by the one process that writes; SQLite releases it when that process ends, however it ends.

    Raises:
        ValueError: if another process, or another object of this one, holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = sqlite3.connect(folder / _LOCK, isolation_level=None, timeout=0, check_same_thread=False)
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            self.release()
            if "locked" not in str(error):
                raise ValueError(f"{folder} cannot be written ({error})") from error
            raise ValueError(
                f"{folder} is being written by another process; wait until it has ended. Reading is possible at any "
                "time"
            ) from error

    def release(self) -> None:
        """Let another one write."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, so that they outlast a loss of power."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
