"""What a client is told when it cannot be answered; never a path of this machine, never a traceback."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from confu.search import QueryError

LOG = logging.getLogger("confu.serve")
_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
_MESSAGES = {
    404: "there is nothing at this address; see /docs",
    405: "this address is asked in another way; see /docs",
}


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        code: what is wrong, in one word, which programs can rely on.
        message: what is wrong and what to send instead.
        field: the part of the request that it is about.
        headers: of the answer.
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


def of_question(error: QueryError) -> Problem:
    """A question that cannot be answered, as an error of the client."""
    return Problem(404 if error.code == "unknown_item" else 422, error.code, str(error), error.argument)


def add_problems(app: FastAPI) -> None:
    """Answer every error in one form."""

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(QueryError)
    async def bad_question(request: Request, error: QueryError) -> Response:
        return of_question(error).response()

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        code, message = _CODES.get(error.status_code, "refused"), _MESSAGES.get(error.status_code, str(error.detail))
        return Problem(error.status_code, code, message, headers=dict(error.headers or {})).response()

    @app.exception_handler(ConnectionError)
    async def away(request: Request, error: ConnectionError) -> Response:
        LOG.warning("the store of the index does not answer: %s", error)  # names its address, which no client needs
        message = "the store of the index does not answer; try again in 5 s"
        return Problem(503, "store_away", message, headers={"Retry-After": "5"}).response()

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        LOG.error("%s %s failed", request.method, request.scope.get("route_name", request.url.path), exc_info=error)
        return Problem(500, "internal", "the server failed; its log says how").response()


def _printable(text: Any) -> str:
    """Half a surrogate pair, which JSON can name and UTF-8 cannot, as a question mark."""
    return str(text)[:2000].encode("utf-8", "replace").decode()
