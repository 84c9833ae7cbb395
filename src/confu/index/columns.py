"""Columns of metadata: the few types that are stored."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright cannot see them.

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_TIMES = (pa.timestamp("us"), pa.timestamp("us", tz="UTC"))
_TYPES = {str(kind): kind for kind in (pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.date32(), *_TIMES)}
_TYPES |= {"time": pa.time64("us"), "list of texts": pa.list_(pa.string()), "list of integers": pa.list_(pa.int64())}
_NAMES = {kind: name for name, kind in _TYPES.items()}
# Types of values in stores that know neither dates nor times: days, and microseconds since 1970 or midnight.
_NUMBERS = {pa.date32(): pa.int32(), **dict.fromkeys((*_TIMES, pa.time64("us")), pa.int64())}
KEPT = "one text, number, boolean, date, time or duration a row, or a list of texts or whole numbers"


def stored_type(kind: pa.DataType) -> pa.DataType | None:
    """The type that a column of this type is stored in; None for one that is no metadata.

    >>> stored_type(pa.dictionary(pa.int8(), pa.string())), stored_type(pa.uint8()), stored_type(pa.binary())
    (DataType(string), DataType(int64), None)
    """
    types = pa.types
    if types.is_dictionary(kind):
        return stored_type(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = stored_type(kind.value_type)
        return pa.list_(inner) if inner in (pa.string(), pa.int64()) else None
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_integer(kind) or (types.is_decimal(kind) and kind.scale <= 0):
        return pa.int64()
    if types.is_floating(kind) or types.is_decimal(kind) or types.is_duration(kind):
        return pa.float64()
    for test, stored in (
        (types.is_boolean, pa.bool_()),
        (types.is_date, pa.date32()),
        (types.is_time, pa.time64("us")),
    ):
        if test(kind):
            return stored
    return _TIMES[kind.tz is not None] if types.is_timestamp(kind) else None


def flat_columns(table: pa.Table) -> pa.Table:
    """The same table, a column `geo.lat` for each field of a column `geo` of records."""
    while any(pa.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    return table


def plain_columns(table: pa.Table) -> pa.Table:
    """The same columns in the types that are stored: texts, int64, float64, booleans, dates, times in microseconds.

    Durations become seconds, decimal fractions floats, float32 the number that it is printed as, records a column a
    field. NaN and empty lists become null: the value is not known, and fits no condition.

    Raises:
        ValueError: if a number does not fit into 64 bits with a sign, a column is repeated, or it is no metadata.

    >>> plain_columns(pa.table({"year": pa.array([2020], pa.int16())})).schema.field("year").type
    DataType(int64)
    """
    table, columns = flat_columns(table), {}
    if len(set(table.column_names)) != table.num_columns:
        raise ValueError(f"metadata must have columns of different names; got {', '.join(table.column_names)}")
    for name in table.column_names:
        column = table[name]
        kind = stored_type(column.type)
        if kind is None:
            raise ValueError(f"metadata column {name!r} must hold {KEPT}; got {column.type}. Leave it out")
        try:
            if pa.types.is_duration(column.type):
                column = pc.divide(column.cast(pa.duration("us"), safe=False).cast(pa.int64()).cast(pa.float64()), 1e6)
            if column.type == pa.float32():  # 0.1 stays 0.1, and does not become 0.10000000149
                column = column.cast(pa.string())
            # Nanoseconds are cut to microseconds, and a decimal fraction is the float that is nearest.
            column = column.cast(kind, safe=not pa.types.is_temporal(kind))
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"metadata column {name!r} of {column.type} cannot be stored ({error}); make it a column of texts, or "
                "leave it out"
            ) from error
        if kind == pa.float64():
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        elif pa.types.is_list(kind):
            column = pc.if_else(pc.equal(pc.list_value_length(column), 0), pa.scalar(None, kind), column)
        columns[name] = column
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
    return [[field.name, _NAMES[field.type]] for field in schema]


def schema_from_json(content: Sequence[Sequence[str]]) -> pa.Schema:
    """The reverse of `schema_to_json`."""
    return pa.schema([(name, _TYPES[kind]) for name, kind in content])


def to_numbers(column: pa.ChunkedArray | pa.Array) -> list[Any]:
    """The values of a column, dates as days and times as microseconds since 1970 or midnight."""
    return column.cast(_NUMBERS.get(column.type, column.type)).to_pylist()


def from_numbers(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
    """The reverse of `to_numbers`; booleans may be 0 and 1, lists JSON."""
    if kind == pa.bool_():
        values = [None if value is None else bool(value) for value in values]
    elif pa.types.is_list(kind):
        values = [json.loads(value) if isinstance(value, str) else value for value in values]
    return pa.array(list(values), _NUMBERS.get(kind, kind)).cast(kind)
