"""What the columns of a manifest hold: sources for readers, and the readers that fit them. No torch."""

import hashlib
import re
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from confu.data.manifest import PANDAS_MISSING, ROLES, Manifest, Problem, TableOptions, read_manifest
from confu.data.manifest.address import FileResolver
from confu.data.manifest.cells import cells, filled, source_of
from confu.data.manifest.checking import described
from confu.data.media import FILE_KINDS
from confu.data.readers.source import opened
from confu.runs.run_file import is_taken

SCALED: dict[str, dict[str, Any]] = {
    **{kind: {"scale": "standard", "clip": 5} for kind in ("vector", "sequence", "audio")},
    **{kind: {"scale": "standard"} for kind in ("image", "video")},
}
"""By kind, how the inputs of an encoder that learns from scratch are standardised: by the training rows."""

_MOST_OPENED = 24  # files of a column that are opened to propose a reader
_MOST_SECONDS = 10.0  # of a sound, for a reader
_WORD = re.compile(r"[^\W\d_]+")
_CELLS = 10_000  # that are Python objects at a time


def table_options(data: Mapping[str, Any]) -> TableOptions:
    """How the cells of a table are understood, from the section `data` of a run file.

    >>> table_options({"missing": ["-"], "group": None})
    TableOptions(roles=None, missing=('-',), separator=None)
    """
    missing = data.get("missing") or ()
    missing = PANDAS_MISSING if missing == "pandas" else tuple(missing)
    return TableOptions(data.get("roles"), missing, data.get("label_separator"))


def read_like(settings: Mapping[str, Any], address: str | Path, allow_outside: bool) -> Manifest:
    """Read a table as the section `data` of a run file says; a role whose column it lacks is the column of its name."""
    options = table_options(settings)
    table = read_manifest(address, allow_outside, options)
    names = table.table.column_names
    roles = {role: column if column in names else role for role, column in (options.roles or {}).items() if column}
    if options.roles is None or roles.items() <= options.roles.items():
        return table
    return read_manifest(address, allow_outside, replace(options, roles={**options.roles, **roles}))


def first_equal_rows(manifest: Manifest, columns: Sequence[str]) -> np.ndarray:
    """(n,) the first row whose cells in these columns are equal to those of each row; files are equal by their names.

    A row that is empty in all of them equals none but itself.

    >>> table = pa.table({"a": ["x", "y", "x", ""], "b": [1, 1, 1, None]})
    >>> first_equal_rows(Manifest("/a.csv", "/", table), ["a", "b"]).tolist()
    [0, 1, 0, 3]
    """
    codes = np.full((len(manifest), len(columns)), -1)
    for position, name in enumerate(columns):
        column = manifest.column(name)
        mask = np.array(filled(column))
        if pa.types.is_nested(column.type) or pa.types.is_large_binary(column.type):
            number: dict[bytes, int] = {}
            values = [number.setdefault(_cell_digest(cell), len(number)) for cell in _each_cell(column)]
        else:
            values = column.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
        codes[:, position] = np.where(mask, values, -1)
    empty = (codes == -1).all(axis=1)
    codes = np.column_stack([codes, np.where(empty, np.arange(len(codes)), -1)])
    _, first, inverse = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)]


def copies_note(manifest: Manifest, columns: Sequence[str], parts: Sequence[str | None]) -> str | None:
    """What to say of rows that are equal to earlier ones, and of those that lie in another part than these."""
    first = first_equal_rows(manifest, columns)
    copies = np.flatnonzero(first != np.arange(len(first)))
    if not len(copies):
        return None
    apart = sum(parts[row] != parts[int(first[row])] for row in copies.tolist())
    leak = f", and {apart:,} of these lie in another part of the split, so that what is measured there was seen before"
    return (
        f"{len(copies):,} of {len(first):,} rows are equal to an earlier one in every modality{leak if apart else ''}. "
        "data.dedupe: true (confu init --dedupe) keeps the first of each"
    )


def read_sources(manifest: Manifest, column: str, kind: str, rows: Sequence[int]) -> tuple[list[Any], list[Problem]]:
    """What a reader of a kind gets of some rows, and the cells that cannot be sources.

    A path that leaves the folder of the manifest is a problem of its row, as a file that cannot be read is.

    Returns:
        one source a row, None where the cell is missing or has a problem; and the problems.
    """
    values = manifest.column(column)
    if isinstance(rows, range) and rows.step == 1:
        values = values.slice(rows.start, len(rows))
    else:
        values = values.take(pa.array(rows, pa.int64()))
    resolve = FileResolver(manifest.base, manifest.allow_outside)
    sources: list[Any] = []
    problems = []
    for row, cell in zip(rows, cells(values)):
        try:
            sources.append(source_of(cell, kind, resolve))
        except ValueError as error:
            sources.append(None)
            problems.append(cell_problem(manifest, row, column, kind, cell, str(error)))
    return sources, problems


