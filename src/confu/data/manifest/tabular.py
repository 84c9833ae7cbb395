"""Tables as files: Parquet, CSV, and JSON lines, as Arrow tables whose columns have few types."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright cannot see them.

import codecs
import csv as csv_reader
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from confu.data.manifest.cells import is_list
from confu.data.manifest.manifest import AS_NAMED, TableOptions, role_text

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_NO_NUMBER = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")
# Codes, which would lose their digits as numbers: "007", and "12e34" (in numbers, programs write the exponent with a
# sign, or a point before it); and 17 digits and more, where no integer of 64 bits holds them.
_CODE = r"^[+-]?0[0-9]|^[0-9]+[eE][0-9]+$"
_LONG = r"^[+-]?[0-9]{17,}$"
_DECIMAL_COMMA = r"^[+-]?[0-9]*(,[0-9]+)?$"
_DELIMITERS = ",;\t|"
_HEAD = 1000
_ZERO_BYTES = "it holds zero bytes, so that it is UTF-16 without its mark, or no text at all; save the table as UTF-8"
_SEPARATOR_LINE = re.compile(rb"sep=(.)\r?\n")


def read_parquet(file: Any, address: str, options: TableOptions = AS_NAMED) -> pa.Table:
    """Read a Parquet file; Hugging Face's class numbers become their names.

    Raises:
        ValueError: not a Parquet file, or one cut short.
    """
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{address}: not readable as Parquet ({error})") from error
    return named_classes(table, address)


def read_arrow(file: Any, address: str, options: TableOptions = AS_NAMED) -> pa.Table:
    """Read an Arrow file, as a stream (`datasets.save_to_disk`) or with random access (Feather); as `read_parquet`.

    Raises:
        ValueError: not an Arrow file, or one cut short.
    """
    content = pa.py_buffer(file.read())
    try:
        opened = pa.ipc.open_file(content) if content[:6] == b"ARROW1" else pa.ipc.open_stream(content)
        table = opened.read_all()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{address}: not readable as Arrow ({error})") from error
    return named_classes(table, address)


def named_classes(table: pa.Table, address: str) -> pa.Table:
    """A table of plain columns, the class numbers of Hugging Face data sets as the classes' names."""
    features = _hugging_face_features(table.schema)
    for position, (name, kind) in enumerate(zip(table.column_names, table.schema.types)):
        feature = features.get(name)
        inner = feature.get("feature", feature) if isinstance(feature, Mapping) else None  # of each item of a list
        names = inner.get("names") if isinstance(inner, Mapping) else None
        if names and (pa.types.is_integer(kind) or (is_list(kind) and pa.types.is_integer(kind.value_type))):
            named = [_class_name(cell, names) for cell in table[position].to_pylist()]
            text = pa.large_string()
            table = table.set_column(position, name, pa.array(named, pa.large_list(text) if is_list(kind) else text))
    return _plain_table(table, address)


def _class_name(cell: Any, names: Sequence[str]) -> Any:
    """The name of a class number, or those of several; -1 is how Hugging Face data sets hide labels of a test split."""
    if isinstance(cell, list):
        return [_class_name(number, names) for number in cell]
    return names[cell] if cell is not None and 0 <= cell < len(names) else None


def read_csv(file: Any, address: str, options: TableOptions = AS_NAMED) -> pa.Table:
    """Read a CSV file with a header, in UTF-8 or UTF-16 with a byte order mark.

    Cells are separated by commas, or by semicolons, tabs or bars where the header has more of these; a line `sep=;`
    above it, which Excel writes, says it. Columns without a name are left out if they are empty, or if the first one
    counts the rows, as the index of pandas does. A column is of numbers if every filled cell is one and a number keeps
    its digits, else of text; with semicolons also of numbers such as `1,5`. What has a role stays text.

    Raises:
        ValueError: no header, a column without a name, a row with too many or too few cells, or no UTF-8.
    """
    import pyarrow.csv as csv

    content = file.read()
    # Arrow would take the first of two equal names and guess dates; as text nothing is lost.
    try:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            content = content.decode("utf-16").encode()
        content = content.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")
        separator = _SEPARATOR_LINE.match(content)
        content = content[separator.end() :] if separator else content
        lines = io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")
        delimiter = separator[1].decode() if separator else _delimiter(lines.readline())
        lines.seek(0)
        names = next(csv_reader.reader(lines, delimiter=delimiter), [])
        table = csv.read_csv(
            pa.BufferReader(content),
            read_options=csv.ReadOptions(use_threads=False),  # with threads a message would not tell the row
            parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types={name: pa.large_string() for name in names}),
        )
    except (pa.ArrowException, UnicodeDecodeError, csv_reader.Error) as error:
        raise ValueError(f"{address}: not readable as CSV in UTF-8 ({_encoding_error(content) or error})") from error
    if "\0" in "".join(names):
        raise ValueError(f"{address}: {_ZERO_BYTES}")
    for position in reversed([position for position, name in enumerate(names) if not name.strip()]):
        filled = table[position].filter(pc.not_equal(pc.utf8_trim_whitespace(table[position]), ""))
        if len(filled) and (position > 0 or filled.to_pylist() != [str(row) for row in range(len(table))]):
            raise ValueError(f"{address}: column {position} has no name in the header; name every column")
        table = table.remove_column(position)
    table = _plain_table(table, address)
    for position, name in enumerate(table.column_names):
        if name not in options.role_columns:
            column = _numbers_if_all(table[name], options, decimal_comma=delimiter == ";")
            table = table.set_column(position, name, column)
    return table


