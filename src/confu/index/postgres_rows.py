"""Items as rows of a table of PostgreSQL, and back; conditions as its statements."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from confu.embeddings import EmbeddingTable
from confu.index.columns import cast_columns
from confu.index.conditions import Condition
from confu.index.items import Items
from confu.index.postgres_table import Layout, sql_type

_ROWS = 4096  # made ready at once


def rows_of(items: Items, layout: Layout) -> Iterator[list[Any]]:
    """The values of each item in the table's order: id, media, vectors, metadata.

    Raises:
        ValueError: for a text that PostgreSQL cannot hold.
    """
    from psycopg.types.json import Jsonb

    vectors = [
        (items.table[subset].cpu().numpy(), items.table.complete[subset].tolist()) if subset in items.table else None
        for subset in layout.vectors
    ]
    metadata = cast_columns(items.metadata, layout.schema, len(items))
    for start in range(0, len(items), _ROWS):
        columns = [metadata[name].slice(start, _ROWS).to_pylist() for name in layout.schema.names]
        for row in range(start, min(start + _ROWS, len(items))):
            media = {name: column[row] for name, column in items.media.items() if column[row] is not None}
            held = [one[0][row] if one is not None and one[1][row] else None for one in vectors]
            known = [column[row - start] for column in columns]
            for text in (items.table.ids[row], *media.values(), *known):
                if isinstance(text, str) and "\0" in text:
                    raise ValueError(
                        f"item {items.table.ids[row]!r} has a text with a zero byte, which PostgreSQL cannot hold: "
                        f"{text!r}. Take it out"
                    )
            yield [items.table.ids[row], Jsonb(media), *held, *known]


def items_of(rows: Sequence[Sequence[Any]], layout: Layout) -> Items:
    """Items of the values that `rows_of` gave, as the database gives them back."""
    vectors, complete = {}, {}
    for position, subset in enumerate(layout.vectors, start=2):
        held = [row[position] for row in rows]
        complete[subset] = torch.tensor([one is not None for one in held], dtype=torch.bool)
        vectors[subset] = torch.zeros(len(rows), layout.dim)
        if stacked := [one.to_numpy() for one in held if one is not None]:
            vectors[subset][complete[subset]] = torch.from_numpy(np.stack(stacked))
    start = 2 + len(layout.vectors)
    metadata = {
        field.name: pa.array([row[position] for row in rows], field.type)
        for position, field in enumerate(layout.schema, start=start)
    }
    names = dict.fromkeys(name for row in rows for name in row[1])
    media = {name: [row[1].get(name) for row in rows] for name in names}
    return Items(EmbeddingTable(tuple(row[0] for row in rows), vectors, complete), pa.table(metadata), media)


def where_clause(conditions: Sequence[Condition], layout: Layout) -> tuple[Any, dict[str, Any]]:
    """The conditions as a statement to stand behind WHERE, and its parameters; they must have been `checked`."""
    from psycopg import sql

    parts, values = [sql.SQL("TRUE")], {}
    for n, condition in enumerate(conditions):
        column, name = sql.Identifier(layout.columns[condition.column]), f"value{n}"
        kind = layout.schema.field(condition.column).type
        values[name] = list(condition.value) if condition.operator == "in" else condition.value
        if pa.types.is_string(kind):
            column = sql.SQL('{} COLLATE "C"').format(column)  # by bytes, as in the other stores
        type_ = "numeric" if pa.types.is_integer(kind) and not _is_bigint(condition.value) else sql_type(kind)
        form = {"in": "{} = ANY({}::" + type_ + "[])", "==": "{} = {}::" + type_, "!=": "{} <> {}::" + type_}
        text = form.get(condition.operator, "{} " + condition.operator + " {}::" + type_)
        parts.append(sql.SQL(text).format(column, sql.Placeholder(name)))  # type: ignore[arg-type]
    return sql.SQL(" AND ").join(parts), values


def _is_bigint(value: Any) -> bool:
    """Whether a number, or all of several, are of PostgreSQL's type; 2020.5 may be compared with whole numbers, too."""
    return all(isinstance(one, int) and abs(one) < 2**63 for one in (value if isinstance(value, tuple) else (value,)))
