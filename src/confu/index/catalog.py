"""`index.json`: the one file that says what an index is and which files are its own. It is replaced whole."""

import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confu.files import write_json
from confu.index.about import About

FILE = "index.json"
FORMAT, VERSION = "confu.index", 1
_LOCK = ".writer"


@dataclass(frozen=True)
class Catalog:
    """The content of `index.json`.

    Attributes:
        about: the model and the data.
        kind: of the backend.
        options: of the backend, without secrets.
        store: what the exact store holds: its generation, columns and segments; empty for other backends.
    """

    about: About
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    store: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Replace the file; this is the moment at which a change of the index happens."""
        content = {
            "format": FORMAT, "version": VERSION, "about": self.about.to_dict(),
            "backend": {"kind": self.kind, "options": self.options}, "store": self.store,
        }  # fmt: skip
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
        if content.get("version") != VERSION:
            raise ValueError(f"it has version {content.get('version')}, this confu reads version {VERSION}")
        backend, store = content["backend"], content["store"]
        if not isinstance(backend["options"], dict) or not isinstance(store, dict):
            raise ValueError("'options' and 'store' must be objects")
        return Catalog(About.from_dict(content["about"]), str(backend["kind"]), backend["options"], store)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: not readable as the description of an index ({error}); index again") from error


def stamp(folder: Path) -> tuple[int, int, int]:
    """What changes whenever the file is replaced."""
    found = (folder / FILE).stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


class WriterLock:
    """Held by the one process that writes; the system lets go of it when that process ends, however it ends.

    Raises:
        ValueError: if another process, or another object of this one, holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._file: int | None = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            who = os.pread(self._file, 32, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise ValueError(
                f"{folder} is being written by another process{f' ({who})' if who else ''}; wait until it has ended. "
                "Reading is possible at any time"
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()}".encode(), 0)

    def release(self) -> None:
        """Let another one write."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, so that they outlast a loss of power."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
