"""Errors of the server as JSON: never a path of this machine, never a traceback."""

import logging
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from confu.search import QueryError

LOG = logging.getLogger("confu.serve")
_MESSAGES = {
    404: ("not_found", "there is nothing at this address; see /docs"),
    405: ("method_not_allowed", "this address takes another method; see /docs"),
}


class RequestError(Exception):
    """A response that is an error.

    Args:
        status: HTTP status.
        code: the kind of error in one word, which programs can rely on.
        message: what is wrong and what to send instead.
        field: the part of the request that it is about.
        headers: of the response.
    """

    def __init__(
        self, status: int, code: str, message: str, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        self.headers = headers or {}

    def response(self) -> Response:
        """As JSON: `{"error": {"code", "message", "field"}}`."""
        error = {"code": self.code, "message": _printable(str(self)), "field": self.field and _printable(self.field)}
        return JSONResponse({"error": error}, self.status, self.headers)


def busy(why: str, seconds: float = 1) -> RequestError:
    """503 with `Retry-After`."""
    wait = max(1, math.ceil(seconds))
    return RequestError(503, "busy", f"{why}; try again in {wait} s", headers={"Retry-After": str(wait)})


def query_error(error: QueryError) -> RequestError:
    """A query that cannot be answered, as an error of the client."""
    return RequestError(404 if error.code == "unknown_item" else 422, error.code, str(error), error.argument)


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error in one form."""

    @app.exception_handler(RequestError)
    async def request_error(request: Request, error: RequestError) -> Response:
        return error.response()

    @app.exception_handler(QueryError)
    async def wrong_query(request: Request, error: QueryError) -> Response:
        return query_error(error).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = str(first["loc"][-1])
        return RequestError(422, f"bad_{field}", f"{field}: {first['msg']}", field).response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        code, message = _MESSAGES.get(error.status_code, ("refused", str(error.detail)))
        return RequestError(error.status_code, code, message, headers=dict(error.headers or {})).response()

    @app.exception_handler(ConnectionError)
    async def store_unavailable(request: Request, error: ConnectionError) -> Response:
        # The error names the store's address, which no client needs.
        LOG.warning("the store of the index does not answer: %s", error)
        message = "the store of the index does not answer; try again in 5 s"
        return RequestError(503, "store_away", message, headers={"Retry-After": "5"}).response()

    @app.exception_handler(Exception)
    async def internal(request: Request, error: Exception) -> Response:
        LOG.error("%s %s failed", request.method, request.scope.get("route_name", request.url.path), exc_info=error)
        return RequestError(500, "internal", "the server failed; its log says how").response()


def _printable(text: Any) -> str:
    # JSON can name half a surrogate pair, UTF-8 cannot.
    return str(text)[:2000].encode("utf-8", "replace").decode()
