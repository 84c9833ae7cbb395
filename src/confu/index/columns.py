"""Columns of metadata: the few types that are stored, and the rows that fit conditions."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright cannot see them.

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from confu.index.conditions import Condition

_TIMES = (pa.timestamp("us"), pa.timestamp("us", tz="UTC"))
_TYPES = {str(kind): kind for kind in (pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.date32(), *_TIMES)}
_COMPARE = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
# Types of values in stores that know neither dates nor times: days and microseconds since 1970.
_NUMBERS = {pa.date32(): pa.int32(), **dict.fromkeys(_TIMES, pa.int64())}


def plain_columns(table: pa.Table) -> pa.Table:
    """The same columns in the types that are stored: texts, int64, float64, booleans, dates, times in microseconds.

    NaN becomes null: the value is not known, and fits no condition.

    Raises:
        ValueError: if a number does not fit into 64 bits with a sign, or a column is repeated.

    >>> plain_columns(pa.table({"year": pa.array([2020], pa.int16())})).schema.field("year").type
    DataType(int64)
    """
    if len(set(table.column_names)) != table.num_columns:
        raise ValueError(f"metadata must have columns of different names; got {', '.join(table.column_names)}")
    types, columns = pa.types, {}
    for name in table.column_names:
        column, kind = table[name], pa.string()
        if types.is_integer(column.type):
            kind = pa.int64()
        elif types.is_floating(column.type):
            kind = pa.float64()
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        elif types.is_boolean(column.type):
            kind = pa.bool_()
        elif types.is_date(column.type):
            kind = pa.date32()
        elif types.is_timestamp(column.type):
            kind = _TIMES[column.type.tz is not None]
        try:
            columns[name] = column.cast(kind, safe=kind not in _TIMES)  # nanoseconds are cut to microseconds
        except pa.ArrowInvalid as error:
            raise ValueError(f"metadata column {name!r} of {column.type} cannot be stored ({error})") from error
    return pa.table(columns)


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
    """Names and types."""
    return [[field.name, str(field.type)] for field in schema]


def schema_from_json(content: Sequence[Sequence[str]]) -> pa.Schema:
    """The reverse of `schema_to_json`."""
    return pa.schema([(name, _TYPES[kind]) for name, kind in content])


def to_numbers(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column, dates as days and times as microseconds since 1970."""
    return column.cast(_NUMBERS.get(column.type, column.type)).to_pylist()


def from_numbers(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The reverse of `to_numbers`; booleans may be 0 and 1."""
    if kind == pa.bool_():
        return pa.array([None if value is None else bool(value) for value in values], kind)
    return pa.array(values, _NUMBERS.get(kind, kind)).cast(kind)


def fitting(
    column: Callable[[str], pa.ChunkedArray], conditions: Sequence[Condition], schema: pa.Schema
) -> np.ndarray | None:
    """(n,) bool: the rows that fit all conditions; None without conditions.

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
