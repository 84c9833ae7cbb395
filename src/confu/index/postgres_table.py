"""The table that holds an index in PostgreSQL: its columns, and how it is searched."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from confu.checks import check_known
from confu.index.columns import merged_schema, schema_from_json, schema_to_json
from confu.index.items import Items
from confu.plan import Subset

FORMAT, VERSION = "confu.index.postgres", 1
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_ +.-]{0,55}$")  # what needs no care in a statement, within 63 bytes
_OWN = ("row", "id", "media")
_KINDS = ("hnsw", "flat")
_MOST_DIM = 2000  # of pgvector's HNSW over float32
_MOST_EF = 1000


@dataclass(frozen=True)
class Table:
    """A table and its settings.

    Attributes:
        name: of 1 to 63 bytes; `schema.table` is not read as two names.
        kind: "hnsw", or "flat" for no graph: every row is compared.
        m: neighbours of a row in the graph.
        ef_build: rows looked at when one is put into the graph.
        ef: rows looked at in a search; more find more, and take longer.
        build_memory: MiB that the server may use to build a graph.
        build_workers: processes that help with it; in a container they need as much of /dev/shm as `build_memory`.

    Raises:
        ValueError: for a setting that is out of bounds.
    """

    name: str
    kind: str = "hnsw"
    m: int = 16
    ef_build: int = 64
    ef: int = 100
    build_memory: int = 1024
    build_workers: int = 0

    def __post_init__(self) -> None:
        check_known("option kind", self.kind, _KINDS)
        limits = {
            "m": (2, 100), "ef_build": (2 * self.m, 1000), "ef": (1, _MOST_EF), "build_memory": (1, 1 << 20),
            "build_workers": (0, 1024),
        }  # fmt: skip
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"option {name} must be a whole number from {least} to {most}; got {value!r}")
        if not self.name or len(self.name.encode()) > 63 or {"\0", "%"} & set(self.name):
            raise ValueError(f"option table must be a name of 1 to 63 bytes without %; got {self.name!r}")

    @property
    def quoted(self) -> Any:
        """Its name, to be put into a statement."""
        from psycopg import sql

        return sql.Identifier(self.name)

    def run(self, connection: Any, text: str, *names: Any, values: Sequence[Any] | None = None) -> Any:
        """A statement with {} for the table's name first, then for these names."""
        from psycopg import sql

        return connection.execute(sql.SQL(text).format(self.quoted, *names), values)  # type: ignore[arg-type]

    def layout(self, connection: Any) -> "Layout":
        """What it holds.

        Raises:
            ValueError: if it is not there, or not one of ours.
        """
        name = self.quoted.as_string(None)
        found = connection.execute("SELECT to_regclass(%s), obj_description(to_regclass(%s))", [name, name]).fetchone()
        if found[0] is None:
            raise ValueError(
                f"the database {connection.info.dbname!r} has no table {self.name!r}; is it the right one? If the "
                "table was dropped, make the index again"
            )
        return Layout.from_json(found[1], self.name)

    def is_searched_by_graph(self, k: int) -> bool:
        """Whether the graph can give k rows."""
        return self.kind == "hnsw" and k <= _MOST_EF

    def graphs(self, layout: "Layout") -> dict[str, Any]:
        """Column -> the name of its graph; empty where there is to be none."""
        from psycopg import sql

        if self.kind == "flat" or layout.dim > _MOST_DIM:
            return {}
        own = hashlib.sha256(self.name.encode()).hexdigest()[:12]
        return {column: sql.Identifier(f"confu_{own}_{n}") for n, column in enumerate(layout.vectors.values())}


@dataclass(frozen=True)
class Layout:
    """What the table holds, kept as JSON in its comment so that both change together.

    Attributes:
        dim: of each vector.
        vectors: subset -> its column.
        schema: of the metadata.
        columns: metadata column -> its column in the table.
    """

    dim: int
    vectors: dict[Subset, str]
    schema: pa.Schema
    columns: dict[str, str]

    def to_json(self) -> str:
        """As it stands in the comment."""
        vectors = {str(subset): name for subset, name in self.vectors.items()}
        about = {"format": FORMAT, "version": VERSION, "dim": self.dim, "vectors": vectors}
        return json.dumps({**about, "schema": schema_to_json(self.schema), "columns": self.columns})

    @classmethod
    def from_json(cls, text: str | None, table: str) -> "Layout":
        """Read it from a comment.

        Raises:
            ValueError: if the table is not one of ours, or of another version.
        """
        try:
            about = json.loads(text or "")
        except ValueError:
            about = None
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise ValueError(
                f"the table {table!r} of the database is no index of confu (its comment would say so); give another "
                "name as the option table"
            )
        if about.get("version") != VERSION:
            raise ValueError(
                f"the table {table!r} has version {about.get('version')}, this confu reads version {VERSION}; update "
                "confu or make the index again"
            )
        vectors = {Subset.parse(name): column for name, column in about["vectors"].items()}
        return cls(about["dim"], vectors, schema_from_json(about["schema"]), about["columns"])

    def grown(self, schema: pa.Schema) -> "Layout":
        """With room for metadata of this schema, too."""
        taken = {*_OWN, *self.vectors.values(), *self.columns.values()}
        columns = dict(self.columns)
        for name in schema.names:
            if name not in columns:
                columns[name] = column_name(name, taken)
                taken.add(columns[name])
        return replace(self, schema=merged_schema(self.schema, schema), columns=columns)

    def check_fits(self, items: Items) -> None:
        """Raise a ValueError unless the items' vectors are of the index's subsets and dim."""
        lacking = [str(subset) for subset in items.table.subsets if subset not in self.vectors]
        if lacking or items.table.dim != self.dim:
            raise ValueError(
                f"the index holds vectors of {', '.join(map(str, self.vectors))} with {self.dim} numbers; got "
                f"{', '.join(map(str, items.table.subsets))} with {items.table.dim}"
            )


def empty_layout(dim: int, subsets: Sequence[Subset]) -> Layout:
    """Of a table without metadata."""
    taken, vectors = set(_OWN), {}
    for subset in subsets:
        vectors[subset] = column_name(str(subset), taken)
        taken.add(vectors[subset])
    return Layout(dim, vectors, pa.schema([]), {})


def column_name(name: str, taken: Iterable[str]) -> str:
    """The name itself where PostgreSQL can carry it and it is free, else a number.

    >>> column_name("year", {"id"}), column_name("id", {"id"}), column_name("a%b", {"column 1"})
    ('year', 'column 1', 'column 2')
    """
    taken = set(taken)
    if _PLAIN.match(name) and name not in taken:
        return name
    return next(free for n in range(1, len(taken) + 2) if (free := f"column {n}") not in taken)


def sql_type(kind: pa.DataType) -> str:
    """The type of PostgreSQL for a type of column that an index stores.

    >>> sql_type(pa.int64()), sql_type(pa.timestamp("us", tz="UTC"))
    ('bigint', 'timestamptz')
    """
    named = {"int64": "bigint", "double": "double precision", "bool": "boolean", "date32[day]": "date"}
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamptz"
    return named.get(str(kind), "text")
