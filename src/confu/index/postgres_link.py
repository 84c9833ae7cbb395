"""One connection to a PostgreSQL server that comes back after the server did."""

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from confu.index.postgres_address import VARIABLE, address_parts, driver, server_name

T = TypeVar("T")
_CONNECT_SECONDS = 5
_PAUSE = 0.1  # between two tries to connect


class Link:
    """A connection that is made when it is needed, and made again if the server broke it.

    Threads take turns. Every statement that reads has a limit, kept here too in case the server does not keep it.

    Args:
        url: as psycopg reads it.
        timeout: seconds for one statement that reads, and for a write to wait for another one's end.
        wait: seconds to try again for, when the server does not take a connection.
        prepare: called with every new connection.
    """

    def __init__(
        self, url: str, timeout: float = 30.0, wait: float = 3.0, prepare: Callable[[Any], None] | None = None
    ) -> None:
        for name, value, least in (("timeout", timeout, 0.01), ("wait", wait, 0.0)):
            if not least <= value <= 86_400:
                raise ValueError(f"{name} must be a number of seconds from {least:g} to 86,400; got {value}")
        self._psycopg = driver()
        self._url, self._timeout, self._wait, self._prepare = url, timeout, wait, prepare
        self._lock = threading.RLock()
        self._connection: Any = None

    @property
    def name(self) -> str:
        """Of the server and its database, for messages; without a password."""
        return server_name(self._url)

    def read(self, ask: Callable[[Any], T]) -> T:
        """What `ask` reads in one transaction: of one state of the database. Asked again if the connection was lost.

        Raises:
            ConnectionError: naming the server, if it is away or took longer than `timeout`.
        """
        mode = "ISOLATION LEVEL REPEATABLE READ READ ONLY"
        with self._lock:
            try:
                connection = self._connected()
                try:
                    with _Limit(connection, self._timeout):
                        return self._within(connection, ask, mode)
                except self._psycopg.OperationalError:
                    if not self._is_lost():
                        raise
                connection = self._connected()
                with _Limit(connection, self._timeout):
                    return self._within(connection, ask, mode)
            except self._psycopg.OperationalError as error:
                raise self._failed(error) from error

    def write(self, do: Callable[[Any], T]) -> T:
        """What `do` does in one transaction: all of it, or nothing. Never done twice.

        Raises:
            ConnectionError: naming the server, if it is away or went away.
        """
        with self._lock:
            try:
                connection = self._alive()
            except self._psycopg.OperationalError as error:
                raise self._failed(error) from error
            try:
                return self._within(connection, do, "READ WRITE")
            except self._psycopg.OperationalError as error:
                raise self._failed(error, "; what was being written is there whole or not at all") from error

    def close(self) -> None:
        """Let go of the connection; the next call makes a new one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _within(self, connection: Any, do: Callable[[Any], T], mode: str) -> T:
        milliseconds = int(self._timeout * 1000)
        limit = "lock_timeout" if mode == "READ WRITE" else "statement_timeout"
        with connection.transaction():
            connection.execute(f"SET TRANSACTION {mode}")
            connection.execute(f"SET LOCAL {limit} = {milliseconds}")
            return do(connection)

    def _is_lost(self) -> bool:
        return self._connection is None or self._connection.closed or self._connection.broken

    def _alive(self) -> Any:
        """A connection that answers: a server that was restarted since the last call is no reason to fail."""
        connection = self._connected()
        try:
            with _Limit(connection, self._timeout):
                connection.execute("SELECT 1")
        except self._psycopg.OperationalError:
            self.close()
        return self._connected()

    def _connected(self) -> Any:
        if not self._is_lost():
            return self._connection
        self.close()
        end = time.monotonic() + self._wait
        while True:
            try:
                self._connection = self._connect()
                return self._connection
            except self._psycopg.OperationalError as error:
                # A wrong password or name will not be right in a moment; a server that starts will be there.
                if time.monotonic() >= end or not _is_away(str(error)):
                    raise
                time.sleep(_PAUSE)

    def _connect(self) -> Any:
        given = address_parts(self._url)
        defaults = {
            "connect_timeout": int(min(_CONNECT_SECONDS, max(2, self._timeout))), "application_name": "confu",
            "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
            "tcp_user_timeout": int(1000 * (self._timeout + 5)),  # or a cable that was cut would hold us for hours
        }  # fmt: skip
        kept = {name: value for name, value in defaults.items() if name not in given}
        connection = self._psycopg.connect(self._url, autocommit=True, **kept)
        try:
            connection.execute("SET TIME ZONE 'UTC'")
            if self._prepare is not None:
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _failed(self, error: Exception, what: str = "") -> ConnectionError:
        errors = self._psycopg.errors
        if isinstance(error, errors.QueryCanceled):
            why = f"it took longer than {self._timeout:g} s. Give the option timeout more seconds, or ask for less"
        elif isinstance(error, errors.LockNotAvailable):
            why = "another process is writing to this index. Try again when it is done"
        else:
            why = f"{' '.join(str(error).split()) or type(error).__name__}. Does it run, and does {VARIABLE} name it?"
        return ConnectionError(f"{self.name}{what}: {why}")


class _Limit:
    """Cuts a connection that does not answer in time: a server that is stopped keeps no limits of its own."""

    def __init__(self, connection: Any, seconds: float) -> None:
        self._timer = threading.Timer(seconds + 1.0, _cut, (connection,))
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _cut(connection: Any) -> None:
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
    except (OSError, driver().OperationalError):
        return  # it was closed in the meantime: there is nothing to cut


def _is_away(message: str) -> bool:
    signs = (
        "refused", "No such file", "starting up", "shutting down", "recovery", "closed the connection", "reset by peer",
    )  # fmt: skip
    return any(sign in message for sign in signs)
