"""The data sets of the paper: what each is, where it comes from, and whether its files are there and whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class DataSetInfo:
    """What is known of a data set. An empty text means that it is not published.

    Attributes:
        name: as commands call it.
        title: as it is printed.
        what: is in it.
        get: where it comes from, and how.
        licence: what its publisher says.
        size: of the download.
        files: what must be there, relative to the data set's folder: files and folders.
        checksums: of downloads, where published: file name -> (algorithm, hexadecimal digits).
    """

    name: str
    title: str
    what: str
    get: str
    licence: str = ""
    size: str = ""
    files: tuple[str, ...] = ()
    checksums: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What was found of a data set.

    Attributes:
        state: "missing" (nothing is there), "incomplete" (some files are not there), "damaged" (a checksum differs, or
            a file cannot be read) or "found".
        what: one line for each finding.
    """

    state: Literal["found", "missing", "incomplete", "damaged"]
    what: list[str] = field(default_factory=list)


def data_sets() -> list[DataSetInfo]:
    """Every data set that the library knows."""
    raise NotImplementedError


def found(info: DataSetInfo, folder: Path | str, checksums: bool = True) -> Found:
    """Look for a data set's files.

    Args:
        info: of `data_sets()`.
        folder: of this data set.
        checksums: compute those that are published, for the downloads that lie in the folder; minutes for a large one.
    """
    raise NotImplementedError
