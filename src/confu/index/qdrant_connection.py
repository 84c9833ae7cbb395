"""The connection to a Qdrant server, or to the client's own store in the memory of this process."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
KEY, VARIABLE, MEMORY = "CONFU_QDRANT_API_KEY", "CONFU_QDRANT", ":memory:"
_IN_MEMORY: dict[Path, Any] = {}  # kept until the process ends, so that what was closed can be opened again


class Connection:
    """A server by its address, or a store in memory for tests and trying out.

    The client could also keep its own store in a folder. It is not offered: it reads pickles, which may run anything,
    and an index is what people hand to one another.

    Args:
        url: of the server, or ":memory:"; None for that of the environment, which also has the server's key.
        folder: of the index.
        timeout: seconds for one request.

    Raises:
        ImportError: if the client is not installed.
        ValueError: for a wrong address, or none.
    """

    def __init__(self, url: str | None, folder: Path, timeout: int) -> None:
        try:
            import qdrant_client
            from qdrant_client.http import exceptions
        except ImportError as error:
            install = 'pip install "contrastive-fusion[qdrant]"'
            raise ImportError(f"an index in Qdrant needs qdrant-client, which is not installed: {install}") from error
        url = url or os.environ.get(VARIABLE)
        if not url:
            raise ValueError(
                f"which Qdrant server? Set the environment variable {VARIABLE}, or give the option url, e.g. "
                f"http://localhost:6333; {MEMORY} is a store in the memory of this process, to try it out"
            )
        if "@" in url:
            raise ValueError(f"option url may hold no password; set the environment variable {KEY}")
        self.is_local, self.name = url == MEMORY, f"Qdrant at {url}"
        self._errors = exceptions
        if self.is_local:
            self.client = _IN_MEMORY.setdefault(folder.resolve(), qdrant_client.QdrantClient(MEMORY))
            return
        try:
            self.client = qdrant_client.QdrantClient(
                url=url, api_key=os.environ.get(KEY), timeout=timeout, check_compatibility=False
            )
        except ValueError as error:
            raise ValueError(
                f"option url must be the address of a Qdrant server, e.g. http://localhost:6333; got {url!r} ({error})"
            ) from error

    def ask(self, request: Callable[[Any], T], again: bool = True) -> T:
        """The result of `request(client)`, which is sent twice if the server does not answer at once.

        Raises:
            ConnectionError: naming the server, if it is away or refuses.
        """
        try:
            return request(self.client)
        except self._errors.ResponseHandlingException as error:
            if not again:
                raise ConnectionError(f"{self.name} does not answer ({error}); look whether it runs") from error
            return self.ask(request, again=False)
        except self._errors.UnexpectedResponse as error:
            raise ConnectionError(
                f"{self.name} refuses ({' '.join(str(error).split())[:300]}); look at its address, and at the key in "
                f"the environment variable {KEY}"
            ) from error

    def close(self) -> None:
        """Close the connection to a server."""
        if not self.is_local:
            self.client.close()
