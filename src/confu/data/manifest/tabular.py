"""Tables as files: Parquet, CSV, and JSON lines, as Arrow tables whose columns have few types."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright cannot see them.

import csv as csv_reader
import io
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as parquet

from confu.data.manifest.address import BinaryFile
from confu.data.manifest.columnar import plain_table, table_of
from confu.data.manifest.kinds import ROLES

_NO_NUMBER = pa.array(["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"], pa.large_string())
_CODE = r"^[+-]?0[0-9]"  # "007" is a name: as a number it would lose its zeros


def read_parquet(file: BinaryFile, address: str) -> pa.Table:
    """Read a Parquet file; Hugging Face's class numbers become their names.

    Raises:
        ValueError: not a Parquet file, or one cut short.
    """
    try:
        table = parquet.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{address}: not readable as Parquet ({error})") from error
    return plain_table(_named_labels(table), address)


def read_csv(file: BinaryFile, address: str) -> pa.Table:
    """Read a CSV file with a header; a column is of numbers if every filled cell is one, else of text.

    Raises:
        ValueError: no header, a column without a name, a row with too many or too few cells, or no UTF-8.
    """
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
    table = plain_table(table, address)
    for position, name in enumerate(table.column_names):
        if name not in ROLES:
            table = table.set_column(position, name, _numbers_if_all(table[name]))
    return table


def read_json_lines(file: BinaryFile, address: str) -> pa.Table:
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


def _named_labels(table: pa.Table) -> pa.Table:
    features = _features(table.schema)
    for position, name in enumerate(table.column_names):
        names = features.get(name, {}).get("names") if isinstance(features.get(name), Mapping) else None
        if names and pa.types.is_integer(table.schema.types[position]):
            # -1 is how Hugging Face data sets hide the labels of a test split.
            named = [names[n] if n is not None and 0 <= n < len(names) else None for n in table[position].to_pylist()]
            table = table.set_column(position, name, pa.array(named, pa.large_string()))
    return table


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """What the `datasets` library wrote about the columns."""
    stored = (schema.metadata or {}).get(b"huggingface")
    if stored is None:
        return {}
    try:
        features = json.loads(stored)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}  # another program's: the columns are read by their types as in any other file
    return features if isinstance(features, Mapping) else {}
