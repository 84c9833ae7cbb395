"""Arrow tables with few types of column, whichever program wrote them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from confu.data.manifest.kinds import ROLES
from confu.data.manifest.manifest import role_text

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def plain_table(table: pa.Table, address: str) -> pa.Table:
    """Dictionaries as their values, extensions as their storage, decimals as floats, everything with 64-bit offsets.

    64 bits because a column of pictures soon holds more than 2 GiB. The index that pandas adds is left out.

    Raises:
        ValueError: two columns of one name.
    """
    names = [name for name in table.column_names if not _PANDAS_INDEX.fullmatch(name)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{address}: two columns are named {name!r}; rename one")
    return pa.table({name: _plain(table[name]) for name in names})


def table_of(rows: Sequence[Mapping[str, Any]], address: str) -> pa.Table:
    """A table of records; a key that a record lacks is a missing cell.

    Raises:
        ValueError: a column that holds differing types.

    >>> table_of([{"id": 1, "text": "a"}, {"text": None}], "x.jsonl").to_pylist()
    [{'id': '1', 'text': 'a'}, {'id': None, 'text': None}]
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    return plain_table(pa.table({name: _column(rows, name, address) for name in names}), address)


def _column(rows: Sequence[Mapping[str, Any]], name: str, address: str) -> pa.Array | pa.ChunkedArray:
    values = [row.get(name) for row in rows]
    if name in ROLES and not any(isinstance(value, list | dict) for value in values):
        return pa.array([role_text(value) for value in values], pa.large_string())  # 1 and "1" are one name
    kind = pa.large_binary() if any(isinstance(value, bytes) for value in values) else None
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError, TypeError) as error:
        sorts = [_sort(value) for value in values]
        first = next(row for row, sort in enumerate(sorts) if sort is not None)
        other = next((row for row, sort in enumerate(sorts) if sort not in (None, sorts[first])), None)
        if other is None:
            raise ValueError(f"{address}: column {name!r}: its cells do not make one column ({error})") from error
        raise ValueError(
            f"{address}: row {other}, column {name!r}: expected {sorts[first]} as in row {first}; got {sorts[other]}. "
            "A column holds one type; write null for a missing cell"
        ) from error


def _sort(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    names = {str: "a text", list: "a list", dict: "a record", bytes: "bytes"}
    return names.get(type(value), type(value).__name__)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    kind = _plain_type(column.type)
    return column if kind == column.type else column.cast(kind)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_null(kind) or pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.large_binary()
    if pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.large_list(_plain_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain_type(field.type)) for field in kind])
    return kind