def _delimiter(header: str) -> str:
    """What stands most often between the names of a header: a comma, a semicolon, a tab or a bar.

    >>> _delimiter('id;"a, b, c";text'), _delimiter("text")
    (';', ',')
    """
    outside = re.sub(r'"[^"]*"', "", header)
    return max(_DELIMITERS, key=outside.count)


def _encoding_error(content: bytes) -> str:
    """Where a file is no UTF-8, and what to do; "" if it is."""
    if b"\0" in content[:_HEAD]:
        return _ZERO_BYTES
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        return (
            f"line {line} has the byte 0x{byte:02x}, {bytes([byte]).decode('cp1252', 'replace')!r} in Western Windows; "
            "save the table as UTF-8, e.g. `iconv -f cp1252 -t utf-8 old.csv > new.csv`"
        )
    return ""


def read_json_lines(file: Any, address: str, options: TableOptions = AS_NAMED) -> pa.Table:
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
    return table_of(rows, address, options)


def read_json(file: Any, address: str, options: TableOptions = AS_NAMED) -> pa.Table:
    """Read a JSON file of a list of objects, one a row; or of lines, as `read_json_lines`.

    Raises:
        ValueError: neither; a column that holds differing types, by row.
    """
    content = file.read()
    try:
        rows = json.loads(content)
    except ValueError:
        return read_json_lines(io.BytesIO(content), address, options)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{address}: expected a list of objects, [{{...}}, ...], or one object a line")
    return table_of(rows, address, options)


def table_of(rows: Sequence[Mapping[str, Any]], address: str, options: TableOptions = AS_NAMED) -> pa.Table:
    """A table of records; a key that a record lacks is a missing cell, and what has a role is text.

    Raises:
        ValueError: a column that holds differing types.

    >>> table_of([{"id": 1, "text": "a"}, {"text": None}], "x.jsonl").to_pylist()
    [{'id': '1', 'text': 'a'}, {'id': None, 'text': None}]
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    roles = options.role_columns
    columns = {name: _column([row.get(name) for row in rows], name, address, name in roles) for name in names}
    return _plain_table(pa.table(columns), address)


def _column(values: Sequence[Any], name: str, address: str, is_role: bool) -> pa.Array | pa.ChunkedArray:
    if is_role and not any(isinstance(value, list | dict) for value in values):
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


def _numbers_if_all(column: pa.ChunkedArray, options: TableOptions, decimal_comma: bool) -> pa.ChunkedArray:
    numbers, _ = without_texts(pc.utf8_trim_whitespace(column), (*_NO_NUMBER, *options.missing))
    if numbers.null_count == len(numbers) or pc.any(pc.match_substring_regex(numbers, _CODE)).as_py():
        return column
    if decimal_comma and pc.all(pc.match_substring_regex(numbers, _DECIMAL_COMMA)).as_py():
        numbers = pc.replace_substring(numbers, ",", ".")
    for kind in (pa.int64(), pa.float64()):
        try:
            converted = numbers.cast(kind)
        except pa.ArrowInvalid:
            continue  # not all are numbers of this kind: the next, or text
        loses = kind == pa.float64() and pc.any(pc.match_substring_regex(numbers, _LONG)).as_py()
        return column if loses else converted
    return column


def without_texts(column: pa.ChunkedArray, texts: Sequence[str]) -> tuple[pa.ChunkedArray, dict[str, int]]:
    """A column of texts, null where it holds one of these, spaces around it or not, and how often each stood there."""
    kind = column.type
    mask = pc.is_in(pc.utf8_trim_whitespace(column), pa.array(texts, kind))
    counts = {row["values"]: row["counts"] for row in pc.value_counts(column.filter(mask)).to_pylist()}
    return pc.if_else(mask, pa.scalar(None, kind), column), counts


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
    if pa.types.is_list_view(column.type) or pa.types.is_large_list_view(column.type):  # Arrow's cast of these is wrong
        column = pa.chunked_array([pa.array(chunk.to_pylist(), kind) for chunk in column.chunks], kind)
    try:
        return column if kind == column.type else column.cast(kind)
    except pa.ArrowInvalid:  # a decimal without a fraction whose digits no integer holds: a name
        return column.cast(pa.large_string())


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Dictionaries as their values, decimals as numbers; 64-bit offsets, as a column of pictures soon holds 2 GiB."""
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_null(kind) or pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.large_binary()
    if pa.types.is_decimal(kind):
        return pa.float64() if kind.scale > 0 else pa.int64()
    if pa.types.is_float16(kind):
        return pa.float32()
    if is_list(kind) or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return pa.large_list(_plain_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain_type(field.type)) for field in kind])
    return kind
