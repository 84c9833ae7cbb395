"""The application: addresses, limits and errors around one collection."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from confu.search import Collection
from confu.serve.asking import asking_routes
from confu.serve.fields import CLASSIFY, EMBED, SEARCH
from confu.serve.limits import Gate, HostGuard, KeyGuard
from confu.serve.metrics import Measured
from confu.serve.openapi import DOCS, body_of, errors_of
from confu.serve.page import add_page
from confu.serve.problems import Problem, add_problems
from confu.serve.service import Service
from confu.serve.settings import ServeSettings
from confu.serve.telling import telling_routes

_ASKING = {"search": SEARCH, "embed": EMBED, "classify": CLASSIFY}


def create_app(collection: Collection, settings: ServeSettings | None = None, guard_host: bool = False) -> FastAPI:
    """An ASGI application that answers questions to a collection.

    Args:
        collection: stays open as long as the application is used, and is closed by who opened it.
        settings: the defaults if None.
        guard_host: refuse to be asked under a name that is not among `settings.known_hosts`, as `run` does.

    Raises:
        ValueError: if a modality has the name of a field of the requests.
    """
    settings = ServeSettings() if settings is None else settings
    taken = {field for fields in _ASKING.values() for field in fields}
    if clash := [name for name in collection.modalities if name in taken]:
        raise ValueError(
            f"the modality {clash[0]!r} has the name of a field of the requests ({', '.join(sorted(taken))}); "
            "rename it in the run file and train again"
        )
    service = Service(collection, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.in_thread(service.stop)

    app = FastAPI(
        title=f"confu: {collection.index.folder.resolve().name}",
        version=_version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )  # fmt: skip  (both load scripts from another host)
    app.state.service = service
    add_problems(app)

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = str(first["loc"][-1])
        return Problem(422, f"bad_{field}", f"{field}: {first['msg']}", field).response()

    bodies = {name: body_of(service.readers, fields) for name, fields in _ASKING.items()}
    app.include_router(asking_routes(service, bodies, errors_of(400, 408, 413, 415, 422, 503, 504)))
    app.include_router(telling_routes(service, errors_of(404, 422)))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(DOCS, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"})

    if settings.page:
        add_page(app)
    app.add_middleware(Gate, admission=service.admission)
    if settings.api_key is not None:
        app.add_middleware(KeyGuard, key=settings.api_key.get_secret_value())
    if settings.cors:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.cors), allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key"],
        )  # fmt: skip
    if settings.known_hosts is not None and guard_host:
        app.add_middleware(HostGuard, hosts=settings.known_hosts)
    app.add_middleware(Measured, metrics=service.metrics)
    return app


def _version() -> str:
    try:
        return version("contrastive-fusion")
    except PackageNotFoundError:  # run from a folder that is not installed
        return "0"
