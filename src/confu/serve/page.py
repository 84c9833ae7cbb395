"""The page: static files that the server sends itself, and nothing from another host."""

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "page"
FILES = "/page"  # where the page's own files lie; they and `/` are open also where the server wants an API key
POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' blob: data:",  # previews of what is dropped
        "media-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(self)",
    "Cache-Control": "no-cache",  # asked again each time, and answered 304 while nothing changed
}


class PageFiles(StaticFiles):
    """Files of one folder with the headers of the page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, or 404."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def add_page(app: FastAPI) -> None:
    """Let an app serve the page at `/` and its files under `/page`; they name nothing outside the server.

    Args:
        app: that answers `/v1/...`, which is all that the page asks for.
    """

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(FOLDER / "index.html", media_type="text/html", headers=HEADERS)

    app.mount(FILES, PageFiles(directory=FOLDER), name="page")
