"""The cells of an Arrow column: which are filled, what they hold in Python, and what a reader gets of them."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright cannot see them.

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from confu.data.media import FILE_KINDS, inline_content
from confu.data.readers.source import Source


def joined_name(columns: Sequence[str]) -> str:
    """The name under which columns are read as one of records: `a+b`, of one alone `a+`.

    Raises:
        ValueError: no names, one twice, or one with a "+".

    >>> joined_name(["age", "sex"]), joined_name(["sex"])
    ('age+sex', 'sex+')
    """
    if not isinstance(columns, list | tuple) or not columns or not all(isinstance(one, str) and one for one in columns):
        raise ValueError(f"columns: expected a list of names, e.g. [age, sex]; got {columns!r}")
    if odd := [one for one in columns if "+" in one or columns.count(one) > 1]:
        raise ValueError(
            f"columns: expected different names without '+'; got {odd[0]!r}; rename the column, or take it out"
        )
    return "+".join(columns) + "+" * (len(columns) == 1)


def is_stored_file(kind: pa.DataType) -> bool:
    """Whether cells are files as Hugging Face data sets write them: a struct of `bytes` and `path`, either empty."""
    return pa.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}


def is_list(kind: pa.DataType) -> bool:
    """Whether cells are lists, of any of Arrow's sorts."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether cells are texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def filled(column: pa.ChunkedArray) -> np.ndarray:
    """(n,) bool: the cells that hold something; null, "", NaN, an empty list and empty bytes are missing.

    >>> filled(pa.chunked_array([["a", "", None]])).tolist()
    [True, False, False]
    """
    kind = column.type
    valid = pc.is_valid(column)
    if is_stored_file(kind):
        content, path = (filled(pc.struct_field(column, name)) for name in ("bytes", "path"))
        return valid.to_numpy() & (content | path)
    if pa.types.is_struct(kind):
        masks = [filled(pc.struct_field(column, name)) for name in kind.names]
        return valid.to_numpy() & np.logical_or.reduce(masks)
    if is_text(kind) or kind in (pa.binary(), pa.large_binary()) or pa.types.is_fixed_size_binary(kind):
        valid = pc.and_(valid, pc.greater(pc.fill_null(pc.binary_length(column), 0), 0))
    elif pa.types.is_floating(kind):
        valid = pc.and_(valid, pc.invert(pc.fill_null(pc.is_nan(column), True)))
    elif is_list(kind):
        valid = pc.and_(valid, pc.greater(pc.fill_null(pc.list_value_length(column), 0), 0))
    return valid.to_numpy()


def cells(column: pa.ChunkedArray) -> list[Any]:
    """Every cell in Python, None where it is missing; lists of numbers as arrays, stored files as bytes or path.

    >>> cells(pa.chunked_array([[[1.0, 2.0], []]]))
    [array([1., 2.]), None]
    """
    mask = filled(column)
    if is_list(column.type):
        values = [_array(cell) if use else None for cell, use in zip(column, mask)]
    elif is_stored_file(column.type):
        parts = [cells(pc.struct_field(column, name)) for name in ("bytes", "path")]
        values = [path if content is None else content for content, path in zip(*parts)]
    elif pa.types.is_struct(column.type):
        fields = [cells(pc.struct_field(column, name)) for name in column.type.names]
        values = [dict(zip(column.type.names, row)) for row in zip(*fields)]
    else:
        values = column.to_pylist()
    return [cell if use else None for cell, use in zip(values, mask)]


def source_of(cell: Any, kind: str, resolve: Callable[[str], str]) -> Source | None:
    """What a reader of this kind gets of a cell that `cells` gave; `resolve` makes a path a full address, or raises.

    Raises:
        ValueError: a path that leaves the folder; bytes that are no text; a text where a number is expected.

    >>> source_of("photos/1.png", "image", lambda path: f"/data/{path}"), source_of("1.5", "number", str)
    ('/data/photos/1.png', 1.5)
    """
    if cell is None:
        return None
    if kind == "text":
        return _text(cell)
    if kind == "number":
        return _number(cell)
    if kind == "table":
        if isinstance(cell, dict):
            return cell
        raise ValueError("expected a record of several columns; name them in the run file as columns: [...]")
    if isinstance(cell, list) and kind in FILE_KINDS:
        files = [source_of(file_of(one), kind, resolve) for one in cell]
        if files := [file for file in files if file is not None]:
            return files
        raise ValueError("a list of nothing; leave the cell empty if there is no file")
    if isinstance(cell, str):
        content = inline_content(cell)
        return resolve(cell.strip()) if content is None else content
    if kind == "sequence" and isinstance(cell, np.ndarray) and cell.ndim == 1:
        return cell[:, None]
    return cell


def file_of(cell: Any) -> Any:
    """A file in a list: its bytes or path, of a struct of both what it holds; None if it is missing.

    >>> file_of({"bytes": None, "path": "a.png"}), file_of("b.png"), file_of("")
    ('a.png', 'b.png', None)
    """
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    return cell or None


def _array(cell: Any) -> np.ndarray | list | None:
    """A list of numbers, nested or not, as an array; a ragged one, or one of something else, as a list."""
    values = cell.values
    if values is None or not len(values):
        return None
    shape = [len(values)]
    while is_list(values.type):
        sizes = pc.unique(pc.list_value_length(values))
        if len(sizes) != 1 or not sizes[0].is_valid:
            return cell.as_py()
        shape.append(sizes[0].as_py())
        values = values.flatten()
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type)):
        return cell.as_py()
    if values.null_count:
        values = values.cast(pa.float64())  # null becomes NaN, which a check can find
    return np.array(values.to_numpy(zero_copy_only=False)).reshape(shape)  # a copy: Arrow's memory is read-only


def _text(cell: Any) -> str:
    if isinstance(cell, np.ndarray | list | dict):
        raise ValueError("expected a text; got a list or a record")
    if not isinstance(cell, bytes):
        return str(cell)
    try:
        return cell.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"no text in UTF-8 ({error})") from error


def _number(cell: Any) -> float:
    try:
        number = float(_text(cell) if isinstance(cell, str | bytes) else cell)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected a number; got {str(cell)[:40]!r}") from error
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number; got {number}")
    return number
