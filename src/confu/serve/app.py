"""The application around one collection, its page, and the server that runs it."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from confu.search import Collection
from confu.serve.errors import add_error_handlers
from confu.serve.limits import Guard
from confu.serve.metrics import Measured
from confu.serve.requests import ClassifyFields, EmbedFields, SearchFields
from confu.serve.routes import query_routes, read_routes
from confu.serve.service import Service, check_field_names
from confu.serve.settings import ServeSettings

LOG = logging.getLogger("confu.serve")
PAGE = Path(__file__).parent / "page"
PAGE_HEADERS = {
    # Pictures that are dropped on the page are previewed from blobs.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(self)",
    "Cache-Control": "no-cache",  # asked for each time, and answered 304 while nothing changed
}


def create_app(collection: Collection, settings: ServeSettings | None = None, guard_host: bool = False) -> FastAPI:
    """An ASGI application that answers queries to a collection.

    Args:
        collection: stays open as long as the application is used; who opened it closes it.
        settings: the defaults if None.
        guard_host: refuse requests to a host name that is not among `settings.known_hosts`, as `run` does.

    Raises:
        ValueError: if a modality has the name of a field of the requests.
    """
    settings = ServeSettings() if settings is None else settings
    check_field_names(collection.modalities, (SearchFields, EmbedFields, ClassifyFields))
    service = Service(collection, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.in_thread(service.stop)

    # FastAPI's own pages of documentation load scripts from another host.
    title = f"confu: {collection.index.folder.resolve().name}"
    app = FastAPI(title=title, version=_version(), lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    add_error_handlers(app)
    app.include_router(query_routes(service))
    app.include_router(read_routes(service))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        text = (PAGE / "docs.html").read_text(encoding="utf-8")
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    if settings.page:
        _add_page(app)
    # The middleware that is added last is entered first.
    key = None if settings.api_key is None else settings.api_key.get_secret_value()
    hosts = settings.known_hosts if guard_host else None
    app.add_middleware(Guard, admission=service.admission, key=key, hosts=hosts)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key"],
        )
    app.add_middleware(Measured, metrics=service.metrics)
    return app


def run(folder: Path | str, settings: ServeSettings | None = None, **options: Any) -> None:
    """Serve an index until the process is told to stop; requests in flight are answered first.

    Args:
        folder: of the index.
        settings: the defaults if None.
        options: further arguments of `Collection.open`, e.g. `run` and `device`.

    Raises:
        ValueError: if there is no index or model, or they do not belong together.
    """
    settings = ServeSettings() if settings is None else settings
    collection = Collection.open(folder, **{"temperature": settings.temperature, **options})
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
            root_path=settings.root_path,
            log_level="info",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(settings.stop_s)),
            limit_concurrency=None,  # the application itself says 503 and when to come again
            h11_max_incomplete_event_size=2**16,
        )
    )


class PageFiles(StaticFiles):
    """Static files with the headers of the page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, or 404."""
        response = await super().get_response(path, scope)
        response.headers.update(PAGE_HEADERS)
        return response


def _add_page(app: FastAPI) -> None:
    """Serve the page at `/` and its files under `/page`; they load nothing from another host."""

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", media_type="text/html", headers=PAGE_HEADERS)

    app.mount("/page", PageFiles(directory=PAGE), name="page")


def _version() -> str:
    try:
        return version("contrastive-fusion")
    except PackageNotFoundError:  # run from a folder that is not installed
        return "0"
