"""PostgreSQL with pgvector: a table with a row an item, a column a subset and a column a kind of metadata.

The folder of the index says which server and table it is; a password is never written. What the columns hold stands as
JSON in the table's comment, so that both change in one transaction.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_known
from confu.index.backend import Change, NewIds, Ranking, number_options, storage_name
from confu.index.catalog import About
from confu.index.columns import cast_columns, merged_schema, plain_columns, schema_from_json, schema_to_json
from confu.index.conditions import Condition, Filter, checked, translate
from confu.index.items import UNIT, Items, stack_vectors
from confu.index.postgres_connection import Connection, driver, without_password
from confu.plan import Subset

FORMAT, VERSION = "confu.index.postgres", 1
_MAX_DIM, _MAX_EF = 2000, 1000  # of pgvector's HNSW over float32
_ROWS = 4096  # made ready at once
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_ +.-]{0,55}$")  # what needs no care in a statement, within 63 bytes
_SQL_TYPES = {
    pa.string(): "text",
    pa.int64(): "bigint",
    pa.float64(): "double precision",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.timestamp("us"): "timestamp",
    pa.timestamp("us", tz="UTC"): "timestamptz",
    pa.time64("us"): "time",
    pa.list_(pa.string()): "text[]",
    pa.list_(pa.int64()): "bigint[]",
}
_NUMBERS = {
    "m": (16, 2, 100),
    "ef_build": (64, 4, 1000),
    "ef": (100, 1, _MAX_EF),
    "build_memory": (1024, 1, 1 << 20),
    "build_workers": (0, 0, 1024),
}


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
    store = PostgresStore(folder, {"table": storage_name(folder), **options}, writable=True)
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
    store = PostgresStore(folder, options, writable)
    layout = store.layout
    if (layout.dim, set(layout.vectors)) != (about.dim, set(about.subsets)):
        raise ValueError(
            f"{folder} is an index of {', '.join(map(str, about.subsets))} with {about.dim} numbers, but its table "
            f"{store.table!r} in {store.connection.name} holds {', '.join(map(str, layout.vectors))} with "
            f"{layout.dim}; is it the right database?"
        )
    return store


@dataclass(frozen=True)
class Layout:
    """What the columns of the table hold.

    Attributes:
        dim: of each vector.
        vectors: subset -> its column.
        schema: of the metadata.
        columns: metadata column -> its column in the table.
        source: what the items were made of.
    """

    dim: int
    vectors: dict[Subset, str]
    schema: pa.Schema
    columns: dict[str, str]
    source: dict[str, Any] | None = None

    @property
    def names(self) -> str:
        """The table's columns: id, media, vectors and metadata."""
        names = ["id", "media", *self.vectors.values(), *(self.columns[name] for name in self.schema.names)]
        return ", ".join(map(_quoted, names))

    def to_json(self) -> str:
        """The table's comment."""
        vectors, schema = {str(subset): name for subset, name in self.vectors.items()}, schema_to_json(self.schema)
        content = {"format": FORMAT, "version": VERSION, "dim": self.dim, "vectors": vectors, "schema": schema}
        return json.dumps({**content, "columns": self.columns, "source": self.source})

    @classmethod
    def from_json(cls, text: str | None, table: str) -> "Layout":
        """The reverse of `to_json`; a ValueError if the comment is not of an index, or of another version."""
        try:
            content = json.loads(text or "")
        except ValueError:
            content = None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(
                f"the table {table!r} of the database is no index of confu (its comment would say so); give another "
                "name as the option table"
            )
        if content.get("version") != VERSION:
            raise ValueError(
                f"the table {table!r} has version {content.get('version')}, this confu reads version {VERSION}; update "
                "confu or make the index again"
            )
        vectors = {Subset.parse(name): column for name, column in content["vectors"].items()}
        schema = schema_from_json(content["schema"])
        return cls(content["dim"], vectors, schema, content["columns"], content.get("source"))


