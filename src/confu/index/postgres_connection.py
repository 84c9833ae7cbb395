"""A connection to a PostgreSQL server that comes back after the server did."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
VARIABLE = "CONFU_POSTGRES"
_SECRETS = ("password", "sslpassword", "passfile", "oauth_client_secret", "scram_client_key", "scram_server_key")
_CONNECT_SECONDS = 5
_PAUSE = 0.1  # between two tries to connect
_AWAY = (
    "refused",
    "No such file",
    "starting up",
    "shutting down",
    "recovery",
    "closed the connection",
    "reset by peer",
)


def driver() -> Any:
    """The package psycopg; an ImportError that names the extra if it or pgvector is missing."""
    try:
        import pgvector.psycopg  # noqa: F401
        import psycopg
    except ImportError as error:
        raise ImportError(
            'vectors in PostgreSQL need psycopg and pgvector: pip install "contrastive-fusion[postgres]"'
        ) from error
    return psycopg


def address_parts(url: str) -> dict[str, Any]:
    """The parts of a server's address; a ValueError that does not repeat it if it cannot be read."""
    psycopg = driver()
    from psycopg.conninfo import conninfo_to_dict

    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # The driver's own words may repeat the password.
        raise ValueError(
            "the address of the PostgreSQL server cannot be read; it is written as "
            "postgresql://name:password@host:5432/database, with % for what is special in the password"
        ) from None


def without_password(url: str) -> str:
    """The address without its secrets, as it may be written to a file or an error.

    >>> without_password("postgresql://ann:secret@db.org/birds")
    'user=ann dbname=birds host=db.org'
    """
    driver()
    from psycopg.conninfo import make_conninfo

    return make_conninfo(**{name: value for name, value in address_parts(url).items() if name not in _SECRETS})


class Connection:
    """One connection for all threads, made when it is needed, and again if the server broke it.

    Every statement that reads has a limit, kept here too in case the server does not keep it.

    Args:
        url: of the server; None for that of the environment.
        timeout: seconds for one statement that reads, and for a write to wait for another one's end.
        wait: seconds to try again for, when the server does not take a connection.
    """

    def __init__(self, url: str | None, timeout: float = 30.0, wait: float = 3.0) -> None:
        for name, value, least in (("timeout", timeout, 0.01), ("wait", wait, 0.0)):
            if not least <= value <= 86_400:
                raise ValueError(f"{name} must be a number of seconds from {least:g} to 86,400; got {value}")
        self.url = url or os.environ.get(VARIABLE, "")
        if not self.url:
            raise ValueError(
                f"which PostgreSQL server? Set the environment variable {VARIABLE}, or give the option url, e.g. "
                "postgresql://name@localhost:5432/database"
            )
        parts = address_parts(self.url)
        host = parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST", "localhost")
        port = parts.get("port") or os.environ.get("PGPORT", 5432)
        database = parts.get("dbname") or os.environ.get("PGDATABASE") or parts.get("user", "")
        self.name = f"PostgreSQL at {host}:{port}, database {database!r}"
        self._psycopg, self._timeout, self._wait = driver(), timeout, wait
        self._lock = threading.RLock()
        self._connection: Any = None

    def read(self, action: Callable[[Any], T]) -> T:
        """The result of `action(cursor)` in one transaction; tried again if the connection was lost.

        Raises:
            ConnectionError: naming the server, if it is away or took longer than `timeout`.
        """
        with self._lock, self._named_errors():
            try:
                return self._read(action)
            except self._psycopg.OperationalError:
                if not self._is_lost():
                    raise
            return self._read(action)

    def write(self, action: Callable[[Any], T]) -> T:
        """The result of `action(cursor)` in one transaction, which is never tried again.

        Raises:
            ConnectionError: naming the server, if it is away or went away.
        """
        with self._lock:
            with self._named_errors():
                try:  # a server that was restarted since the last call is no reason to fail
                    self._read(lambda cursor: cursor.execute("SELECT 1"))
                except self._psycopg.OperationalError:
                    self.close()
                connection = self._connected()
            with self._named_errors("; what was being written is there whole or not at all"):
                return self._within(connection, action, "READ WRITE", "lock_timeout")

    def close(self) -> None:
        """Close the connection; the next call makes a new one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _read(self, action: Callable[[Any], T]) -> T:
        connection = self._connected()
        # A server that is stopped keeps no limits: cut the line from this side.
        timer = threading.Timer(self._timeout + 1.0, _cut, (connection,))
        timer.daemon = True
        timer.start()
        try:
            return self._within(connection, action, "ISOLATION LEVEL REPEATABLE READ READ ONLY", "statement_timeout")
        finally:
            timer.cancel()

    def _within(self, connection: Any, action: Callable[[Any], T], mode: str, limit: str) -> T:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION {mode}")
            cursor.execute(f"SET LOCAL {limit} = {int(self._timeout * 1000)}")
            return action(cursor)

    def _is_lost(self) -> bool:
        return self._connection is None or self._connection.closed or self._connection.broken

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
                if time.monotonic() >= end or not any(sign in str(error) for sign in _AWAY):
                    raise
                time.sleep(_PAUSE)

    def _connect(self) -> Any:
        import pgvector.psycopg

        defaults = {
            "connect_timeout": int(min(_CONNECT_SECONDS, max(2, self._timeout))),
            "application_name": "confu",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": int(1000 * (self._timeout + 5)),  # or a cable that was cut would hold us for hours
        }
        given = address_parts(self.url)
        kept = {name: value for name, value in defaults.items() if name not in given}
        connection = self._psycopg.connect(self.url, autocommit=True, **kept)
        try:
            connection.execute("SET TIME ZONE 'UTC'")
            if connection.execute("SELECT to_regtype('vector')").fetchone()[0] is not None:
                pgvector.psycopg.register_vector(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _named_errors(self, what: str = "") -> Iterator[None]:
        errors = self._psycopg.errors
        try:
            yield
        except self._psycopg.OperationalError as error:
            why = f"{' '.join(str(error).split()) or type(error).__name__}. Does it run, and does {VARIABLE} name it?"
            if isinstance(error, errors.QueryCanceled):
                why = f"it took longer than {self._timeout:g} s. Give the option timeout more seconds, or ask for less"
            elif isinstance(error, errors.LockNotAvailable):
                why = "another process is writing to this index. Try again when it is done"
            raise ConnectionError(f"{self.name}{what}: {why}") from error


def _cut(connection: Any) -> None:
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
    except (OSError, driver().OperationalError):
        return  # it was closed in the meantime
