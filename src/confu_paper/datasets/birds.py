"""What the bird data sets have in common: rows with a class and the files of each modality."""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class BirdRows:
    """The rows of a data set as its files list them; nothing is decoded yet.

    Attributes:
        ids: one a row.
        labels: (n,) int64, index into `class_names`, contiguous from 0 whatever numbers the files use.
        class_names: the common names, as prompts say them.
        splits: one a row, "train", "validation" or "test"; "" where the files do not say.
        sources: by modality ("video", "image", "audio", "text") one a row: a path, or for text the text itself; None
            where a row lacks the modality. A video's path under "audio" means the video's own sound.
        problems: what is wrong with the files, one line each, naming file and row; rows of which nothing is left are
            not among the rows.
    """

    ids: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...]
    splits: list[str]
    sources: dict[str, list[str | None]]
    problems: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: Sequence[int]) -> "BirdRows":
        """These rows, in this order; classes and problems stay.

        >>> photos = {"image": ["a.jpg", "b.jpg"]}
        >>> rows = BirdRows(["a", "b"], np.array([0, 1]), ("Mallard", "Brant"), ["", ""], photos)
        >>> rows.select([1]).sources
        {'image': ['b.jpg']}
        """
        return BirdRows(
            [self.ids[row] for row in rows],
            self.labels[np.array(rows, dtype=np.int64)],
            self.class_names,
            [self.splits[row] for row in rows],
            {name: [values[row] for row in rows] for name, values in self.sources.items()},
            self.problems,
        )


class RowList:
    """Rows as they are read, one after another.

    Args:
        modalities: that rows may have.
    """

    def __init__(self, *modalities: str) -> None:
        self.ids: list[str] = []
        self.labels: list[int] = []
        self.splits: list[str] = []
        self.sources: dict[str, list[str | None]] = {name: [] for name in modalities}
        self.problems: list[str] = []
        self.files = Listing()

    def has(self, file: Path, where: str, name: str) -> bool:
        """Whether there is a file; one that is gone is a problem, and its row is left out."""
        if file not in self.files:
            self.problems.append(f"{where}: no file {name}; the row is left out")
        return file in self.files

    def add(self, row: str, label: int, split: str, **sources: str | Path | None) -> None:
        """Add a row, unless it has nothing."""
        if any(source is not None for source in sources.values()):
            self.ids.append(row)
            self.labels.append(label)
            self.splits.append(split)
            for name, values in self.sources.items():
                values.append(None if sources.get(name) is None else str(sources[name]))

    def finish(self, class_names: Sequence[str], where: Path) -> BirdRows:
        """The rows, with a problem for each class that lacks a modality altogether.

        Raises:
            ValueError: no row.
        """
        if not self.ids:
            first = f" ({self.problems[0]})" if self.problems else ""
            raise ValueError(f"{where}: not one of the listed files is there{first}; unpack the download again")
        labels = np.array(self.labels, dtype=np.int64)
        for name, values in self.sources.items():
            known = set(labels[[source is not None for source in values]].tolist())
            self.problems += [f"{where.name}: {one}: no {name}" for i, one in enumerate(class_names) if i not in known]
        return BirdRows(self.ids, labels, tuple(class_names), self.splits, self.sources, self.problems)


class Listing:
    """Which files there are. Each folder is listed once: to ask for 300,000 files one by one takes minutes on a share.

    >>> Path("/no/such/file") in Listing()
    False
    """

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def __contains__(self, path: str | Path) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._names:
            try:
                with os.scandir(folder or ".") as entries:
                    self._names[folder] = {entry.name for entry in entries if entry.is_file()}
            except (FileNotFoundError, NotADirectoryError):
                self._names[folder] = set()
        return name in self._names[folder]


def read_csv(file: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a csv file with a header, each with where it stands, e.g. "taxa.csv, line 2".

    Cells are stripped; one that is not there is "".

    Raises:
        ValueError: no such file, no text in UTF-8, or a header without these columns.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file; unpack the whole download, or give the folder that holds it")
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines)
        try:
            if lacking := [name for name in columns if name not in (rows.fieldnames or [])]:
                raise ValueError(
                    f"{file}: expected the columns {', '.join(columns)}; {', '.join(lacking)} is not in the header "
                    f"({', '.join(rows.fieldnames or []) or 'empty'})"
                )
            for row in rows:
                yield f"{file.name}, line {rows.line_num}", {name: (row[name] or "").strip() for name in columns}
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{file}: not readable as csv in UTF-8 ({error}); fetch it again") from error


def read_pairs(file: Path, pattern: str, expected: str) -> Iterator[tuple[str, str, str]]:
    """Where each line of a list stands, and the two groups that a pattern finds in it; empty lines are passed over.

    Raises:
        ValueError: no such file, or a line that the pattern does not fit.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file; unpack the whole download, lists and media beside each other")
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            if (match := re.fullmatch(pattern, line.strip())) is None:
                raise ValueError(f"{file}: line {number}: expected {expected}; got {line!r}")
            yield f"{file.name}, line {number}", match[1], match[2]


def unpacked(folder: Path, files: Sequence[str]) -> Path:
    """Where most of these files lie, in a folder or up to two levels deeper: archives often hold a folder of their own.

    Where none does it is the folder itself.
    """
    places = [folder]
    for _ in range(3):
        best = max(places, key=lambda place: sum((place / name).exists() for name in files))
        if any((best / name).exists() for name in files):
            return best
        places = [path for place in places if place.is_dir() for path in sorted(place.iterdir()) if path.is_dir()]
        if not places:
            break
    return folder


def root_of(folder: Path | str, marker: str, title: str) -> Path:
    """The folder that holds a file or folder of this name (see `unpacked`); `title` is that of the data set.

    Raises:
        ValueError: nowhere.
    """
    folder = Path(folder)
    root = unpacked(folder, [marker])
    if (root / marker).exists():
        return root
    what = f"no {marker} in it" if folder.is_dir() else "no such folder"
    raise ValueError(
        f"{folder}: {what}; give the folder of {title}, unpacked (`confu data list` says where it is from)"
    )
