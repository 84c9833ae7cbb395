"""What each column of a manifest seems to be, guessed from its type and a few of its cells."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from confu.data.manifest.address import FileResolver, is_local
from confu.data.manifest.cells import cells, file_of, filled, is_list, is_stored_file, is_text
from confu.data.manifest.manifest import Manifest
from confu.data.media import (
    ARRAY,
    FILE_KINDS,
    HEAD,
    format_of,
    format_of_name,
    inline_content,
    kind_of_bytes,
    kind_of_name,
    suffix_of,
)
from confu.data.readers.source import array_of, opened

_PEEKED = 200  # cells of a column that are looked at, spread over all rows
_OPENED = 16  # files of a column that are opened
_MOST = 0.9  # a share of the cells that decides: a few broken rows do not change what a column is
_MOST_LENGTHS = 0.75  # of lists: fewer files are opened than cells looked at, so one that is broken weighs more
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.\-]*://\S+")
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
        files: the most that a cell holds, 1 unless its cells are lists of files.
    """

    column: str
    kind: str
    why: str
    dim: int | None
    filled: int
    files: int = 1


def guess_columns(manifest: Manifest, columns: Sequence[str] | None = None) -> dict[str, ColumnGuess]:
    """What each column seems to be, without those that fit no kind (see `guess_column`).

    Strings are files of the kind that their first bytes tell, where some can be opened; else of the kind of their
    suffix. `data:` URIs and base64 are what they hold, and other strings are text, but for addresses without a suffix,
    which fit no kind. `.npy` and `.npz` files are opened to tell vectors from sequences. Lists of one length are
    vectors, nested lists sequences. A column that is all empty is said to be text, with `filled` 0.

    Args:
        manifest: the table.
        columns: to look at; by default all that have no role.

    Example:
        >>> clips = Manifest("/data/clips.csv", "/data", pa.table({"photo": ["1.png", ""], "say": ["a cat", "a dog"]}))
        >>> for guess in guess_columns(clips).values():
        ...     print(guess.column, guess.kind, guess.filled, guess.why, sep=" | ")
        photo | image | 1 | its cells end in .png
        say | text | 2 | its cells are texts, such as 'a cat'
    """
    names = manifest.columns if columns is None else columns
    return {name: guess for name in names if isinstance(guess := guess_column(manifest, name), ColumnGuess)}


Guess = tuple[str, int | None, str]  # kind, dim, why


def guess_column(manifest: Manifest, name: str) -> ColumnGuess | str:
    """What a column seems to be, or why it fits no kind."""
    column = manifest.column(name)
    rows = np.flatnonzero(filled(column))
    if not len(rows):
        return ColumnGuess(name, "text", "every cell is empty", None, 0)
    spread = rows[np.unique(np.linspace(0, len(rows) - 1, _PEEKED).round().astype(int))]
    peeked = cells(column.take(pa.array(spread)))
    resolve = FileResolver(manifest.base, manifest.allow_outside)
    kind, files = column.type, 1
    if is_text(kind):
        guess = _of_strings([cell.strip() for cell in peeked], resolve)
    elif _may_be_file(kind):
        guess = _of_files(peeked, resolve)
    elif is_list(kind) and _may_be_file(kind.value_type):
        guess = _of_several(peeked, resolve)
        files = max(map(len, peeked))
    elif is_list(kind):
        guess = _of_lists(peeked)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        guess = "number", 1, f"its cells are numbers, such as {peeked[0]}"
    else:
        guess = f"its cells are of the type {kind}, which is read as no kind"
    return guess if isinstance(guess, str) else ColumnGuess(name, guess[0], guess[2], guess[1], len(rows), files)


def _may_be_file(kind: pa.DataType) -> bool:
    binary = pa.types.is_large_binary(kind) or pa.types.is_binary(kind)
    return is_text(kind) or binary or is_stored_file(kind)


