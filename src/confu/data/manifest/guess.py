"""What each column of a manifest seems to be, guessed from its type and a few of its cells."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from confu.data.manifest.address import FileResolver
from confu.data.manifest.cells import cells, filled, is_list, is_stored_file
from confu.data.manifest.manifest import Manifest
from confu.data.media import ARRAY, kind_of_bytes, kind_of_name, suffix_of
from confu.data.readers.source import array_of

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


Guess = tuple[str, int | None, str]  # kind, dim, why


def _guess(manifest: Manifest, name: str) -> ColumnGuess | str:
    """A guess, or why there is none."""
    column = manifest.column(name)
    rows = np.flatnonzero(filled(column))
    if not len(rows):
        return ColumnGuess(name, "text", "every cell is empty", None, 0)
    spread = rows[np.unique(np.linspace(0, len(rows) - 1, _PEEKED).round().astype(int))]
    peeked = cells(column.take(pa.array(spread)))
    resolve = FileResolver(manifest.base, manifest.allow_outside)
    kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string(kind):
        guess = _of_strings(peeked, resolve)
    elif pa.types.is_large_binary(kind) or pa.types.is_binary(kind) or is_stored_file(kind):
        guess = _of_files(peeked, resolve)
    elif is_list(kind):
        guess = _of_lists(peeked)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        guess = "number", 1, f"its cells are numbers, such as {peeked[0]}"
    else:
        guess = f"its cells are of the type {kind}, which is read as no kind"
    return guess if isinstance(guess, str) else ColumnGuess(name, guess[0], guess[2], guess[1], len(rows))


def _of_strings(peeked: list[str], resolve: FileResolver) -> Guess | str:
    kind, share = _most_frequent([kind_of_name(cell) for cell in peeked])
    if kind is None or share < _MOST:
        why = f"its cells are texts, such as {peeked[0][:30]!r}"
        if kind is not None:
            why += f", though {share:.0%} of {len(peeked)} looked at end like {kind} files"
        elif suffix_of(peeked[0]) in _DOCUMENTS and " " not in peeked[0]:
            why += "; if that is a file, its name and not its content would be read: put the text itself in the cells"
        return "text", None, why
    fitting = [cell for cell in peeked if kind_of_name(cell) == kind]
    suffixes = ", ".join(sorted(set(map(suffix_of, fitting))))
    why = f"its cells end in {suffixes}" if share == 1 else f"{share:.0%} of {len(peeked)} looked at end in {suffixes}"
    return _of_array_files(fitting, resolve, why) if kind == ARRAY else (kind, None, why)


def _of_files(peeked: list[bytes | str], resolve: FileResolver) -> Guess | str:
    kinds = [kind_of_name(cell) if isinstance(cell, str) else kind_of_bytes(cell) for cell in peeked]
    kind, share = _most_frequent(kinds)
    if kind is None or share < _MOST:
        return "its cells are bytes of no kind that is known by its first bytes"
    why = f"its cells hold {'text' if kind == 'text' else f'{kind} files'}"
    return _of_array_files(peeked, resolve, why) if kind == ARRAY else (kind, None, why)


def _of_array_files(peeked: list[Any], resolve: FileResolver, why: str) -> Guess | str:
    chosen = peeked[:: max(1, len(peeked) // _OPENED)][:_OPENED]
    shapes = []
    for cell in chosen:
        try:
            shapes.append(array_of(resolve(cell) if isinstance(cell, str) else cell).shape)
        except ValueError:
            continue  # `check_manifest` lists what cannot be opened
    if not shapes:
        return "vector", None, f"{why}; none of {len(chosen)} could be opened"
    return _of_shapes(shapes, f"{why}, which hold")


def _of_lists(peeked: list[Any]) -> Guess | str:
    shapes = [cell.shape for cell in peeked if isinstance(cell, np.ndarray)]
    if not shapes:
        return "its cells are lists of something else than numbers, or of lists of differing lengths"
    return _of_shapes(shapes, "its cells are")


def _of_shapes(shapes: list[tuple[int, ...]], why: str) -> Guess | str:
    ndim, _ = _most_frequent(list(map(len, shapes)))
    if ndim == 0:
        return f"{why} single numbers, which are read from a column of numbers"
    fitting = [shape for shape in shapes if len(shape) == ndim]
    if ndim > 2:
        return f"{why} arrays such as {fitting[0]}, which are read as no kind; store (numbers) or (steps, numbers)"
    lengths = [shape[0] for shape in fitting]
    between = f"{min(lengths)} to {max(lengths)}" if min(lengths) < max(lengths) else f"{max(lengths)}"
    if ndim == 2:
        features, _ = _most_frequent([shape[1] for shape in fitting])
        return "sequence", features, f"{why} sequences of {between} steps with {features} numbers each"
    length, share = _most_frequent(lengths)
    if share < _MOST_LENGTHS:
        return "sequence", 1, f"{why} lists of differing lengths, {between}: steps with one number each"
    return "vector", length, f"{why} lists of {length} numbers" + ("" if share == 1 else f" (in {share:.0%})")


def _most_frequent(values: list[Any]) -> tuple[Any, float]:
    """The value that stands most often, and its share; None only if no other stands there."""
    counts = Counter(value for value in values if value is not None)
    if not counts:
        return None, 1.0
    value, count = counts.most_common(1)[0]
    return value, count / len(values)
