"""The address of a PostgreSQL server, and what may be said of it."""

import os
from typing import Any

VARIABLE = "CONFU_POSTGRES"
_INSTALL = 'vectors in PostgreSQL need psycopg and pgvector: pip install "contrastive-fusion[postgres]"'
_SECRETS = ("password", "sslpassword", "passfile", "oauth_client_secret", "scram_client_key", "scram_server_key")


def address(url: str | None) -> str:
    """The address of the server: this one, or that of the environment.

    Raises:
        ValueError: if there is neither, or it is no address.
    """
    address = url or os.environ.get(VARIABLE)
    if not address:
        raise ValueError(
            f"which PostgreSQL server? Set the environment variable {VARIABLE}, or give the option url, e.g. "
            "postgresql://name@localhost:5432/database"
        )
    address_parts(address)
    return address


def without_password(url: str) -> str:
    """The address as it may be written to a file or an error: all but its secrets.

    >>> without_password("postgresql://ann:secret@db.org/birds")
    'user=ann dbname=birds host=db.org'
    """
    from psycopg.conninfo import make_conninfo

    return make_conninfo(**{name: value for name, value in address_parts(url).items() if name not in _SECRETS})


def server_name(url: str) -> str:
    """The server and its database, for messages."""
    parts = address_parts(url)
    where = parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST", "localhost")
    database = parts.get("dbname") or os.environ.get("PGDATABASE") or parts.get("user", "")
    return f"PostgreSQL at {where}:{parts.get('port') or os.environ.get('PGPORT', 5432)}, database {database!r}"


def address_parts(url: str) -> dict[str, Any]:
    """What an address says, by name.

    Raises:
        ValueError: if it is none.
    """
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


def driver() -> Any:
    """The package psycopg, once it is known that pgvector is there too.

    Raises:
        ImportError: saying what to install.
    """
    try:
        import pgvector.psycopg  # noqa: F401
        import psycopg
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    return psycopg