def _of_strings(peeked: list[str], resolve: FileResolver) -> Guess | str:
    inline = [_inline_kind(cell) for cell in peeked]
    kind, share = _most_frequent(inline)
    if kind is not None and share >= _MOST and kind != "text":
        contents = [cell for cell, one in zip(peeked, inline) if one == kind]
        why = f"its cells hold {kind} files, in base64 or as data: URIs"
        return _of_array_files(contents, resolve, why) if kind == ARRAY else (kind, None, why)
    held = _kinds_of_files(peeked, resolve)
    kinds = [held.get(suffix_of(cell)) or kind_of_name(cell) for cell in peeked]
    kind, share = _most_frequent(kinds)
    if kind is None or share < _MOST:
        why = f"its cells are texts, such as {peeked[0][:30]!r}"
        if kind is not None:
            why += f", though {share:.0%} of {len(peeked)} looked at end like {kind} files"
        elif sum(_ADDRESS.fullmatch(cell) is not None for cell in peeked) >= _MOST * len(peeked):
            return (
                f"its cells are addresses, such as {peeked[0][:60]!r}, and no suffix tells what they hold; if they are "
                "files to read, add the column to the run file with its kind"
            )
        elif suffix_of(peeked[0]) in _DOCUMENTS and " " not in peeked[0]:
            why += "; if that is a file, its name and not its content would be read: put the text itself in the cells"
        return "text", None, why
    fitting = [cell for cell, one in zip(peeked, kinds) if one == kind]
    suffixes = ", ".join(sorted({suffix_of(cell) or "no suffix" for cell in fitting}))
    why = f"its cells end in {suffixes}" if share == 1 else f"{share:.0%} of {len(peeked)} looked at end in {suffixes}"
    if any(kind_of_name(cell) != kind for cell in fitting):
        why += f", and these files begin as {kind} files do"
    for known in {format_of_name(cell): None for cell in fitting}:
        why += f"; {known.suffix} is not read: {known.help}" if known is not None and known.help else ""
    return _of_array_files(fitting, resolve, why) if kind == ARRAY else (kind, None, why)


def _inline_kind(cell: str) -> str | None:
    try:
        content = inline_content(cell)
    except ValueError:  # `check_manifest` lists what cannot be decoded
        return None
    return None if content is None else kind_of_bytes(content)


def _kinds_of_files(peeked: list[str], resolve: FileResolver) -> dict[str, str]:
    """Suffix -> the kind that most files with it begin as, of a few that lie on this machine."""
    kinds: defaultdict[str, list[str | None]] = defaultdict(list)
    for cell in _some(peeked) if is_local(resolve.base) else ():
        try:
            with opened(Path(resolve(cell))) as file:
                known = format_of(file.read(HEAD))
        except ValueError:  # no file, or none that may be followed
            known = None
        # A container of films may hold a sound alone, and the other way round: there the suffix tells.
        sure = known is not None and known.kind in FILE_KINDS and {known.kind, kind_of_name(cell)} != {"audio", "video"}
        kinds[suffix_of(cell)].append(known.kind if known is not None and sure else None)
    frequent = {suffix: _most_frequent(several) for suffix, several in kinds.items()}
    return {suffix: kind for suffix, (kind, share) in frequent.items() if kind is not None and share > 0.5}


def _some(peeked: list[Any]) -> list[Any]:
    return peeked[:: max(1, len(peeked) // _OPENED)][:_OPENED]


def _of_files(peeked: list[bytes | str], resolve: FileResolver) -> Guess | str:
    kinds = [kind_of_name(cell) if isinstance(cell, str) else kind_of_bytes(cell) for cell in peeked]
    kind, share = _most_frequent(kinds)
    if kind is None or share < _MOST:
        return "its cells are bytes of no kind that is known by its first bytes"
    why = f"its cells hold {'text' if kind == 'text' else f'{kind} files'}"
    return _of_array_files(peeked, resolve, why) if kind == ARRAY else (kind, None, why)


def _of_array_files(peeked: list[Any], resolve: FileResolver, why: str) -> Guess | str:
    chosen = _some(peeked)
    shapes = []
    for cell in chosen:
        try:
            shapes.append(array_of(resolve(cell) if isinstance(cell, str) else cell).shape)
        except ValueError:
            continue  # `check_manifest` lists what cannot be opened
    if not shapes:
        return "vector", None, f"{why}; none of {len(chosen)} could be opened"
    return _of_shapes(shapes, f"{why}, which hold")


def _of_several(peeked: list[Any], resolve: FileResolver) -> Guess | str:
    """What lists of files are, or why lists of texts are not read, and what to do."""
    files = [file for cell in peeked for file in map(file_of, cell) if file is not None]
    texts = [file.strip() for file in files if isinstance(file, str)]
    guess = _of_strings(texts, resolve) if len(texts) == len(files) > 0 else _of_files(files, resolve)
    most = max(map(len, peeked))
    if not isinstance(guess, str) and guess[0] in FILE_KINDS:
        return guess[0], None, f"its cells are lists of up to {most} files; of these {guess[2]}"
    if not texts:
        return f"its cells are lists of up to {most} files of no kind that is known"
    return (
        f"its cells are lists of up to {most} texts; a cell holds one text. Write a row for each, with a column "
        "'group' that says which belong together, or the first text of each list into a column of its own; if they "
        "are the classes of a row, name the column with --label"
    )


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
