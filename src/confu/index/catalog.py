"""`index.json`, which says what an index is: its model, subsets and source, and its store; the lock of its writer."""

import json
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confu.data.media import KINDS
from confu.files import write_json
from confu.plan import Subset

FILE = "index.json"
FORMAT, VERSION = "confu.index", 2
_LOCK = ".writer.db"


@dataclass(frozen=True)
class About:
    """The model and the data behind an index.

    Attributes:
        model: full path of the run or model folder, or its name on the hub.
        fingerprint: of the model's weights, plan and readers; queries of a model with another one are refused.
        dim: the size of a vector.
        subsets: the subsets that are stored.
        kinds: modality -> image, audio, video, text, vector, sequence or number.
        source: what the vectors were made of, JSON-able; empty if they were added by hand.

    Raises:
        ValueError: if there is no subset, one is repeated, dim is below 1, or a kind is unknown or missing.

    >>> About("runs/birds", "3f...", 128, (Subset("image"),), {"image": "image"}).to_dict()["subsets"]
    ['image']
    """

    model: str
    fingerprint: str
    dim: int
    subsets: tuple[Subset, ...]
    kinds: dict[str, str]
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        subsets = tuple(map(Subset.parse, self.subsets))
        object.__setattr__(self, "subsets", subsets)
        if not subsets or len(set(subsets)) != len(subsets):
            raise ValueError(f"subsets must name at least one subset, each once; got {list(map(str, subsets))}")
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < 1:
            raise ValueError(f"dim must be a whole number of at least 1; got {self.dim!r}")
        if wrong := {name: kind for name, kind in self.kinds.items() if kind not in KINDS}:
            raise ValueError(f"kinds must give each modality one of {', '.join(KINDS)}; got {wrong}")
        if missing := sorted({name for subset in subsets for name in subset} - set(self.kinds)):
            raise ValueError(f"kinds must name every modality of the subsets; it lacks {', '.join(missing)}")

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `index.json`."""
        return {**vars(self), "subsets": [str(subset) for subset in self.subsets], "kinds": dict(self.kinds)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "About":
        """The reverse of `to_dict`; a ValueError names what is missing or of another type."""
        types = {"model": str, "fingerprint": str, "dim": int, "subsets": list, "kinds": dict, "source": dict}
        for name, kind in types.items():
            if not isinstance(content.get(name), kind):
                raise ValueError(f"{name!r} must be of type {kind.__name__}; got {content.get(name)!r}")
        values = {name: content[name] for name in types}
        return cls(**{**values, "subsets": tuple(map(Subset.parse, content["subsets"]))})


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
