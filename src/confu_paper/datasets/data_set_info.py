"""What is known of a data set before its files are there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confu_paper.datasets.birds import BirdRows


@dataclass(frozen=True)
class DataSetInfo:
    """What is known of a data set. An empty text means that nothing was found to be published.

    Attributes:
        name: as commands call it; also its folder's name under `data/`, unless `folder` says another.
        title: as it is printed.
        what: is in it.
        get: where it comes from, and how.
        licence: what its publisher says.
        size: of the download.
        files: what must be there, relative to the data set's folder or to one of the folders in it: files and folders.
        layout: the files as they are published, and what they hold, in words.
        checksums: of downloads, where published: file name -> (algorithm, hexadecimal digits).
        downloads: files as they are downloaded, which are not needed any more when `files` are there.
        unpack: what turns downloads into `files`.
        folder: under `data/`; "" is the name.
        rows: lists the rows of the folder, whose files are then looked for too.
    """

    name: str
    title: str
    what: str
    get: str
    licence: str = ""
    size: str = ""
    files: tuple[str, ...] = ()
    layout: tuple[str, ...] = ()
    checksums: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    downloads: tuple[str, ...] = ()
    unpack: str = ""
    folder: str = ""
    rows: tuple[Callable[[Path], BirdRows], ...] = ()
