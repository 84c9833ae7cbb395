"""Serve a collection with uvicorn."""

import logging
from pathlib import Path
from typing import Any

import uvicorn

from confu.search import Collection
from confu.serve.app import create_app
from confu.serve.settings import ServeSettings

LOG = logging.getLogger("confu.serve")


def run(folder: Path | str, settings: ServeSettings | None = None, **opening: Any) -> None:
    """Serve an index until the process is told to stop; requests that are under way are answered first.

    Args:
        folder: of the index.
        settings: the defaults if None.
        opening: further arguments of `Collection.open`, e.g. `run` and `device`.

    Raises:
        ValueError: if there is no index or model, or they do not belong together.
    """
    settings = ServeSettings() if settings is None else settings
    collection = Collection.open(folder, **{"temperature": settings.temperature, **opening})
    try:
        server_of(collection, settings).run()
    finally:
        collection.close()


def server_of(collection: Collection, settings: ServeSettings) -> uvicorn.Server:
    """The server of an open collection, not started yet."""
    if not settings.is_local and settings.api_key is None:
        LOG.warning("%s can be reached from other machines, and no API key is asked for", settings.host)
    return uvicorn.Server(
        uvicorn.Config(
            create_app(collection, settings, guard_host=True),
            host=settings.host,
            port=settings.port,
            log_level="info",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(settings.stop_s)),
            limit_concurrency=None,  # the application itself says 503 and when to come again
            h11_max_incomplete_event_size=2**16,
        )
    )