def readable_sources(manifest: Manifest, column: str, kind: str, rows: Sequence[int]) -> list[Any]:
    """The sources of those of the rows that have one."""
    return [source for source in read_sources(manifest, column, kind, rows)[0] if source is not None]


def cell_problem(manifest: Manifest, row: int, column: str, kind: str, source: object, what: str) -> Problem:
    """What is wrong with a cell, as data."""
    return Problem(row, manifest.ids[row], column, described(source, whole=kind != "text"), what)


def manifest_digest(manifest: Manifest, columns: Sequence[str]) -> str:
    """SHA-256 of the cells of some columns, of ids and of labels. Files are not opened."""
    names = [*map(manifest.role_column, ROLES), *columns]
    hasher = hashlib.sha256()
    for name in dict.fromkeys(name for name in names if name is not None):
        column = manifest.column(name)
        hasher.update(f"column {name!r} {len(column)}".encode())
        for cell in _each_cell(column):
            _add_cell(hasher, cell)
    return hasher.hexdigest()


def _each_cell(column: pa.ChunkedArray) -> Iterator[Any]:
    for start in range(0, len(column), _CELLS):
        yield from cells(column.slice(start, _CELLS))


def _cell_digest(cell: Any) -> bytes:
    hasher = hashlib.sha256()
    _add_cell(hasher, cell)
    return hasher.digest()


def _add_cell(hasher: Any, cell: Any) -> None:
    if isinstance(cell, np.ndarray):
        head, content = f"array {cell.dtype} {cell.shape}", np.ascontiguousarray(cell).tobytes()
    elif isinstance(cell, bytes):
        head, content = f"bytes {len(cell)}", cell
    else:
        head, content = repr(cell), b""
    hasher.update(f"{len(head)} {head}".encode())
    hasher.update(content)


def class_names_of(labels: Iterable[str | None]) -> tuple[str, ...]:
    """The classes in sorted order; whole numbers by their value.

    >>> class_names_of(["dog", "cat", "dog"]), class_names_of(["10", "9"])
    (('cat', 'dog'), ('9', '10'))
    """
    names = {label for label in labels if label is not None}
    whole = all(name.removeprefix("-").isdecimal() for name in names)
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if whole else None))


def modality_name(column: str, taken: Sequence[str]) -> str:
    """A name that a modality may have, near that of its column.

    >>> modality_name("cam.left", []), modality_name("type", []), modality_name("a+b", ["a_b"])
    ('cam_left', 'type_input', 'a_b_2')
    """
    name = "".join("_" if mark in "+~." else mark for mark in " ".join(column.split())) or "column"
    if is_taken(name):
        name = f"{name}_input"
    number, free = 2, name
    while free in taken:
        number, free = number + 1, f"{name}_{number}"
    return free


def proposed_reader(kind: str, sources: Sequence[Any]) -> dict[str, Any]:
    """The settings of a reader that fits these sources; of pictures and sounds only some headers are read."""
    if kind in FILE_KINDS:
        sources = [file for source in sources for file in (source if isinstance(source, list) else [source])]
    if kind == "image":
        return image_reader(list(_image_headers(spread(sources, _MOST_OPENED))))
    if kind == "audio":
        return mel_reader(list(_sound_headers(spread(sources, _MOST_OPENED))))
    if kind == "video":
        return {"kind": "video", "frames": 8, "size": 64, "channels": 3, "mean": 0.5, "std": 0.5}
    if kind == "text":
        from confu.data.readers import words_reader_from_texts

        return words_reader_from_texts(map(str, sources)).settings
    if kind == "table":
        from confu.data.readers import table_settings

        return {"kind": "table", **table_settings(sources)}
    if kind == "number":
        numbers = [float(source) for source in sources]
        return {"kind": "number", "mean": statistics.fmean(numbers), "std": statistics.pstdev(numbers) or 1.0}
    return {"kind": kind, "dim": _common_width(sources)}


def some_numbers(numbers: Sequence[int], most: int = 8) -> str:
    """The first of some numbers, for a message.

    >>> some_numbers(range(20), most=3)
    '0, 1, 2, ...'
    """
    return ", ".join(map(str, numbers[:most])) + ", ..." * (len(numbers) > most)


def has_inner_capitals(texts: Sequence[str]) -> bool:
    """Whether capitals carry meaning: one word in twenty has one behind its start, as formulas and codes do.

    >>> has_inner_capitals(["A photo of a Bird"]), has_inner_capitals(["CC(=O)Oc1ccccc1"])
    (False, True)
    """
    found = [word for text in spread(texts, _CELLS) for word in text[:_CELLS].split()]
    return 20 * sum(any(mark.isupper() for mark in word[1:]) for word in found) > len(found)


