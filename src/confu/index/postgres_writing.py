"""Changes of an index in PostgreSQL, each within one transaction."""

from collections.abc import Iterable, Sequence
from typing import Any

from confu.index.backend import Change
from confu.index.columns import plain_columns
from confu.index.items import Items
from confu.index.postgres_address import driver
from confu.index.postgres_link import Link
from confu.index.postgres_rows import rows_of
from confu.index.postgres_table import Layout, Table, empty_layout, sql_type
from confu.plan import Subset


def have_vectors(link: Link) -> None:
    """Have the extension pgvector in the database.

    Raises:
        ValueError: if it is not on the server, or this user may not create it.
    """
    psycopg = driver()
    try:
        link.write(lambda connection: connection.execute("CREATE EXTENSION IF NOT EXISTS vector"))
    except psycopg.Error as error:
        raise ValueError(
            f"{link.name} lacks the extension pgvector ({' '.join(str(error).split())}). Install it on the server, or "
            "have its administrator run CREATE EXTENSION vector in this database"
        ) from error
    link.close()  # connections made from now on know the type


def make_table(connection: Any, table: Table, dim: int, subsets: Sequence[Subset]) -> None:
    """Make an empty table.

    Raises:
        ValueError: if there is one of that name.
    """
    from psycopg import sql

    if connection.execute("SELECT to_regclass(%s)", [table.quoted.as_string(None)]).fetchone()[0] is not None:
        raise ValueError(
            f"the database {connection.info.dbname!r} has a table {table.name!r} already; give another name as the "
            "option table, or drop that one"
        )
    layout = empty_layout(dim, subsets)
    own = (
        'row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text COLLATE "C" NOT NULL UNIQUE, media jsonb NOT NULL'
    )
    vectors = "".join(f", {{}} vector({dim})" for _ in subsets)
    table.run(connection, f"CREATE TABLE {{}} ({own}{vectors})", *map(sql.Identifier, layout.vectors.values()))
    _describe(connection, table, layout)


def add_items(connection: Any, table: Table, parts: Iterable[Items], replace: bool) -> Change:
    """Store items part after part.

    Raises:
        ValueError: for ids that are there, unless they are to be replaced, and for what does not fit.
    """
    # Readers read on; what was there before stays as it is until the end.
    table.run(connection, "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE")
    layout = table.layout(connection)
    before = table.run(connection, "SELECT count(*) FROM {}").fetchone()[0]
    added, replaced, have_graphs, seen = 0, 0, True, set[str]()
    for items in parts:
        if twice := seen.intersection(items.table.ids):
            raise ValueError(f"id {min(twice)!r} stands twice among the new items; make each unique")
        seen.update(items.table.ids)
        items = Items(items.table, plain_columns(items.metadata), items.media)
        gone = _taken_out(connection, table, list(items.table.ids), replace)
        layout = _grown(connection, table, layout, items)
        if have_graphs and not before:
            _drop_graphs(connection, table, layout)  # one that is built at once costs a fraction
            have_graphs = False
        _copy(connection, table, layout, items)
        added, replaced = added + len(items) - gone, replaced + gone
    if seen:
        _build_graphs(connection, table, layout)
        table.run(connection, "ANALYZE {}")
    return Change(added, replaced)


def _taken_out(connection: Any, table: Table, ids: list[str], replace: bool) -> int:
    there = table.run(connection, "SELECT id FROM {} WHERE id = ANY(%s) ORDER BY id", values=[ids]).fetchall()
    if there and not replace:
        raise ValueError(
            f"id {there[0][0]!r} is in the index already ({len(there)} of these items are); replace them with "
            "replace=True (--replace), or give the new items other ids"
        )
    table.run(connection, "DELETE FROM {} WHERE id = ANY(%s)", values=[[row[0] for row in there]])
    return len(there)


def _grown(connection: Any, table: Table, before: Layout, items: Items) -> Layout:
    """The layout with the columns of these items, which the table then has too."""
    from psycopg import sql

    before.check_fits(items)
    layout = before.grown(items.metadata.schema)
    for name, column in layout.columns.items():
        kind = layout.schema.field(name).type
        if name not in before.columns:
            table.run(connection, "ALTER TABLE {} ADD COLUMN {} " + sql_type(kind), sql.Identifier(column))
        elif before.schema.field(name).type != kind:
            table.run(connection, "ALTER TABLE {} ALTER COLUMN {} TYPE " + sql_type(kind), sql.Identifier(column))
    if layout != before:
        _describe(connection, table, layout)
    return layout


def _copy(connection: Any, table: Table, layout: Layout, items: Items) -> None:
    from psycopg import sql

    columns = ["id", "media", *layout.vectors.values(), *(layout.columns[name] for name in layout.schema.names)]
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table.quoted, names)
    with connection.cursor().copy(statement) as copy:
        copy.set_types(["text", "jsonb", *("vector" for _ in layout.vectors), *map(sql_type, layout.schema.types)])
        for row in rows_of(items, layout):
            copy.write_row(row)


def _describe(connection: Any, table: Table, layout: Layout) -> None:
    from psycopg import sql

    table.run(connection, "COMMENT ON TABLE {} IS {}", sql.Literal(layout.to_json()))


def _drop_graphs(connection: Any, table: Table, layout: Layout) -> None:
    from psycopg import sql

    for name in table.graphs(layout).values():
        connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(name))


def _build_graphs(connection: Any, table: Table, layout: Layout) -> None:
    from psycopg import sql

    connection.execute(f"SET LOCAL maintenance_work_mem = '{table.build_memory}MB'")
    connection.execute(f"SET LOCAL max_parallel_maintenance_workers = {table.build_workers}")
    settings = f" WITH (m = {table.m}, ef_construction = {table.ef_build})"
    text = "CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw ({} vector_ip_ops)" + settings
    for column, name in table.graphs(layout).items():
        connection.execute(sql.SQL(text).format(name, table.quoted, sql.Identifier(column)))  # type: ignore[arg-type]
