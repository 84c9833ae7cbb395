"""How much is taken in at once, and from whom."""

import hmac
import math
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from confu.serve.problems import Problem

_MIB = 2**20
_OPEN = ("/", "/healthz", "/page")  # the page and its files hold nothing of the collection


class Admission:
    """Counts the requests that are being answered and the bytes that they hold. Used by one event loop.

    Args:
        most_requests: at once.
        most_mb: MiB of bodies at once.
    """

    def __init__(self, most_requests: int, most_mb: float) -> None:
        self.requests, self.bytes = 0, 0
        self.closed = False
        self._most_requests, self._most_bytes = most_requests, most_mb * _MIB

    @property
    def is_full(self) -> bool:
        """Whether there is no place."""
        return self.closed or self.requests >= self._most_requests

    def refusal(self) -> Problem:
        """What is said to those for whom there is none."""
        if self.closed:
            return busy("the server is stopping", 5)
        return busy(f"{self.requests} requests are being answered, as many as this server takes at once")

    @contextmanager
    def place(self) -> Iterator["Place"]:
        """A place for one request.

        Raises:
            Problem: 503 if there is none.
        """
        if self.is_full:
            raise self.refusal()
        self.requests += 1
        place = Place(self)
        try:
            yield place
        finally:
            self.requests -= 1
            self.bytes -= place.bytes

    def take(self, count: int) -> None:
        """Note bytes of a body.

        Raises:
            Problem: 503 if there is no room for them.
        """
        if self.bytes + count > self._most_bytes:
            raise busy("the server is reading as much from others as it can hold")
        self.bytes += count


class Place:
    """Of one request among those that are answered."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._more = True  # of the body is to come
        self.bytes = 0

    async def body(self, request: Request, most_mb: float) -> AsyncIterator[bytes]:
        """The body of a request as it comes.

        Raises:
            Problem: 413 if it is longer than it may be, by its own account or in fact.
        """
        most = most_mb * _MIB
        announced = request.headers.get("content-length", "0")
        if not announced.isdecimal() or int(announced) > most:
            raise _too_large(most_mb)
        while self._more:
            chunk = await self._next(request)
            if self.bytes + len(chunk) > most:
                raise _too_large(most_mb)
            self._admission.take(len(chunk))
            self.bytes += len(chunk)
            yield chunk

    async def skip(self, request: Request, most_mb: float) -> bool:
        """Read on without keeping anything, for most clients read no answer before they have sent everything.

        Returns:
            whether the body ended within that much.
        """
        skipped = 0
        while self._more and skipped <= most_mb * _MIB:
            skipped += len(await self._next(request))
        return not self._more

    async def _next(self, request: Request) -> bytes:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Problem(499, "gone", "the client has gone")
        self._more = message.get("more_body", False)
        return message.get("body", b"")


class Gate:
    """Sends those away for whom there is no place, before anything is done for them.

    Under a load that cannot be served most requests end here, and what this costs is taken from the others.

    Args:
        app: what is guarded.
        admission: counts the requests that are being answered.
    """

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.app, self.admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "http" and scope["method"] == "POST" and self.admission.is_full:
            await self.admission.refusal().response()(scope, receive, send)
            return
        await self.app(scope, receive, send)


class KeyGuard:
    """Answers only who sends the key, in `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    Args:
        app: what is guarded; `/healthz` and the page without its data stay open.
        key: the secret.
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http" or _is_open(scope) or self._is_right(scope):
            await self.app(scope, receive, send)
            return
        problem = Problem(
            401, "no_api_key", "this server wants its API key, as Authorization: Bearer KEY or X-API-Key: KEY",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
        await problem.response()(scope, receive, send)

    def _is_right(self, scope: Scope) -> bool:
        matches = [False]
        for name, value in scope["headers"]:
            if name == b"x-api-key":
                matches.append(hmac.compare_digest(value.strip(), self._key))
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                matches.append(hmac.compare_digest(value[7:].strip(), self._key))
        return any(matches)


class HostGuard:
    """Answers only who asks under a name that is known.

    Args:
        app: what is guarded.
        hosts: the names, without ports.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        named = dict(scope.get("headers", ())).get(b"host", b"").decode("latin-1")
        if scope["type"] != "http" or re.sub(r":\d*$", "", named) in self._hosts:
            await self.app(scope, receive, send)
            return
        message = "this server is not asked under this name; ask under localhost, or allow the name in its settings"
        await Problem(421, "wrong_host", message).response()(scope, receive, send)


def busy(why: str, seconds: float = 1) -> Problem:
    """503: come again later."""
    wait = max(1, math.ceil(seconds))
    return Problem(503, "busy", f"{why}; try again in {wait} s", headers={"Retry-After": str(wait)})


def _is_open(scope: Scope) -> bool:
    path = scope["path"]
    return path in _OPEN or path.startswith("/page/") or scope["method"] == "OPTIONS"


def _too_large(most_mb: float) -> Problem:
    return Problem(413, "too_large", f"the request has more than {most_mb:g} MiB; send less")
