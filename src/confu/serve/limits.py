"""Request limits: concurrency and body size, API key, host names."""

import hmac
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from confu.serve.errors import RequestError, busy

_MIB = 2**20
_PUBLIC = ("/", "/healthz", "/page")  # the page and its files hold nothing of the collection


class Admission:
    """Counts the requests in flight and the bytes that they hold. Used by one event loop.

    Args:
        max_requests: at once.
        max_mb: MiB of bodies at once.
    """

    def __init__(self, max_requests: int, max_mb: float) -> None:
        self.requests, self.bytes = 0, 0
        self.closed = False
        self._max_requests, self._max_bytes = max_requests, max_mb * _MIB

    def refusal(self) -> RequestError | None:
        """Why no further request is taken; None if one is."""
        if self.closed:
            return busy("the server is stopping", 5)
        if self.requests >= self._max_requests:
            return busy(f"{self.requests} requests are being answered, as many as this server takes at once")
        return None

    @contextmanager
    def reserve(self) -> Iterator["Reservation"]:
        """A place for one request.

        Raises:
            RequestError: 503 if there is none.
        """
        if refusal := self.refusal():
            raise refusal
        self.requests += 1
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self.requests -= 1
            self.bytes -= reservation.bytes

    def take(self, count: int) -> None:
        """Count bytes of a body.

        Raises:
            RequestError: 503 if there is no room for them.
        """
        if self.bytes + count > self._max_bytes:
            raise busy("the server is reading as much from others as it can hold")
        self.bytes += count


class Reservation:
    """The place of one request: reads its body and counts the bytes."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._more = True
        self.bytes = 0

    async def body(self, request: Request, max_mb: float) -> AsyncIterator[bytes]:
        """The body of a request as it arrives.

        Raises:
            RequestError: 413 if it is longer than allowed, by its own account or in fact.
        """
        most = max_mb * _MIB
        too_large = RequestError(413, "too_large", f"the request has more than {max_mb:g} MiB; send less")
        announced = request.headers.get("content-length", "0")
        if not announced.isdecimal() or int(announced) > most:
            raise too_large
        while self._more:
            chunk = await self._receive(request)
            if self.bytes + len(chunk) > most:
                raise too_large
            self._admission.take(len(chunk))
            self.bytes += len(chunk)
            yield chunk

    async def drain(self, request: Request, max_mb: float) -> bool:
        """Read on without keeping anything, for most clients read no response before they have sent everything.

        Returns:
            whether the body ended within that much.
        """
        drained = 0
        while self._more and drained <= max_mb * _MIB:
            drained += len(await self._receive(request))
        return not self._more

    async def _receive(self, request: Request) -> bytes:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise RequestError(499, "gone", "the client has gone")
        self._more = message.get("more_body", False)
        return message.get("body", b"")


class Guard:
    """Refuses requests before anything is done for them: unknown host, no API key, no free place.

    Under a load that cannot be served most requests end here, and what this costs is taken from the others.

    Args:
        app: what is guarded.
        admission: counts the requests in flight.
        key: asked of every client, as `Authorization: Bearer KEY` or `X-API-Key: KEY`; None for none.
        hosts: names under which the server may be asked, without ports; None for any.
    """

    def __init__(
        self, app: ASGIApp, admission: Admission, key: str | None = None, hosts: frozenset[str] | None = None
    ) -> None:
        self.app, self._admission, self._hosts = app, admission, hosts
        self._key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (self.app if refusal is None else refusal.response())(scope, receive, send)

    def _refusal(self, scope: Scope) -> RequestError | None:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if self._hosts is not None and re.sub(r":\d*$", "", host) not in self._hosts:
            message = "this server has another name; use localhost, or allow the name in its settings (hosts)"
            return RequestError(421, "wrong_host", message)
        if self._key is not None and not (_is_public(scope) or self._has_key(scope, self._key)):
            message = "this server wants its API key, as Authorization: Bearer KEY or X-API-Key: KEY"
            return RequestError(401, "no_api_key", message, headers={"WWW-Authenticate": "Bearer"})
        return self._admission.refusal() if scope["method"] == "POST" else None

    @staticmethod
    def _has_key(scope: Scope, key: bytes) -> bool:
        matches = [False]
        for name, value in scope["headers"]:
            if name == b"x-api-key":
                matches.append(hmac.compare_digest(value.strip(), key))
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                matches.append(hmac.compare_digest(value[7:].strip(), key))
        return any(matches)


def _is_public(scope: Scope) -> bool:
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return path in _PUBLIC or path.startswith("/page/") or scope["method"] == "OPTIONS"