class PostgresStore:
    """Vectors in one table of a database.

    A search goes through an HNSW graph, and on in it until k items fit the conditions; where that gives fewer, and with
    `kind="flat"`, every row is compared. Vectors of more than 2,000 numbers have no graph: pgvector makes none.
    Any number of processes may read and write: writers take turns, and readers wait for them only while a column
    of metadata is added.
    """

    def __init__(
        self, folder: Path, options: Mapping[str, Any], writable: bool, connection: Connection | None = None
    ) -> None:
        driver()
        for name in options:
            check_known("option of the postgres store", name, ("url", "table", "kind", "timeout", "wait", *_NUMBERS))
        self.folder, self._writable = folder, writable
        self.settings: dict[str, Any] = {"kind": options.get("kind", "hnsw"), **number_options(options, _NUMBERS)}
        check_known("option kind", self.settings["kind"], ("hnsw", "flat"))
        if self.settings["ef_build"] < 2 * (m := self.settings["m"]):
            raise ValueError(f"option ef_build must be at least twice m, {2 * m}; got {self.settings['ef_build']}")
        table = options.get("table")
        if not isinstance(table, str) or not table or len(table.encode()) > 63 or {"\0", "%"} & set(table):
            raise ValueError(f"option table must be a name of 1 to 63 bytes without %; got {table!r}")
        self.table, self._name = table, _quoted(table)
        limits = {name: options[name] for name in ("timeout", "wait") if name in options}
        self.connection = connection or Connection(options.get("url"), **limits)
        # An address that came from the environment comes from there again.
        self.options = {name: value for name, value in options.items() if name != "url"}
        if options.get("url") is not None:
            self.options["url"] = without_password(options["url"])

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
        options = {**self.options, **({"kind": "flat"} if value is None else {"ef": value})}
        return PostgresStore(self.folder, options, False, self.connection)

    def __len__(self) -> int:
        return self.connection.read(lambda cursor: self._count(cursor))

    def ids(self) -> Iterator[str]:
        """Every id, in the order in which the items came."""
        statement = f"SELECT id FROM {self._name} ORDER BY row"
        return (id for (id,) in self.connection.read(lambda cursor: cursor.execute(statement).fetchall()))

    def add(self, parts: Iterable[Items], replace: bool = False, source: dict[str, Any] | None = None) -> Change:
        """Store items part after part, in one transaction."""
        return self._write(lambda cursor: self._add(cursor, parts, replace, source))

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items."""
        statement = f"DELETE FROM {self._name} WHERE id = ANY(%s)"
        return self._write(lambda cursor: cursor.execute(statement, [list(ids)]).rowcount)

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
        self._write(lambda cursor: cursor.execute(f"DROP TABLE {self._name}"))

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def create_table(self, cursor: Any, about: About) -> None:
        """Make the empty table."""
        if cursor.execute("SELECT to_regclass(%s)", [self._name]).fetchone()[0] is not None:
            raise ValueError(
                f"the database {cursor.connection.info.dbname!r} has a table {self.table!r} already; give another name "
                "as the option table, or drop that one"
            )
        names: dict[Subset, str] = {}
        for subset in about.subsets:
            names[subset] = column_name(str(subset), names.values())
        own = 'id text COLLATE "C" NOT NULL UNIQUE, media jsonb NOT NULL'
        vectors = "".join(f", {_quoted(name)} vector({about.dim})" for name in names.values())
        key = "row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        cursor.execute(f"CREATE TABLE {self._name} ({key}, {own}{vectors})")
        self._comment(cursor, Layout(about.dim, names, pa.schema([]), {}))

    # Each of these runs within one transaction.

    def _write(self, action: Any) -> Any:
        if not self._writable:
            raise ValueError(f"{self.folder} is open for reading only; open it with writable=True")
        return self.connection.write(action)

    def _count(self, cursor: Any) -> int:
        return cursor.execute(f"SELECT count(*) FROM {self._name}").fetchone()[0]

    def _layout(self, cursor: Any) -> Layout:
        statement = "SELECT to_regclass(%s), obj_description(to_regclass(%s))"
        table, comment = cursor.execute(statement, [self._name, self._name]).fetchone()
        if table is None:
            raise ValueError(
                f"the database {cursor.connection.info.dbname!r} has no table {self.table!r}; is it the right one? If "
                "the table was dropped, make the index again"
            )
        return Layout.from_json(comment, self.table)

    def _comment(self, cursor: Any, layout: Layout) -> None:
        from psycopg import sql

        cursor.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(sql.Identifier(self.table), layout.to_json()))

    def _add(self, cursor: Any, parts: Iterable[Items], replace_: bool, source: dict[str, Any] | None) -> Change:
        # Readers read on; what was there before stays as it is until the end.
        cursor.execute(f"LOCK TABLE {self._name} IN SHARE ROW EXCLUSIVE MODE")
        layout, new = self._layout(cursor), NewIds(replace_)
        graphs = self._graphs(layout)
        if self._count(cursor) == 0:
            for graph in graphs.values():  # one that is built after the load costs a fraction
                cursor.execute(f"DROP INDEX IF EXISTS {graph}")
        for items in parts:
            ids = list(items.table.ids)
            existing = [id for (id,) in cursor.execute(f"SELECT id FROM {self._name} WHERE id = ANY(%s)", [ids])]
            new.check(ids, existing)
            cursor.execute(f"DELETE FROM {self._name} WHERE id = ANY(%s)", [existing])
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
            for column, graph in graphs.items():
                kind = f"hnsw ({_quoted(column)} vector_ip_ops) WITH ({options})"
                cursor.execute(f"CREATE INDEX IF NOT EXISTS {graph} ON {self._name} USING {kind}")
            cursor.execute(f"ANALYZE {self._name}")
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
            kind, column = _SQL_TYPES[field.type], _quoted(names[field.name])
            if field.name not in before.columns:
                cursor.execute(f"ALTER TABLE {self._name} ADD COLUMN {column} {kind}")
            elif before.schema.field(field.name).type != field.type:
                cursor.execute(f"ALTER TABLE {self._name} ALTER COLUMN {column} TYPE {kind}")
        if layout != before:
            self._comment(cursor, layout)
        return layout

    def _copy(self, cursor: Any, layout: Layout, items: Items) -> None:
        from psycopg.types.json import Jsonb

        vectors = []
        for subset in layout.vectors:
            mask = items.table.complete[subset].tolist() if subset in items.table else None
            vectors.append((items.table[subset].cpu().numpy(), mask) if mask is not None else None)
        metadata = cast_columns(items.metadata, layout.schema, len(items))
        with cursor.copy(f"COPY {self._name} ({layout.names}) FROM STDIN (FORMAT BINARY)") as copy:
            kinds = [_SQL_TYPES[kind] for kind in layout.schema.types]
            copy.set_types(["text", "jsonb", *("vector" for _ in vectors), *kinds])
            for start in range(0, len(items), _ROWS):
                values = [metadata[name].slice(start, _ROWS).to_pylist() for name in layout.schema.names]
                for row in range(start, min(start + _ROWS, len(items))):
                    id, media = items.table.ids[row], items.media_of(row)
                    known = [column[row - start] for column in values]
                    texts = [id, *media.values(), *(one for value in known for one in _texts(value))]
                    if any("\0" in (zero := text) for text in texts):
                        raise ValueError(
                            f"item {id!r} has a text with a zero byte, which PostgreSQL cannot hold: {zero!r}. Take it "
                            "out"
                        )
                    held = [one[0][row] if one is not None and one[1][row] else None for one in vectors]
                    copy.write_row([id, Jsonb(media), *held, *known])

    def _search(self, cursor: Any, queries: Tensor, target: Subset, k: int, where: Sequence[Filter]) -> list[Ranking]:
        layout = self._layout(cursor)
        clause, values = where_clause(checked(where, layout.schema), layout)
        # pgvector gives the inner product with its sign turned, for the smallest comes first. With `+ 0` it is no
        # expression that the graph knows: every row is compared.
        column = _quoted(layout.vectors[target])
        negative = f"({column} <#> %(query)s)"
        text = f"SELECT id, -{negative} FROM {self._name} WHERE {column} IS NOT NULL AND {clause} ORDER BY {negative}"
        parameters = [{**values, "query": query, "k": k} for query in queries.cpu().numpy()]

        def every(chosen: Sequence[dict[str, Any]], order: str) -> list[Ranking]:
            """Hits of each query, all sent before the first is answered."""
            with cursor.connection.pipeline():
                cursors = [cursor.connection.execute(text + order, one) for one in chosen]
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
        layout = self._layout(cursor)
        statement = f"SELECT {layout.names} FROM {self._name} WHERE id = ANY(%s)"
        records = {row[0]: row for row in cursor.connection.execute(statement, [list(ids)], binary=True)}
        if missing := [id for id in ids if id not in records]:
            raise KeyError(missing[0])
        rows = [records[id] for id in ids]
        vectors = {
            subset: [None if row[place] is None else torch.from_numpy(row[place].to_numpy()) for row in rows]
            for place, subset in enumerate(layout.vectors, start=2)
        }
        metadata = {
            field.name: pa.array([row[place] for row in rows], field.type)
            for place, field in enumerate(layout.schema, start=2 + len(layout.vectors))
        }
        return Items.from_media(stack_vectors(ids, vectors, layout.dim), pa.table(metadata), [r[1] for r in rows])

    def _verify(self, cursor: Any) -> list[str]:
        layout, damage = self._layout(cursor), []
        statement = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        names = {name for (name,) in cursor.execute(statement, [self._name])}
        if lacking := {*layout.vectors.values(), *layout.columns.values()} - names:
            return [f"{self.table}: has no column {', '.join(sorted(lacking))}"]
        for subset, column in layout.vectors.items():
            off = f"SELECT count(*) FROM {self._name} WHERE abs(vector_norm({_quoted(column)}) - 1) > {UNIT}"
            if count := cursor.execute(off).fetchone()[0]:
                damage.append(f"{self.table}: {count} vectors of {subset} have no length of 1")
        cursor.execute(f"SELECT sum(length(id) + length(media::text)) FROM {self._name}")  # which checks every page
        statement = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass AND NOT indisvalid"
        broken = cursor.execute(statement, [self._name]).fetchall()
        return [*damage, *(f"{self.table}: its index {name} is not valid; REINDEX it" for (name,) in broken)]


def column_name(name: str, taken: Iterable[str]) -> str:
    """The name itself where PostgreSQL can carry it and it is free, else a number.

    >>> column_name("year", {"id"}), column_name("id", {"id"}), column_name("a%b", {"column 1"})
    ('year', 'column 1', 'column 2')
    """
    taken = {"row", "id", "media", *taken}
    if _PLAIN.match(name) and name not in taken:
        return name
    return next(free for n in range(1, len(taken) + 2) if (free := f"column {n}") not in taken)


def _texts(value: Any) -> list[str]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def where_clause(where: Sequence[Filter], layout: Layout) -> tuple[str, dict[str, Any]]:
    """The filters, which must have been `checked`, as a statement to stand behind WHERE, and its parameters."""
    parameters: dict[str, Any] = {}

    def leaf(condition: Condition) -> str:
        kind, operator, value = layout.schema.field(condition.column).type, condition.operator, condition.value
        column = _quoted(layout.columns[condition.column])
        if operator.endswith("null"):
            return f"{column} {operator}"
        if any(isinstance(one, str) and "\0" in one for one in (value if isinstance(value, tuple) else [value])):
            raise ValueError(f"{condition}: PostgreSQL holds no text with a zero byte, so none can be asked for")
        name = f"value{len(parameters)}"
        parameters[name] = list(value) if isinstance(value, tuple) else value
        type_ = _SQL_TYPES[kind]
        negation = "NOT " if operator.startswith("not") else ""
        if operator.endswith("in"):
            return f"{negation}{column} = ANY(%({name})s::{type_}[])"
        if pa.types.is_list(kind):
            return f"{negation}{column} @> ARRAY[%({name})s]::{type_}"
        if operator.endswith("contains"):
            return f"{negation}position(%({name})s::text in {column}) > 0"
        order = ' COLLATE "C"' if type_ == "text" else ""  # by bytes, as in the other stores
        return f"{column}{order} { {'==': '=', '!=': '<>'}.get(operator, operator) } %({name})s::{type_}"

    return translate(where, leaf, lambda kind, parts: f"({f' {kind.__name__} '.join(parts) or 'TRUE'})"), parameters
