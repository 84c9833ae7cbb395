"""An index in PostgreSQL with pgvector: a table with a row an item, a column a subset and a column a kind of metadata.

What stands in the folder of the index is only which server and table it is; a password is never written.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pyarrow as pa
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_known
from confu.index.about import About
from confu.index.backend import Change, Found
from confu.index.catalog import read_catalog
from confu.index.conditions import Condition
from confu.index.items import Items
from confu.index.postgres_address import address, driver, without_password
from confu.index.postgres_link import Link
from confu.index.postgres_reading import fetch, search, verify
from confu.index.postgres_table import Layout, Table
from confu.index.postgres_writing import add_items, have_vectors, make_table
from confu.plan import Subset

_OF_TABLE = ("kind", "m", "ef_build", "ef", "build_memory", "build_workers")
_OF_LINK = ("timeout", "wait")


def create(folder: Path, about: About, options: Mapping[str, Any]) -> "PostgresStore":
    """A new, empty table; it is named after the folder unless the option `table` gives a name.

    Raises:
        ValueError: if there is such a table, or the server has no pgvector.
        ConnectionError: if the server cannot be reached.
    """
    own = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    words = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower())[:40]
    store = _store(folder, {"table": f"confu_{words}_{own}", **options}, writable=True)
    have_vectors(store.link)
    store.link.write(lambda connection: make_table(connection, store.table, about.dim, about.subsets))
    return store


def open_(folder: Path, about: About, options: Mapping[str, Any], writable: bool) -> "PostgresStore":
    """The table of an index.

    Raises:
        ValueError: if the table is not there, or holds another index.
        ConnectionError: if the server cannot be reached.
    """
    store = _store(folder, options, writable)
    layout = store.layout
    if (layout.dim, set(layout.vectors)) != (about.dim, set(about.subsets)):
        raise ValueError(
            f"{folder} is an index of {', '.join(map(str, about.subsets))} with {about.dim} numbers, but its table "
            f"{store.table.name!r} in {store.link.name} holds {', '.join(map(str, layout.vectors))} with {layout.dim}; "
            "is it the right database?"
        )
    return store


def _store(folder: Path, options: Mapping[str, Any], writable: bool) -> "PostgresStore":
    driver()
    for name in options:
        check_known("option of the postgres store", name, ("url", "table", *_OF_TABLE, *_OF_LINK))
    if not isinstance(options.get("table"), str):
        raise ValueError(f"option table must be the name of a table; got {options.get('table')!r}")
    url = options.get("url")
    table = Table(options["table"], **{name: options[name] for name in _OF_TABLE if name in options})
    link = Link(address(url), **{name: options[name] for name in _OF_LINK if name in options}, prepare=_register)
    # An address that came from the environment comes from there again.
    kept = {name: value for name, value in options.items() if name != "url"}
    kept |= {} if url is None else {"url": without_password(url)}
    return PostgresStore(folder, table, link, kept, writable)


def _register(connection: Any) -> None:
    """Have the connection read and write vectors, once the database knows the type."""
    import pgvector.psycopg

    if connection.execute("SELECT to_regtype('vector')").fetchone()[0] is not None:
        pgvector.psycopg.register_vector(connection)


class PostgresStore:
    """Vectors in one table of a database.

    A search goes through an HNSW graph, and on in it until k items fit the conditions; where that gives fewer, and with
    `kind="flat"`, every row is compared. Vectors of more than 2,000 numbers have no graph: pgvector makes none.
    Any number of processes may read and write: writers take turns, and readers never wait for them but while a column
    of metadata is added. A search whose connection breaks is asked again; if the server is not back after `wait`
    seconds, or takes longer than `timeout`, that is a ConnectionError naming it.
    """

    def __init__(self, folder: Path, table: Table, link: Link, options: dict[str, Any], writable: bool) -> None:
        self.folder, self.table, self.link, self.options = folder, table, link, options
        self._writable = writable

    @property
    def layout(self) -> Layout:
        """What the table holds."""
        return self.link.read(self.table.layout)

    @property
    def schema(self) -> pa.Schema:
        """The columns of metadata that conditions may name."""
        return self.layout.schema

    def __len__(self) -> int:
        statement = "SELECT count(*) FROM {}"
        return self.link.read(lambda connection: self.table.run(connection, statement).fetchone()[0])

    def add(self, items: Items, replace: bool = False) -> Change:
        """Store items."""
        return self.add_all([items], replace)

    def add_all(self, parts: Iterable[Items], replace: bool = False, about: About | None = None) -> Change:
        """Store items part after part, all of them or none; what the index says of itself is written after that."""
        change = self._write(lambda connection: add_items(connection, self.table, parts, replace))
        if about is not None:
            catalog = read_catalog(self.folder)
            if catalog.about != about:
                changed(catalog, about=about).write(self.folder)
        return change

    def delete(self, ids: Sequence[str]) -> int:
        """Forget items."""
        statement = "DELETE FROM {} WHERE id = ANY(%s)"
        return self._write(lambda connection: self.table.run(connection, statement, values=[list(ids)]).rowcount)

    def search(
        self, queries: Float[Tensor, "queries dim"], target: Subset, k: int, where: Sequence[Condition] = ()
    ) -> list[Found]:
        """The k nearest of each query, all of one state of the table."""
        return self.link.read(lambda connection: search(connection, self.table, queries, target, k, where))

    def fetch(self, ids: Sequence[str]) -> Items:
        """Stored items in this order."""
        return self.link.read(lambda connection: fetch(connection, self.table, ids))

    def ids(self) -> Iterator[str]:
        """Every id, in the order in which the items came."""
        statement = "SELECT id FROM {} ORDER BY row"
        rows = self.link.read(lambda connection: self.table.run(connection, statement).fetchall())
        return (row[0] for row in rows)

    @property
    def dial(self) -> str:
        """The option that trades time for recall."""
        return "ef" if self.table.kind == "hnsw" else ""

    @property
    def dial_value(self) -> int:
        """What it is set to."""
        return self.table.ef

    def dialled(self, value: int) -> "PostgresStore":
        """The same table, searched with another `ef`."""
        return PostgresStore(self.folder, changed(self.table, ef=value), self.link, self.options, writable=False)

    def exactly(self) -> "PostgresStore":
        """The same table, every row compared."""
        return PostgresStore(self.folder, changed(self.table, kind="flat"), self.link, self.options, writable=False)

    def verify(self) -> list[str]:
        """Have the server read every row, and look at lengths, columns and graphs."""
        try:
            return self.link.read(lambda connection: verify(connection, self.table))
        except (ValueError, ConnectionError, driver().Error) as error:
            return [f"{self.table.name}: {' '.join(str(error).split())}"]

    def drop(self) -> None:
        """Remove the table with all that it holds; the folder stays."""
        self._write(lambda connection: self.table.run(connection, "DROP TABLE {}"))

    def close(self) -> None:
        """Let go of the connection."""
        self.link.close()

    def _write(self, do: Any) -> Any:
        if not self._writable:
            raise ValueError(f"{self.folder} is open for reading only; open it with writable=True")
        return self.link.write(do)
