"""The table of an index in PostgreSQL: what its columns hold, and conditions as SQL."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from confu.index.columns import schema_from_json, schema_to_json
from confu.index.conditions import Condition
from confu.plan import Subset

FORMAT, VERSION = "confu.index.postgres", 1
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_ +.-]{0,55}$")  # what needs no care in a statement, within 63 bytes
SQL_TYPES = {
    "int64": "bigint",
    "double": "double precision",
    "bool": "boolean",
    "date32[day]": "date",
    "timestamp[us]": "timestamp",
    "timestamp[us, tz=UTC]": "timestamptz",
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


def where_clause(conditions: Sequence[Condition], layout: Layout) -> tuple[Any, dict[str, Any]]:
    """The conditions as a statement to stand behind WHERE, and its parameters; they must have been `checked`."""
    from psycopg import sql

    parts: list[Any] = [sql.SQL("TRUE")]
    values: dict[str, Any] = {}
    for number, condition in enumerate(conditions):
        several = condition.operator == "in"
        kind, name = layout.schema.field(condition.column).type, f"value{number}"
        values[name] = list(condition.value) if several else condition.value
        numbers = values[name] if several else [condition.value]
        type_ = SQL_TYPES.get(str(kind), "text")
        # A float, or a whole number of more than 64 bits, is compared with whole numbers too.
        if type_ == "bigint" and not all(isinstance(one, int) and abs(one) < 2**63 for one in numbers):
            type_ = "numeric"
        order = ' COLLATE "C"' if type_ == "text" else ""  # by bytes, as in the other stores
        operator = {"==": "=", "!=": "<>", "in": "= ANY("}.get(condition.operator, condition.operator)
        text = f"{{}}{order} {operator}{{}}::{type_}" + ("[])" if several else "")
        names = sql.Identifier(layout.columns[condition.column]), sql.Placeholder(name)
        parts.append(sql.SQL(text).format(*names))  # pyright: ignore[reportArgumentType]
    return sql.SQL(" AND ").join(parts), values
