"""What stands in the folder of an index in Qdrant, and the connection to where the points are."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from confu.files import write_json
from confu.index.columns import schema_from_json, schema_to_json

T = TypeVar("T")
KEY = "CONFU_QDRANT_API_KEY"
VARIABLE, MEMORY = "CONFU_QDRANT", ":memory:"
_FILE = "qdrant.json"
_IN_MEMORY: dict[Path, Any] = {}


@dataclass(frozen=True)
class State:
    """What Qdrant does not keep itself.

    Attributes:
        schema: of the metadata; columns are only ever added, so that one that no point has yet does no harm.
        rows: the number that the next new item gets.
    """

    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    rows: int = 0

    def write(self, folder: Path) -> None:
        """Replace the file."""
        write_json(folder / _FILE, {"columns": schema_to_json(self.schema), "rows": self.rows})

    @classmethod
    def read(cls, folder: Path) -> "State":
        """What `write` wrote.

        Raises:
            ValueError: if it is not there, or damaged.
        """
        try:
            content = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            return cls(schema_from_json(content["columns"]), int(content["rows"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / _FILE} cannot be read ({error}); index again") from error


def library() -> Any:
    """The package qdrant_client.

    Raises:
        ImportError: saying what to install.
    """
    try:
        import qdrant_client
    except ImportError as error:
        raise ImportError(
            'an index in Qdrant needs qdrant-client, which is not installed: pip install "contrastive-fusion[qdrant]"'
        ) from error
    return qdrant_client


class Link:
    """A server by its address; or the client's own store in the memory of this process, for tests and trying out.

    The client could also keep its own store in a folder. It is not offered: it reads pickles, which may run anything,
    and an index is what people hand to one another.

    Args:
        url: of the server, or ":memory:". The key of its interface is that of the environment.
        folder: of the index.
        timeout: seconds for one request.
    """

    def __init__(self, url: str, folder: Path, timeout: int) -> None:
        package = library()
        self.is_local, self.name = url == MEMORY, f"Qdrant at {url}"
        if self.is_local:
            # Kept until the process ends, so that what was closed can be opened again.
            self.client = _IN_MEMORY.setdefault(folder.resolve(), package.QdrantClient(MEMORY))
            return
        if "@" in url:
            raise ValueError(f"option url may hold no password; set the environment variable {KEY}")
        try:
            self.client = package.QdrantClient(
                url=url, api_key=os.environ.get(KEY), timeout=timeout, check_compatibility=False
            )
        except ValueError as error:
            raise ValueError(
                f"option url must be the address of a Qdrant server, e.g. http://localhost:6333; got {url!r} ({error})"
            ) from error

    def ask(self, what: Callable[[Any], T], again: bool = True) -> T:
        """What the client answers; asked twice if the server does not answer at once and `again` is set.

        Raises:
            ConnectionError: naming the server, if it is away or refuses.
        """
        errors = library().http.exceptions
        try:
            return what(self.client)
        except errors.ResponseHandlingException as error:
            if not again:
                raise ConnectionError(f"{self.name} does not answer ({error}); look whether it runs") from error
            return self.ask(what, again=False)
        except errors.UnexpectedResponse as error:
            raise ConnectionError(
                f"{self.name} refuses ({' '.join(str(error).split())[:300]}); look at its address, and at the key in "
                f"the environment variable {KEY}"
            ) from error

    def close(self) -> None:
        """Let go of the connection."""
        if not self.is_local:
            self.client.close()


def address(url: str | None) -> str:
    """The address of the server: this one, or that of the environment.

    Raises:
        ValueError: if there is neither.
    """
    found = url or os.environ.get(VARIABLE)
    if not found:
        raise ValueError(
            f"which Qdrant server? Set the environment variable {VARIABLE}, or give the option url, e.g. "
            f"http://localhost:6333; {MEMORY} is a store in the memory of this process, to try it out"
        )
    return found
