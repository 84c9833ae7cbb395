"""The table of an index in PostgreSQL: what its columns hold, and conditions as SQL."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from confu.index.columns import schema_from_json, schema_to_json
from confu.index.conditions import Condition, Filter, translate
from confu.plan import Subset

FORMAT, VERSION = "confu.index.postgres", 1
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_ +.-]{0,55}$")  # what needs no care in a statement, within 63 bytes
SQL_TYPES = {
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
    def names(self) -> Any:
        """The table's columns: id, media, vectors and metadata."""
        from psycopg import sql

        fields = [self.columns[name] for name in self.schema.names]
        return sql.SQL(", ").join(map(sql.Identifier, ["id", "media", *self.vectors.values(), *fields]))

    def to_json(self) -> str:
        """The table's comment."""
        vectors = {str(subset): name for subset, name in self.vectors.items()}
        content = {"format": FORMAT, "version": VERSION, "dim": self.dim, "vectors": vectors}
        return json.dumps(
            {**content, "schema": schema_to_json(self.schema), "columns": self.columns, "source": self.source}
        )

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


def column_name(name: str, taken: Iterable[str]) -> str:
    """The name itself where PostgreSQL can carry it and it is free, else a number.

    >>> column_name("year", {"id"}), column_name("id", {"id"}), column_name("a%b", {"column 1"})
    ('year', 'column 1', 'column 2')
    """
    taken = {"row", "id", "media", *taken}
    if _PLAIN.match(name) and name not in taken:
        return name
    return next(free for n in range(1, len(taken) + 2) if (free := f"column {n}") not in taken)


def where_clause(where: Sequence[Filter], layout: Layout) -> tuple[str, dict[str, Any]]:
    """The filters, which must have been `checked`, as a statement to stand behind WHERE, and its parameters."""
    parameters: dict[str, Any] = {}

    def leaf(condition: Condition) -> str:
        kind, operator, value = layout.schema.field(condition.column).type, condition.operator, condition.value
        column = f'"{layout.columns[condition.column]}"'  # which has no quotes in its name, see `column_name`
        if operator.endswith("null"):
            return f"{column} {operator}"
        if any(isinstance(one, str) and "\0" in one for one in (value if isinstance(value, tuple) else [value])):
            raise ValueError(f"{condition}: PostgreSQL holds no text with a zero byte, so none can be asked for")
        name = f"value{len(parameters)}"
        parameters[name] = list(value) if isinstance(value, tuple) else value
        type_ = SQL_TYPES[kind]
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
