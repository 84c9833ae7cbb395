"""The stores that an index may be kept in, imported when they are asked for."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confu.checks import check_known
from confu.index.about import About
from confu.index.backend import Backend

BACKENDS: dict[str, str] = {
    "exact": "confu.index.exact",
    "faiss": "confu.index.faiss",
    "postgres": "confu.index.postgres",
    "qdrant": "confu.index.qdrant",
}
"""Name -> a module with two functions:

    create(folder: Path, about: About, options: Mapping[str, Any]) -> Backend      an empty one
    open_(folder: Path, about: About, options: Mapping[str, Any], writable: bool) -> Backend

The backend has an attribute `options: dict[str, Any]`: what `index.json` keeps of its options and gives to `open_`
again, with nothing secret in it. An extra package that is missing is an ImportError that names the extra.
"""


def create_backend(kind: str, folder: Path, about: About, options: Mapping[str, Any]) -> Backend:
    """An empty store in a folder that is new or empty, open for writing.

    Raises:
        ValueError: if there is no such backend, or an option is wrong.
    """
    check_known("backend", kind, BACKENDS)
    return importlib.import_module(BACKENDS[kind]).create(folder, about, dict(options))


def open_backend(kind: str, folder: Path, about: About, options: Mapping[str, Any], writable: bool) -> Backend:
    """A store that is there."""
    check_known("backend", kind, BACKENDS)
    return importlib.import_module(BACKENDS[kind]).open_(folder, about, dict(options), writable)
