"""The columns of metadata: few types, columns that may be added later, and the rows that fit conditions."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright cannot see them.

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from confu.index.conditions import Condition

_TYPES = {
    str(kind): kind
    for kind in (
        pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.date32(), pa.timestamp("us"),
        pa.timestamp("us", tz="UTC"),
    )
}  # fmt: skip
_COMPARE = {
    "==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
}  # fmt: skip


def plain_columns(table: pa.Table) -> pa.Table:
    """The same columns in the types that are stored: texts, int64, float64, booleans, dates, times in microseconds.

    NaN becomes null: the value is not known, and fits no condition.

    Raises:
        ValueError: if a number does not fit into 64 bits with a sign, or a column stands twice.

    >>> plain_columns(pa.table({"year": pa.array([2020], pa.int16())})).schema.field("year").type
    DataType(int64)
    """
    if len(set(table.column_names)) != table.num_columns:
        raise ValueError(f"metadata must have columns of different names; got {', '.join(table.column_names)}")
    columns = {}
    for name in table.column_names:
        column = table[name]
        try:
            kind = _plain(column.type)
            column = column.cast(kind, safe=not pa.types.is_timestamp(kind))  # what is finer than a microsecond is cut
        except pa.ArrowInvalid as error:
            raise ValueError(f"metadata column {name!r} of {column.type} cannot be stored ({error})") from error
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        columns[name] = column
    return pa.table(columns)


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_boolean(kind):
        return pa.bool_()
    if pa.types.is_date(kind):
        return pa.date32()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    return pa.string()


def merged_schema(stored: pa.Schema, new: pa.Schema) -> pa.Schema:
    """The columns of both; where one holds whole numbers and the other floats, floats.

    Raises:
        ValueError: if a column has two types that do not go together.
    """
    kinds = {field.name: field.type for field in stored}
    for field in new:
        before = kinds.setdefault(field.name, field.type)
        if before == field.type:
            continue
        if {before, field.type} != {pa.int64(), pa.float64()}:
            raise ValueError(
                f"metadata column {field.name!r} holds {before} in the index and {field.type} in the new items; "
                "convert it, or give it another name"
            )
        kinds[field.name] = pa.float64()
    return pa.schema(list(kinds.items()))


def cast_columns(table: pa.Table, schema: pa.Schema, rows: int) -> pa.Table:
    """A table of these columns, null where the given one does not have them."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def schema_to_json(schema: pa.Schema) -> list[list[str]]:
    """Names and types, as they stand in `index.json`."""
    return [[field.name, str(field.type)] for field in schema]


def schema_from_json(content: Sequence[Sequence[str]]) -> pa.Schema:
    """What `schema_to_json` wrote."""
    return pa.schema([(name, _TYPES[kind]) for name, kind in content])


def fitting(
    column: Callable[[str], pa.ChunkedArray], conditions: Sequence[Condition], schema: pa.Schema
) -> np.ndarray | None:
    """(n,) bool: the rows that fit all conditions; None if there is none to fit.

    Args:
        column: gives a column by name.
        conditions: with values of the columns' types, see `checked`.
        schema: of the columns.
    """
    fits = None
    for condition in conditions:
        kind, values = schema.field(condition.column).type, column(condition.column)
        if condition.operator == "in":
            mask = pc.and_(pc.is_valid(values), pc.is_in(values, pa.array(condition.value, kind)))
        else:
            # A float among whole numbers is compared as one: year < 2020.5.
            whole = pa.types.is_integer(kind) and isinstance(condition.value, float)
            value = pa.scalar(condition.value, pa.float64() if whole else kind)
            mask = pc.fill_null(_COMPARE[condition.operator](values, value), False)
        mask = mask.to_numpy()
        fits = mask if fits is None else fits & mask
    return fits