def count_words(texts: Sequence[str], vocabulary: Collection[str] = ()) -> tuple[int, float]:
    """How many different words texts hold, and which share of all their words is in a vocabulary of lowercase words.

    >>> count_words(["A red bird", "a bird, 2 m off"], {"a", "bird"})
    (5, 0.5714285714285714)
    """
    words = [word for text in spread(texts, _CELLS) for word in _WORD.findall(text[:_CELLS].lower())]
    return len(set(words)), sum(word in vocabulary for word in words) / max(1, len(words))


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """Up to so many items, evenly over the whole.

    >>> spread(list(range(100)), 4)
    [0, 33, 66, 99]
    """
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def constant_features(sources: Sequence[Any]) -> list[int]:
    """The features of vectors, or of the steps of sequences, that have one value in all of these sources.

    >>> constant_features([np.array([1.0, 5.0]), np.array([2.0, 5.0])])
    [1]
    """
    from confu.data.readers.source import array_of

    width, arrays = _common_width(sources), []
    for source in sources:
        try:
            array = array_of(source)
        except ValueError:  # the check lists it
            continue
        if array.shape[-1:] == (width,):
            arrays.append(array.reshape(-1, width))
    rows = np.concatenate(arrays)
    return np.flatnonzero(rows.min(0) == rows.max(0)).tolist()


def image_reader(headers: Sequence[tuple[int, int, bool]]) -> dict[str, Any]:
    """Settings that fit most of the pictures: their size up to 32 pixels, grey if all are grey.

    A network that learns from scratch from some thousand pictures finds no more in larger ones, at four times the cost.

    >>> image_reader([(28, 28, False), (28, 28, False)])
    {'kind': 'image', 'size': 28, 'channels': 1, 'mean': 0.5, 'std': 0.5}

    Args:
        headers: width, height and whether in colour.
    """
    sides = sorted(min(width, height) for width, height, _ in headers) or [32]
    size = max(8, min(32, sides[len(sides) // 2]))
    in_colour = any(colour for *_, colour in headers) or not headers
    return {"kind": "image", "size": size, "channels": 3 if in_colour else 1, "mean": 0.5, "std": 0.5}


def mel_reader(headers: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Settings that fit most of the sounds: their rate up to 22,050 Hz, nearly the longest length up to 10 seconds.

    >>> mel_reader([(8000, 0.4), (8000, 0.62)])
    {'kind': 'mel', 'rate': 8000, 'seconds': 0.7, 'mels': 64, 'window': 512, 'hop': 128}

    Args:
        headers: rate in Hz and length in seconds.
    """
    if not headers:
        return {"kind": "mel", "rate": 22050, "seconds": 10.0, "mels": 64, "window": 1024, "hop": 512}
    rate = min(22050, Counter(rate for rate, _ in headers).most_common(1)[0][0])
    lengths = sorted(seconds for _, seconds in headers)
    longest = lengths[round(0.95 * (len(lengths) - 1))]
    seconds = min(10.0, max(0.2, (int(longest * 10) + 1) / 10 if longest < 2 else float(int(longest) + 1)))
    window = 1024 if rate >= 16000 else 512
    # Short sounds need finer frames: at least about 32 of them.
    hop = next((hop for hop in (window // 2, window // 4) if seconds * rate / hop >= 32), window // 4)
    return {"kind": "mel", "rate": rate, "seconds": seconds, "mels": 64, "window": window, "hop": hop}


def _common_width(sources: Sequence[Any]) -> int:
    """How many numbers most vectors have, or most steps of sequences."""
    from confu.data.readers.source import array_of

    widths: Counter[int] = Counter()
    for source in spread(sources, 200):
        try:
            shape = array_of(source).shape
        except ValueError:
            continue
        widths[shape[-1] if shape else 1] += 1
    if not widths:
        raise ValueError("none of its cells can be read as numbers; `confu check` says why")
    return widths.most_common(1)[0][0]


def _image_headers(sources: Sequence[Any]) -> Iterator[tuple[int, int, bool]]:
    from PIL import Image

    for source in sources:
        try:
            with _opened(source) as file, Image.open(file) as image:
                yield *image.size, image.mode not in ("1", "L", "LA", "I", "I;16", "F")
        except Exception:  # each library has its own errors; the check lists broken files
            continue


def _sound_headers(sources: Sequence[Any]) -> Iterator[tuple[int, float]]:
    from confu.data.readers.sound import sound_header

    for source in sources:
        try:
            with _opened(source) as file:
                rate, _, samples = sound_header(file, "", _MOST_SECONDS)
        except Exception:  # each library has its own errors; the check lists broken files
            continue
        if rate > 0 and samples > 0:
            yield rate, samples / rate


def _opened(source: Any) -> Any:
    if isinstance(source, str) and "://" in source:  # its start alone, where `opened` would fetch the whole file
        import fsspec

        return fsspec.open(source, "rb")
    return opened(source)
