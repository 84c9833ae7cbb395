"""What is wrong with a manifest: with its labels and splits, and with each cell when it is opened as training will."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import Any

from confu.checks import check_known
from confu.data.manifest.address import FileResolver
from confu.data.manifest.cells import cells, filled, source_of
from confu.data.manifest.manifest import SPLITS, Manifest, split_name
from confu.data.media import KINDS
from confu.data.parallel import in_threads, tracked
from confu.data.readers.reader import Reader, read_checked

WHOLE_COLUMN = -1
"""The row of a problem that no single row is to blame for, such as a column that is all empty."""

_ROWS = 32  # a task of a thread: long enough to cost nothing, short enough for a bar that moves
_MOST_WORKERS = 16
_SHOWN = 60


@dataclass(frozen=True)
class Problem:
    """What is wrong with a cell, or with a column.

    Attributes:
        row: counted from 0; `WHOLE_COLUMN` if setting rows aside would not help.
        id: of the row; "" for a whole column.
        column: of the manifest.
        source: the file's address, or the start of what the cell holds.
        what: what is wrong, and what to do.

    >>> print(Problem(17, "cat-3", "photo", "photos/3.png", "no such file"))
    row 17 (id cat-3), column 'photo': no such file [photos/3.png]
    """

    row: int
    id: str
    column: str
    source: str
    what: str

    def __str__(self) -> str:
        row = "" if self.row < 0 else f"row {self.row} (id {self.id}), "
        source = "" if not self.source or self.source in self.what else f" [{self.source}]"
        return f"{row}column {self.column!r}: {self.what}{source}"


def described(source: Any, whole: bool = False) -> str:
    """The address of a file, or what a cell holds, for a message; a long text is cut unless it is wanted `whole`.

    >>> described(b"12345"), described([1.0, 2.0]), described("a" * 70)[-8:]
    ('5 bytes', 'a list of 2', 'aaaaa...')
    """
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    if hasattr(source, "shape"):
        return f"an array of shape {tuple(source.shape)}"
    if isinstance(source, list):
        return f"a list of {len(source)}"
    text = str(source)
    whole = whole and not text.startswith("data:")
    return text if whole or len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def check_labels(manifest: Manifest, splits: Sequence[str | None] | None) -> list[Problem]:
    """List what is wrong with ids, labels, splits and groups, and which columns are empty.

    Of two rows that contradict each other the later one is listed, and names the earlier, so that the rows that are
    listed can be set aside. Found are: an id that stands twice or is missing; a split that is unknown or missing; a
    group in two splits; a class seen in test but not in train; a column that is empty, or empty in train
    (`WHOLE_COLUMN`: setting rows aside does not help).

    Args:
        manifest: to check.
        splits: (n,) of each row, e.g. `manifest.splits` or from `split_rows`; None if there are none yet.

    Returns:
        problems of whole columns first, then in the order of the rows.

    Raises:
        ValueError: not one split a row.
    """
    if splits is not None and len(splits) != len(manifest):
        raise ValueError(f"splits: expected {len(manifest)}, one a row; got {len(splits)}")
    known = None if splits is None else [None if split is None else split_name(split) for split in splits]
    problems = list(_empty_columns(manifest, known))
    cells_ = [*_id_problems(manifest), *(_split_problems(manifest, known) if known is not None else ())]
    for row, column, source, what in sorted(cells_, key=lambda problem: problem[0]):
        problems.append(Problem(row, manifest.ids[row], column, source or "", what))
    return problems


def _empty_columns(manifest: Manifest, splits: Sequence[str | None] | None) -> Iterator[Problem]:
    for name in manifest.columns:
        mask = filled(manifest.column(name))
        if not mask.any():
            what = "is empty in every row; remove it from the modalities, or fill it"
        elif splits is not None and "train" in splits and not mask[[split == "train" for split in splits]].any():
            what = "is empty in every row of train: it cannot be learned; move rows that have it into train"
        else:
            continue
        yield Problem(WHOLE_COLUMN, "", name, "", what)


CellProblem = tuple[int, str, str | None, str]  # row, column, source, what


def _id_problems(manifest: Manifest) -> Iterator[CellProblem]:
    if (column := manifest.role_column("id")) is None:
        return
    first: dict[str, int] = {}
    for row, (name, has_id) in enumerate(zip(manifest.ids, filled(manifest.table[column]))):
        if not has_id:
            yield row, column, None, "has no id; give every row one, or remove the column"
        elif first.setdefault(name, row) != row:
            yield row, column, name, f"the id {name!r} is that of row {first[name]} already; give every row its own"


def _split_problems(manifest: Manifest, splits: Sequence[str | None]) -> Iterator[CellProblem]:
    column = manifest.role_column("split") or "split"
    for row, split in enumerate(splits):
        if split is None:
            yield row, column, None, f"has no split; expected one of {', '.join(SPLITS)}"
        elif split not in SPLITS:
            # Every name is nearest to one of the three; without a cutoff it would be said of nonsense as well.
            near = get_close_matches(split.lower(), SPLITS, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            yield row, column, split, f"the split {split!r} is not known{hint} Known: {', '.join(SPLITS)}"
    first: dict[str, int] = {}
    for row, (group, split) in enumerate(zip(manifest.groups or [], splits)):
        if group is None or split not in SPLITS:
            continue
        start = first.setdefault(group, row)
        if splits[start] != split:
            what = (
                f"the group {group!r} is in {splits[start]} (row {start}) and here in {split}: what is learned "
                "there would be reported as new; give its rows one split"
            )
            yield row, str(manifest.role_column("group")), group, what
    labels = manifest.label_sets or []
    trained = {label for row, split in zip(labels, splits) if split == "train" for label in row}
    for row, (own, split) in enumerate(zip(labels, splits)):
        for label in own if split == "test" else ():
            if label not in trained:
                what = f"the class {label!r} is in test, but in no row of train; move some of its rows there"
                yield row, str(manifest.role_column("label")), label, what


def check_manifest(
    manifest: Manifest, readers: Mapping[str, tuple[str, Reader]], workers: int | None = None, progress: bool = True
) -> list[Problem]:
    """Open every cell as training will, in parallel, and list what is broken; a bad row never raises.

    Found are: what the reader refuses (a missing file, a corrupt image, truncated audio...), a path that leaves the
    folder, an empty text, NaN or infinity, an array of another size than most. Missing cells are no problem.

    Args:
        manifest: to check.
        readers: modality -> (column, reader).
        workers: threads; by default one a processor, at most 16. 0 reads in this one.
        progress: show a bar on the terminal.

    Returns:
        in the order of the rows, within a row in that of `readers`.

    Raises:
        ValueError: a column that there is none of, or a reader of an unknown kind.
        ImportError: a package that the reader needs is not installed.
    """
    for modality, (column, reader) in readers.items():
        manifest.column(column)
        check_known(f"modality {modality!r}: kind", reader.modality_kind, KINDS)
    resolve = FileResolver(manifest.base, manifest.allow_outside)
    workers = min(_MOST_WORKERS, os.cpu_count() or 1) if workers is None else workers

    def check_rows(start: int) -> list[Any]:
        """(row, modality, source, what is wrong with it or its size) of every cell of some rows."""
        return [
            (row, modality, *_check_cell(cell, reader, resolve))
            for modality, (column, reader) in readers.items()
            for row, cell in enumerate(cells(manifest.column(column).slice(start, _ROWS)), start)
            if cell is not None
        ]

    starts = range(0, len(manifest), _ROWS)
    checked = tracked(in_threads(check_rows, starts, workers), "checking rows", starts, progress)
    broken: list[tuple[int, str, str, str]] = []
    sizes: dict[str, dict[tuple[int, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, modality, source, result in chain.from_iterable(checked):
        if isinstance(result, str):
            broken.append((row, modality, source, result))
        elif result is not None:
            sizes[modality][result].append(row)
    for modality, rows_of in sizes.items():
        # Of equally frequent sizes the one that came first is the usual one.
        usual, *others = sorted(rows_of, key=lambda size: -len(rows_of[size]))
        for size in others:
            got, expected = (" x ".join(map(str, shape)) or "of a single number" for shape in (size, usual))
            what = f"has the size {got}, where most have {expected}; all must have one size"
            for row in rows_of[size]:
                (cell,) = cells(manifest.column(readers[modality][0]).slice(row, 1))
                broken.append((row, modality, described(cell, whole=True), what))
    order = list(readers)
    broken.sort(key=lambda problem: (problem[0], order.index(problem[1])))
    return [
        Problem(row, manifest.ids[row], readers[modality][0], source, what) for row, modality, source, what in broken
    ]


def _check_cell(
    cell: Any, reader: Reader, resolve: FileResolver
) -> tuple[str, str] | tuple[str, tuple[int, ...] | None]:
    """The source of a broken cell and what is wrong with it; of a sound one "" and the size that all should have."""
    source: Any = cell
    try:
        source = source_of(cell, reader.modality_kind, resolve)
        value = read_checked(reader, source)
        if isinstance(value, str):
            return "", None
        if reader.modality_kind == "sequence":
            return "", tuple(value.shape[1:])
        return "", tuple(value.shape) if reader.stackable else None
    except ImportError:
        raise  # not the row is to blame, but a package that is not installed
    except ValueError as error:
        what = str(error)
    except Exception as error:  # whatever a decoder raises on broken bytes concerns this row alone
        what = f"cannot be read ({type(error).__name__}: {error})"
    return described(source, whole=reader.modality_kind != "text"), what
