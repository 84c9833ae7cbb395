"""PostgreSQL with pgvector: a table with a row an item, a column a subset and a column a kind of metadata.

The folder of the index says which server and table it is; a password is never written. What the columns hold stands as
JSON in the table's comment, so that both change in one transaction.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_known
from confu.index.about import About
from confu.index.backend import Change, NewIds, Ranking, number_options
from confu.index.columns import cast_columns, merged_schema, plain_columns
from confu.index.conditions import Filter, checked
from confu.index.items import Items, stack_vectors
from confu.index.postgres_connection import Connection, driver, without_password
from confu.index.postgres_table import SQL_TYPES, Layout, column_name, where_clause
from confu.plan import Subset

_MAX_DIM, _MAX_EF = 2000, 1000  # of pgvector's HNSW over float32
_ROWS = 4096  # made ready at once
_UNIT = 1e-3  # how far from 1 the length of a stored vector may be


def create(folder: Path, about: About, options: Mapping[str, Any]) -> "PostgresStore":
    """A new, empty table, named after the folder unless the option `table` gives a name.

    Options: `url` of the server (else the environment variable CONFU_POSTGRES); `kind` "hnsw" or "flat", which compares
    every row; `m` neighbours of a row in the graph; `ef_build` and `ef` rows looked at when one is added and in a
    search; `build_memory` MiB and `build_workers` processes to build a graph (in a container workers need as much of
    /dev/shm); `timeout` seconds of a statement; `wait` seconds for a server that does not take connections.

    Raises:
        ValueError: if there is such a table, the server has no pgvector, or an option is wrong.
        ConnectionError: if the server cannot be reached.
    """
    words = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower())[:40]
    own = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    store = _store(folder, {"table": f"confu_{words}_{own}", **options}, writable=True)
    try:
        store.connection.write(lambda cursor: cursor.execute("CREATE EXTENSION IF NOT EXISTS vector"))
    except driver().Error as error:
        raise ValueError(
            f"{store.connection.name} lacks the extension pgvector ({' '.join(str(error).split())}). Install it on the "
            "server, or have its administrator run CREATE EXTENSION vector in this database"
        ) from error
    store.connection.close()  # connections made from now on know the type
    store.connection.write(lambda cursor: store.create_table(cursor, about))
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
            f"{store.table!r} in {store.connection.name} holds {', '.join(map(str, layout.vectors))} with "
            f"{layout.dim}; is it the right database?"
        )
    return store


def _store(folder: Path, options: Mapping[str, Any], writable: bool) -> "PostgresStore":
    driver()
    numbers = {
        "m": (16, 2, 100),
        "ef_build": (64, 4, 1000),
        "ef": (100, 1, _MAX_EF),
        "build_memory": (1024, 1, 1 << 20),
        "build_workers": (0, 0, 1024),
    }
    for name in options:
        check_known("option of the postgres store", name, ("url", "table", "kind", "timeout", "wait", *numbers))
    settings = {"kind": options.get("kind", "hnsw"), **number_options(options, numbers)}
    check_known("option kind", settings["kind"], ("hnsw", "flat"))
    if settings["ef_build"] < 2 * settings["m"]:
        raise ValueError(f"option ef_build must be at least twice m, {2 * settings['m']}; got {settings['ef_build']}")
    table = options.get("table")
    if not isinstance(table, str) or not table or len(table.encode()) > 63 or {"\0", "%"} & set(table):
        raise ValueError(f"option table must be a name of 1 to 63 bytes without %; got {table!r}")
    limits = {name: options[name] for name in ("timeout", "wait") if name in options}
    connection = Connection(options.get("url"), **limits)
    # An address that came from the environment comes from there again.
    kept = {name: value for name, value in options.items() if name != "url"}
    if options.get("url") is not None:
        kept["url"] = without_password(options["url"])
    return PostgresStore(folder, table, settings, connection, kept, writable)


class PostgresStore:
    """Vectors in one table of a database.

    A search goes through an HNSW graph, and on in it until k items fit the conditions; where that gives fewer, and with
    `kind="flat"`, every row is compared. Vectors of more than 2,000 numbers have no graph: pgvector makes none.
    Any number of processes may read and write: writers take turns, and readers wait for them only while a column
    of metadata is added.
    """

    def __init__(
        self,
        folder: Path,
        table: str,
        settings: dict[str, Any],
        connection: Connection,
        options: dict[str, Any],
        writable: bool,
    ) -> None:
        self.folder, self.table, self.settings, self.options = folder, table, settings, options
        self.connection, self._writable = connection, writable

    @property
    def layout(self) -> Layout:
        """What the table holds."""
        return self.connection.read(self._layout)

    @property
    def schema(self) -> pa.Schema:
        """The columns of metadata."""
        return self.layout.schema

    @property
    def source(self) -> dict[str, Any] | None:
        """What the items were made of."""
        return self.layout.source

    @property
    def dial(self) -> tuple[str, int] | None:
        """The option that trades time for recall."""
        return ("ef", self.settings["ef"]) if self.settings["kind"] == "hnsw" else None

    def with_dial(self, value: int | None) -> "PostgresStore":
        """The same table, searched with another `ef`, or every row compared."""
        settings = {**self.settings, **({"kind": "flat"} if value is None else {"ef": value})}
        return PostgresStore(self.folder, self.table, settings, self.connection, self.options, writable=False)

    def __len__(self) -> int:
        return self.connection.read(lambda cursor: self._sql(cursor, "SELECT count(*) FROM {}").fetchone()[0])

    def ids(self) -> Iterator[str]:
        """Every id, in the order in which the items came."""
        rows = self.connection.read(lambda cursor: self._sql(cursor, "SELECT id FROM {} ORDER BY row").fetchall())
        return (row[0] for row in rows)

    def add(self, parts: Iterable[Items], replace: bool = False, source: dict[str, Any] | None = None) -> Change:
        """Store items part after part, in one transaction."""
        return self._write(lambda cursor: self._add(cursor, parts, replace, source))

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items."""
        statement = "DELETE FROM {} WHERE id = ANY(%s)"
        return self._write(lambda cursor: self._sql(cursor, statement, values=[list(ids)]).rowcount)

    def search(
        self, queries: Float[Tensor, "queries dim"], target: Subset, k: int, where: Sequence[Filter] = ()
    ) -> list[Ranking]:
        """The k nearest of each query, all of one state of the table."""
        return self.connection.read(lambda cursor: self._search(cursor, queries, target, k, where))

    def fetch(self, ids: Sequence[str]) -> Items:
        """Stored items in this order."""
        return self.connection.read(lambda cursor: self._fetch(cursor, ids))

    def refresh(self) -> bool:
        """Nothing to do: every call reads the state of the database."""
        return False

    def compact(self) -> None:
        """Nothing to do: the database's autovacuum does it."""

    def verify(self) -> list[str]:
        """Have the server read every row, and check lengths, columns and graphs."""
        try:
            return self.connection.read(self._verify)
        except (ValueError, ConnectionError, driver().Error) as error:
            return [f"{self.table}: {' '.join(str(error).split())}"]

    def drop(self) -> None:
        """Remove the table with all that it holds; the folder stays."""
        self._write(lambda cursor: self._sql(cursor, "DROP TABLE {}"))

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def create_table(self, cursor: Any, about: About) -> None:
        """Make the empty table."""
        if cursor.execute("SELECT to_regclass(%s)", [self._quoted]).fetchone()[0] is not None:
            raise ValueError(
                f"the database {cursor.connection.info.dbname!r} has a table {self.table!r} already; give another name "
                "as the option table, or drop that one"
            )
        names: dict[Subset, str] = {}
        for subset in about.subsets:
            names[subset] = column_name(str(subset), names.values())
        vectors = f", {{}} vector({about.dim})" * len(names)
        own = 'id text COLLATE "C" NOT NULL UNIQUE, media jsonb NOT NULL'
        statement = f"CREATE TABLE {{}} (row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {own}{vectors})"
        self._sql(cursor, statement, *names.values())
        self._comment(cursor, Layout(about.dim, names, pa.schema([]), {}))

    # Each of these runs within one transaction.

    def _write(self, action: Any) -> Any:
        if not self._writable:
            raise ValueError(f"{self.folder} is open for reading only; open it with writable=True")
        return self.connection.write(action)

    @property
    def _quoted(self) -> str:
        return '"' + self.table.replace('"', '""') + '"'

    def _sql(self, cursor: Any, text: str, *names: Any, values: Any = None) -> Any:
        """A statement with {} for the table's name, then for these names of columns, or parts of a statement."""
        from psycopg import sql

        parts = [sql.Identifier(name) if isinstance(name, str) else name for name in (self.table, *names)]
        return cursor.execute(sql.SQL(text).format(*parts), values)  # pyright: ignore[reportArgumentType]

    def _layout(self, cursor: Any) -> Layout:
        statement = "SELECT to_regclass(%s), obj_description(to_regclass(%s))"
        table, comment = cursor.execute(statement, [self._quoted, self._quoted]).fetchone()
        if table is None:
            raise ValueError(
                f"the database {cursor.connection.info.dbname!r} has no table {self.table!r}; is it the right one? If "
                "the table was dropped, make the index again"
            )
        return Layout.from_json(comment, self.table)

    def _comment(self, cursor: Any, layout: Layout) -> None:
        from psycopg import sql

        self._sql(cursor, "COMMENT ON TABLE {} IS {}", sql.Literal(layout.to_json()))

    def _add(self, cursor: Any, parts: Iterable[Items], replace_: bool, source: dict[str, Any] | None) -> Change:
        # Readers read on; what was there before stays as it is until the end.
        self._sql(cursor, "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE")
        layout, new = self._layout(cursor), NewIds(replace_)
        graphs = self._graphs(layout)
        if self._sql(cursor, "SELECT count(*) FROM {}").fetchone()[0] == 0:
            for graph in graphs.values():  # one that is built after the load costs a fraction
                self._sql(cursor, "DROP INDEX IF EXISTS {1}", graph)
        for items in parts:
            ids = list(items.table.ids)
            rows = self._sql(cursor, "SELECT id FROM {} WHERE id = ANY(%s)", values=[ids]).fetchall()
            existing = [id for (id,) in rows]
            new.check(ids, existing)
            self._sql(cursor, "DELETE FROM {} WHERE id = ANY(%s)", values=[existing])
            items = Items(items.table, plain_columns(items.metadata), items.media)
            layout = self._with_columns(cursor, layout, items.metadata.schema)
            self._copy(cursor, layout, items)
        if source is not None:
            layout = replace(layout, source=source)
            self._comment(cursor, layout)
        if new.ids:
            cursor.execute(f"SET LOCAL maintenance_work_mem = '{self.settings['build_memory']}MB'")
            cursor.execute(f"SET LOCAL max_parallel_maintenance_workers = {self.settings['build_workers']}")
            options = f"m = {self.settings['m']}, ef_construction = {self.settings['ef_build']}"
            kind = f"hnsw ({{2}} vector_ip_ops) WITH ({options})"
            for column, graph in graphs.items():
                self._sql(cursor, f"CREATE INDEX IF NOT EXISTS {{1}} ON {{0}} USING {kind}", graph, column)
            self._sql(cursor, "ANALYZE {}")
        return new.change

    def _graphs(self, layout: Layout) -> dict[str, str]:
        """Column -> the name of its graph; empty where there is to be none."""
        if self.settings["kind"] == "flat" or layout.dim > _MAX_DIM:
            return {}
        own = hashlib.sha256(self.table.encode()).hexdigest()[:12]
        return {column: f"confu_{own}_{n}" for n, column in enumerate(layout.vectors.values())}

    def _with_columns(self, cursor: Any, before: Layout, schema: pa.Schema) -> Layout:
        """The layout with columns for metadata of this schema, which the table then has too."""
        names = dict(before.columns)
        for name in schema.names:
            if name not in names:
                names[name] = column_name(name, [*before.vectors.values(), *names.values()])
        layout = replace(before, schema=merged_schema(before.schema, schema), columns=names)
        for field in layout.schema:
            kind, column = SQL_TYPES[field.type], names[field.name]
            if field.name not in before.columns:
                self._sql(cursor, "ALTER TABLE {} ADD COLUMN {} " + kind, column)
            elif before.schema.field(field.name).type != field.type:
                self._sql(cursor, "ALTER TABLE {} ALTER COLUMN {} TYPE " + kind, column)
        if layout != before:
            self._comment(cursor, layout)
        return layout

    def _copy(self, cursor: Any, layout: Layout, items: Items) -> None:
        from psycopg import sql
        from psycopg.types.json import Jsonb

        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(self.table), layout.names)
        kinds = [SQL_TYPES[kind] for kind in layout.schema.types]
        vectors = []
        for subset in layout.vectors:
            mask = items.table.complete[subset].tolist() if subset in items.table else None
            vectors.append((items.table[subset].cpu().numpy(), mask) if mask is not None else None)
        metadata = cast_columns(items.metadata, layout.schema, len(items))
        with cursor.copy(statement) as copy:
            copy.set_types(["text", "jsonb", *("vector" for _ in vectors), *kinds])
            for start in range(0, len(items), _ROWS):
                values = [metadata[name].slice(start, _ROWS).to_pylist() for name in layout.schema.names]
                for row in range(start, min(start + _ROWS, len(items))):
                    id, media = items.table.ids[row], items.media_of(row)
                    known = [column[row - start] for column in values]
                    for text in (id, *media.values(), *known):
                        if isinstance(text, str) and "\0" in text:
                            raise ValueError(
                                f"item {id!r} has a text with a zero byte, which PostgreSQL cannot hold: {text!r}. "
                                "Take it out"
                            )
                    held = [one[0][row] if one is not None and one[1][row] else None for one in vectors]
                    copy.write_row([id, Jsonb(media), *held, *known])

    def _search(self, cursor: Any, queries: Tensor, target: Subset, k: int, where: Sequence[Filter]) -> list[Ranking]:
        from psycopg import sql

        layout = self._layout(cursor)
        clause, values = where_clause(checked(where, layout.schema), layout)
        # pgvector gives the inner product with its sign turned, for the smallest comes first. With `+ 0` it is no
        # expression that the graph knows: every row is compared.
        text = "SELECT id, -({1} <#> %(query)s) FROM {0} WHERE {1} IS NOT NULL AND {2} ORDER BY ({1} <#> %(query)s)"
        names = layout.vectors[target], sql.SQL(clause)  # pyright: ignore[reportArgumentType]
        parameters = [{**values, "query": query, "k": k} for query in queries.cpu().numpy()]

        def every(chosen: Sequence[dict[str, Any]], order: str) -> list[Ranking]:
            """Hits of each query, all sent before the first is answered."""
            with cursor.connection.pipeline():
                cursors = [self._sql(cursor.connection, text + order, *names, values=one) for one in chosen]
                return [one.fetchall() for one in cursors]

        by_row = " + 0, row LIMIT %(k)s"
        if self.settings["kind"] == "flat" or k > _MAX_EF:
            return every(parameters, by_row)
        cursor.execute(f"SET LOCAL hnsw.ef_search = {max(self.settings['ef'], k)}")
        cursor.execute("SET LOCAL hnsw.iterative_scan = strict_order")  # on and on until k rows fit the conditions
        rankings = every(parameters, " LIMIT %(k)s")
        few = [number for number, ranking in enumerate(rankings) if len(ranking) < k]
        for number, ranking in zip(few, every([parameters[number] for number in few], by_row)):
            rankings[number] = ranking
        return rankings

    def _fetch(self, cursor: Any, ids: Sequence[str]) -> Items:
        from psycopg import sql

        layout = self._layout(cursor)
        statement = sql.SQL("SELECT {} FROM {} WHERE id = ANY(%s)").format(layout.names, sql.Identifier(self.table))
        records = {row[0]: row for row in cursor.connection.execute(statement, [list(ids)], binary=True)}
        if missing := [id for id in ids if id not in records]:
            raise KeyError(missing[0])
        rows = [records[id] for id in ids]
        vectors = {
            subset: [None if row[place] is None else torch.from_numpy(row[place].to_numpy()) for row in rows]
            for place, subset in enumerate(layout.vectors, start=2)
        }
        metadata = {
            field.name: pa.array([row[position] for row in rows], field.type)
            for position, field in enumerate(layout.schema, start=2 + len(layout.vectors))
        }
        return Items.from_media(stack_vectors(ids, vectors, layout.dim), pa.table(metadata), [r[1] for r in rows])

    def _verify(self, cursor: Any) -> list[str]:
        layout, damage = self._layout(cursor), []
        statement = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        names = {name for (name,) in cursor.execute(statement, [self._quoted])}
        if lacking := {*layout.vectors.values(), *layout.columns.values()} - names:
            return [f"{self.table}: has no column {', '.join(sorted(lacking))}"]
        for subset, column in layout.vectors.items():
            statement = f"SELECT count(*) FROM {{}} WHERE abs(vector_norm({{}}) - 1) > {_UNIT}"
            if off := self._sql(cursor, statement, column).fetchone()[0]:
                damage.append(f"{self.table}: {off} vectors of {subset} have no length of 1")
        self._sql(cursor, "SELECT sum(length(id) + length(media::text)) FROM {}")  # which checks every page
        statement = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass AND NOT indisvalid"
        broken = cursor.execute(statement, [self._quoted]).fetchall()
        return [*damage, *(f"{self.table}: its index {name} is not valid; REINDEX it" for (name,) in broken)]
