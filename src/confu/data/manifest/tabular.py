"""Tables as files: Parquet, CSV, and JSON lines, as Arrow tables whose columns have few types."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright cannot see them.

import csv as csv_reader
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from confu.data.manifest.cells import is_list
from confu.data.manifest.manifest import ROLES, role_text

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_NO_NUMBER = pa.array(["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"], pa.large_string())
_CODE = r"^[+-]?0[0-9]"  # "007" is a name: as a number it would lose its zeros


def read_parquet(file: Any, address: str) -> pa.Table:
    """Read a Parquet file; Hugging Face's class numbers become their names.

    Raises:
        ValueError: not a Parquet file, or one cut short.
    """
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{address}: not readable as Parquet ({error})") from error
    features = _hugging_face_features(table.schema)
    for position, name in enumerate(table.column_names):
        names = features.get(name, {}).get("names") if isinstance(features.get(name), Mapping) else None
        if names and pa.types.is_integer(table.schema.types[position]):
            # -1 is how Hugging Face data sets hide the labels of a test split.
            named = [names[n] if n is not None and 0 <= n < len(names) else None for n in table[position].to_pylist()]
            table = table.set_column(position, name, pa.array(named, pa.large_string()))
    return _plain_table(table, address)


def read_csv(file: Any, address: str) -> pa.Table:
    """Read a CSV file with a header; a column is of numbers if every filled cell is one, else of text.

    Raises:
        ValueError: no header, a column without a name, a row with too many or too few cells, or no UTF-8.
    """
    import pyarrow.csv as csv

    content = file.read()
    # Arrow would take the first of two equal names and guess dates; as text nothing is lost.
    try:
        first_line = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
        names = next(csv_reader.reader(first_line), [])
        table = csv.read_csv(
            pa.BufferReader(content),
            read_options=csv.ReadOptions(use_threads=False),  # with threads a message would not tell the row
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types={name: pa.large_string() for name in names}),
        )
    except (pa.ArrowException, UnicodeDecodeError, csv_reader.Error) as error:
        raise ValueError(f"{address}: not readable as CSV in UTF-8 ({error})") from error
    if not all(name.strip() for name in names):
        raise ValueError(
            f"{address}: column {names.index('') if '' in names else 0} has no name in the header (pandas writes its "
            "index so: write with index=False); name every column"
        )
    table = _plain_table(table, address)
    for position, name in enumerate(table.column_names):
        if name not in ROLES:
            table = table.set_column(position, name, _numbers_if_all(table[name]))
    return table


def read_json_lines(file: Any, address: str) -> pa.Table:
    """Read a file with one JSON object a line; a key that a line does not have is a missing cell.

    Python's parser: Arrow's takes texts that look like dates for dates, and refuses lines longer than a block.

    Raises:
        ValueError: a line that is no JSON object, by number; a column that holds differing types, by row.
    """
    rows = []
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:  # also no UTF-8
            raise ValueError(f"{address}: line {number} is no JSON ({error}); write one object a line") from error
        if not isinstance(row, dict):
            raise ValueError(f"{address}: line {number}: expected a JSON object such as {{...}}; got {str(row)[:40]}")
        rows.append(row)
    return table_of(rows, address)


def table_of(rows: Sequence[Mapping[str, Any]], address: str) -> pa.Table:
    """A table of records; a key that a record lacks is a missing cell.

    Raises:
        ValueError: a column that holds differing types.

    >>> table_of([{"id": 1, "text": "a"}, {"text": None}], "x.jsonl").to_pylist()
    [{'id': '1', 'text': 'a'}, {'id': None, 'text': None}]
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _plain_table(pa.table({name: _column(rows, name, address) for name in names}), address)


def _column(rows: Sequence[Mapping[str, Any]], name: str, address: str) -> pa.Array | pa.ChunkedArray:
    values = [row.get(name) for row in rows]
    if name in ROLES and not any(isinstance(value, list | dict) for value in values):
        return pa.array([role_text(value) for value in values], pa.large_string())  # 1 and "1" are one name
    kind = pa.large_binary() if any(isinstance(value, bytes) for value in values) else None
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError, TypeError) as error:
        types = [None if value is None else _type_in_words(value) for value in values]
        first = next(row for row, name_ in enumerate(types) if name_ is not None)
        other = next((row for row, name_ in enumerate(types) if name_ not in (None, types[first])), None)
        if other is None:
            raise ValueError(f"{address}: column {name!r}: its cells do not make one column ({error})") from error
        raise ValueError(
            f"{address}: row {other}, column {name!r}: expected {types[first]} as in row {first}; got {types[other]}. "
            "A column holds one type; write null for a missing cell"
        ) from error


def _type_in_words(value: Any) -> str:
    words = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a record",
        bytes: "bytes",
    }
    return words.get(type(value), type(value).__name__)


def _numbers_if_all(column: pa.ChunkedArray) -> pa.ChunkedArray:
    numbers = pc.if_else(pc.is_in(column, _NO_NUMBER), pa.scalar(None, pa.large_string()), column)
    if numbers.null_count == len(numbers) or pc.any(pc.match_substring_regex(numbers, _CODE)).as_py():
        return column
    for kind in (pa.int64(), pa.float64()):
        try:
            return numbers.cast(kind)
        except pa.ArrowInvalid:
            continue  # not all are numbers of this kind: the next, or text
    return column


def _hugging_face_features(schema: pa.Schema) -> Mapping[str, Any]:
    """What the `datasets` library wrote about the columns; another program's are read by their types."""
    stored = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(stored)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, Mapping) else {}


def _plain_table(table: pa.Table, address: str) -> pa.Table:
    """Columns of few types, each name once, without the index that pandas adds."""
    names = [name for name in table.column_names if not _PANDAS_INDEX.fullmatch(name)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{address}: two columns are named {name!r}; rename one")
    return pa.table({name: _plain(table[name]) for name in names})


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    kind = _plain_type(column.type)
    return column if kind == column.type else column.cast(kind)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Dictionaries as their values, decimals as floats; 64-bit offsets, as a column of pictures soon holds 2 GiB."""
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
    if is_list(kind):
        return pa.large_list(_plain_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain_type(field.type)) for field in kind])
    return kind
