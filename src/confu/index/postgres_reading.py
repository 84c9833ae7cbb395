"""What is read of an index in PostgreSQL, each within one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from confu.index.backend import Found
from confu.index.conditions import Condition, checked
from confu.index.items import Items
from confu.index.postgres_rows import items_of, where_clause
from confu.index.postgres_table import Table
from confu.plan import Subset

_UNIT = 1e-3  # how far from 1 the length of a vector may be


def search(
    connection: Any, table: Table, queries: Tensor, target: Subset, k: int, where: Sequence[Condition]
) -> list[Found]:
    """The k nearest of each query: through the graph, and by comparing every row where that gives fewer than k."""
    from psycopg import sql

    layout = table.layout(connection)
    clause, values = where_clause(checked(where, layout.schema), layout)
    column = sql.Identifier(layout.vectors[target])
    # pgvector gives the inner product with its sign turned, for the smallest comes first. With `+ 0` it is no
    # expression that the graph knows: every row is compared.
    text = "SELECT id, -({} <#> %(query)s) FROM {} WHERE {} IS NOT NULL AND {} ORDER BY ({} <#> %(query)s)"
    parts = (column, table.quoted, column, clause, column)
    by_graph, by_row = (sql.SQL(text + rest).format(*parts) for rest in (" LIMIT %(k)s", " + 0, row LIMIT %(k)s"))
    asked = [{**values, "query": query, "k": k} for query in queries.cpu().numpy()]
    if not table.is_searched_by_graph(k):
        return [_found(rows) for rows in _each(connection, by_row, asked)]
    connection.execute(f"SET LOCAL hnsw.ef_search = {max(table.ef, k)}")
    connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")  # on and on until k rows fit the conditions
    found = _each(connection, by_graph, asked)
    few = [number for number, rows in enumerate(found) if len(rows) < k]
    for number, rows in zip(few, _each(connection, by_row, [asked[number] for number in few])):
        found[number] = rows
    return [_found(rows) for rows in found]


def fetch(connection: Any, table: Table, ids: Sequence[str]) -> Items:
    """Items in this order.

    Raises:
        KeyError: for an id that is not there.
    """
    from psycopg import sql

    layout = table.layout(connection)
    names = ["id", "media", *layout.vectors.values(), *(layout.columns[name] for name in layout.schema.names)]
    listed = sql.SQL(", ").join(map(sql.Identifier, names))
    statement = sql.SQL("SELECT {} FROM {} WHERE id = ANY(%s)").format(listed, table.quoted)
    held = {row[0]: row for row in connection.execute(statement, [list(ids)], binary=True)}
    if missing := [id for id in ids if id not in held]:
        raise KeyError(missing[0])
    return items_of([held[id] for id in ids], layout)


def verify(connection: Any, table: Table) -> list[str]:
    """What is wrong with the table; the server reads all of it, and checks its pages as it does."""
    from psycopg import sql

    layout, wrong = table.layout(connection), []
    statement = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
    names = {row[0] for row in connection.execute(statement, [table.quoted.as_string(None)])}
    if lacking := {*layout.vectors.values(), *layout.columns.values()} - names:
        return [f"{table.name}: has no column {', '.join(sorted(lacking))}"]
    for subset, column in layout.vectors.items():
        statement = f"SELECT count(*) FROM {{}} WHERE abs(vector_norm({{}}) - 1) > {_UNIT}"
        if off := table.run(connection, statement, sql.Identifier(column)).fetchone()[0]:
            wrong.append(f"{table.name}: {off} vectors of {subset} have no length of 1")
    table.run(connection, "SELECT sum(length(id) + length(media::text)) FROM {}")
    statement = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass AND NOT indisvalid"
    broken = connection.execute(statement, [table.quoted.as_string(None)]).fetchall()
    return [*wrong, *(f"{table.name}: its index {row[0]} is not valid; REINDEX it" for row in broken)]


def _each(connection: Any, statement: Any, asked: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """The rows of each question, all sent before the first is answered."""
    with connection.pipeline():
        cursors = [connection.execute(statement, values) for values in asked]
        return [cursor.fetchall() for cursor in cursors]


def _found(rows: Sequence[Any]) -> Found:
    return Found([row[0] for row in rows], [row[1] for row in rows])
