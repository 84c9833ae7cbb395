"""What each column of a manifest seems to be, guessed from its type and a few of its cells."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from confu.data.manifest.address import FileResolver
from confu.data.manifest.array_files import shape_of_file
from confu.data.manifest.cells import cells, filled, is_list, is_stored_file
from confu.data.manifest.kinds import ARRAY, kind_of_bytes, kind_of_name, suffix_of
from confu.data.manifest.manifest import Manifest

_PEEKED = 200  # cells of a column that are looked at, spread over all rows
_OPENED = 16  # files of a column that are opened
_MOST = 0.9  # a share of the cells that decides: a few broken rows do not change what a column is
_MOST_LENGTHS = 0.75  # of lists: fewer files are opened than cells looked at, so one that is broken weighs more
_DOCUMENTS = (".txt", ".md", ".json", ".html", ".xml", ".pdf")


@dataclass(frozen=True)
class ColumnGuess:
    """What a column seems to be.

    Attributes:
        column: its name.
        kind: one of `KINDS`.
        why: a sentence.
        dim: of a vector, or the features of each step of a sequence; None if unknown or for other kinds.
        filled: how many cells are not missing.
    """

    column: str
    kind: str
    why: str
    dim: int | None
    filled: int


def guess_columns(manifest: Manifest) -> dict[str, ColumnGuess]:
    """What each column seems to be; those that fit no kind are in `unread_columns` instead.

    Strings with a file's suffix are files of its kind, other strings text; `.npy` and `.npz` files are opened to tell
    vectors from sequences. Lists of one length are vectors, nested lists sequences. A column that is all empty is
    said to be text, with `filled` 0.

    Example:
        >>> clips = Manifest("/data/clips.csv", "/data", pa.table({"photo": ["1.png", ""], "say": ["a cat", "a dog"]}))
        >>> for guess in guess_columns(clips).values():
        ...     print(guess.column, guess.kind, guess.filled, guess.why, sep=" | ")
        photo | image | 1 | its cells end in .png
        say | text | 2 | its cells are texts, such as 'a cat'
    """
    return {name: guess for name in manifest.columns if isinstance(guess := _guess(manifest, name), ColumnGuess)}


def unread_columns(manifest: Manifest) -> dict[str, str]:
    """The columns that fit no kind, and why."""
    return {name: why for name in manifest.columns if isinstance(why := _guess(manifest, name), str)}


def _guess(manifest: Manifest, name: str) -> ColumnGuess | str:
    column = manifest.column(name)
    rows = np.flatnonzero(filled(column))
    if not len(rows):
        return ColumnGuess(name, "text", "every cell is empty", None, 0)
    spread = rows[np.unique(np.linspace(0, len(rows) - 1, _PEEKED).round().astype(int))]
    found = _kind(
        cells(column.take(pa.array(spread))), column.type, FileResolver(manifest.base, manifest.allow_outside)
    )
    if isinstance(found, str):
        return found
    kind, dim, why = found
    return ColumnGuess(name, kind, why, dim, len(rows))


Found = tuple[str, int | None, str]


def _kind(peeked: list[Any], type_: pa.DataType, resolve: FileResolver) -> Found | str:
    if pa.types.is_large_string(type_) or pa.types.is_string(type_):
        return _strings(peeked, resolve)
    if pa.types.is_large_binary(type_) or pa.types.is_binary(type_) or is_stored_file(type_):
        return _files(peeked, resolve)
    if is_list(type_):
        return _lists(peeked)
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_boolean(type_):
        return "number", 1, f"its cells are numbers, such as {peeked[0]}"
    return f"its cells are of the type {type_}, which is read as no kind"


def _strings(peeked: list[str], resolve: FileResolver) -> Found | str:
    kind, share = _most([kind_of_name(cell) for cell in peeked])
    if kind is None or share < _MOST:
        why = f"its cells are texts, such as {peeked[0][:30]!r}"
        if kind is not None:
            why += f", though {share:.0%} of {len(peeked)} looked at end like {kind} files"
        elif suffix_of(peeked[0]) in _DOCUMENTS and " " not in peeked[0]:
            why += "; if that is a file, its name and not its content would be read: put the text itself in the cells"
        return "text", None, why
    suffixes = sorted({suffix_of(cell) for cell in peeked if kind_of_name(cell) == kind})
    why = f"its cells end in {', '.join(suffixes)}"
    if share < 1:
        why = f"{share:.0%} of {len(peeked)} looked at end in {', '.join(suffixes)}"
    if kind != ARRAY:
        return kind, None, why
    return _arrays([cell for cell in peeked if kind_of_name(cell) == ARRAY], resolve, why)


def _files(peeked: list[bytes | str], resolve: FileResolver) -> Found | str:
    kind, share = _most([kind_of_name(cell) if isinstance(cell, str) else kind_of_bytes(cell) for cell in peeked])
    if kind is None or share < _MOST:
        return "its cells are bytes of no kind that is known by its first bytes"
    why = f"its cells hold {'text' if kind == 'text' else f'{kind} files'}"
    return _arrays(peeked, resolve, why) if kind == ARRAY else (kind, None, why)


def _arrays(peeked: list[Any], resolve: FileResolver, why: str) -> Found | str:
    opened = peeked[:: max(1, len(peeked) // _OPENED)][:_OPENED]
    shapes = []
    for cell in opened:
        try:
            shapes.append(shape_of_file(resolve(cell) if isinstance(cell, str) else cell))
        except ValueError:
            continue  # `check_manifest` lists what cannot be opened
    if not shapes:
        return "vector", None, f"{why}; none of {len(opened)} could be opened"
    return _shapes(shapes, f"{why}, which hold")


def _lists(peeked: list[Any]) -> Found | str:
    arrays = [cell for cell in peeked if isinstance(cell, np.ndarray)]
    if not arrays:
        return "its cells are lists of something else than numbers, or of lists of differing lengths"
    return _shapes([array.shape for array in arrays], "its cells are")


def _shapes(shapes: list[tuple[int, ...]], why: str) -> Found | str:
    ndim = Counter(map(len, shapes)).most_common(1)[0][0]
    fitting = [shape for shape in shapes if len(shape) == ndim]
    lengths = [shape[0] for shape in fitting if shape]
    between = (
        f"{min(lengths)} to {max(lengths)}" if lengths and min(lengths) < max(lengths) else f"{max(lengths or [1])}"
    )
    if ndim == 0:
        return f"{why} single numbers, which are read from a column of numbers"
    if ndim == 2:
        features = Counter(shape[1] for shape in fitting).most_common(1)[0][0]
        return "sequence", features, f"{why} sequences of {between} steps with {features} numbers each"
    if ndim > 2:
        return f"{why} arrays such as {fitting[0]}, which are read as no kind; store (numbers) or (steps, numbers)"
    length, share = _most(lengths)
    if share < _MOST_LENGTHS:
        return "sequence", 1, f"{why} lists of differing lengths, {between}: steps with one number each"
    return "vector", length, f"{why} lists of {length} numbers" + ("" if share == 1 else f" (in {share:.0%})")


def _most(found: list[Any]) -> tuple[Any, float]:
    """The value that stands most often, and its share; None only if no other stands there."""
    counts = Counter(one for one in found if one is not None)
    if not counts:
        return None, 1.0
    value, count = counts.most_common(1)[0]
    return value, count / len(found)
