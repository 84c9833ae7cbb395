"""Whether a data set's files are there, and whether they are whole."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from rich.console import Console
from rich.progress import Progress

from confu_paper.datasets.birds import BirdRows
from confu_paper.datasets.data_set_info import DataSetInfo

SHOWN = 5  # of the files that are gone
SAMPLE = 50  # media files of each kind whose beginnings are looked at, spread over all
_GONE = ": no file "  # what `RowList.problems` say of a listed file that is not there
# The first bytes of a file with this ending, from which offset; other endings are only asked not to be empty.
_BEGINNINGS: dict[str, tuple[int, tuple[bytes, ...]]] = {
    ".gz": (0, (b"\x1f\x8b",)),
    ".tgz": (0, (b"\x1f\x8b",)),
    ".pkl": (0, (b"\x80",)),
    ".jpg": (0, (b"\xff\xd8",)),
    ".jpeg": (0, (b"\xff\xd8",)),
    ".wav": (0, (b"RIFF", b"RF64")),
    ".mp4": (4, (b"ftyp",)),
}


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


def found(info: DataSetInfo, folder: Path | str, checksums: bool = True, progress: bool = False) -> Found:
    """Look for a data set's files: that all are there, and that their beginnings are what they should be.

    Of photos, sounds and videos every one is looked for, and the beginnings of fifty of each kind are read; what
    cannot be decoded is named when a data set is made of them.

    Args:
        info: of `data_sets()`.
        folder: of this data set.
        checksums: compute those that are published, for the downloads that lie in the folder; minutes for a large one.
        progress: whether to draw a bar for that.
    """
    folder = Path(folder)
    if not info.files and not info.rows:
        return Found("found", ["needs no files"])
    downloads = [name for name in info.downloads if (folder / name).is_file()]
    root = _unpacked(folder, info.files)
    there = [name for name in info.files if (root / name).exists()]
    if not downloads and not there and (info.files or not folder.is_dir() or not any(folder.iterdir())):
        return Found("missing", [f"nothing of it in {folder}"])
    damaged: list[str] = []
    notes = [f"in {root.relative_to(folder)}/"] if root != folder else []
    for name in downloads:
        wrong = _beginning(folder / name)
        if wrong is None and name in info.checksums and checksums:
            wrong = _differs(folder / name, *info.checksums[name], progress)
            notes += [f"{name}: its {info.checksums[name][0]} is the published one"] if wrong is None else []
        elif wrong is None and name in info.checksums:
            notes.append(f"{name}: checksum not computed")
        damaged += [] if wrong is None else [wrong]
    gone = [f"no {name}" for name in info.files if name not in there]
    if len(gone) == len(info.files) and downloads:
        gone = [f"{', '.join(downloads)}: not unpacked yet: {info.unpack}"]
    damaged += [wrong for name in there if (wrong := _beginning(root / name)) is not None]
    if not gone and not damaged:
        for read in info.rows:
            _look_at_rows(read, root, gone, damaged, notes)
    state = "damaged" if damaged else "incomplete" if gone else "found"
    return Found(state, [*damaged, *gone, *notes])


def _unpacked(folder: Path, files: tuple[str, ...]) -> Path:
    """Where the files lie: archives often hold a folder of their own."""
    places = [folder]
    for _ in range(2):
        places += [path for place in places if place.is_dir() for path in sorted(place.iterdir()) if path.is_dir()]
        best = max(dict.fromkeys(places), key=lambda place: sum((place / name).exists() for name in files))
        if any((best / name).exists() for name in files):
            return best
    return folder


def _look_at_rows(
    read: Callable[[Path], BirdRows], folder: Path, gone: list[str], damaged: list[str], notes: list[str]
) -> None:
    """Look for the files that the rows name."""
    try:
        rows = read(folder)
    except ValueError as error:
        (gone if "not one of the listed files" in str(error) or "expected one csv" in str(error) else damaged).append(
            str(error)
        )
        return
    absent = [problem for problem in rows.problems if _GONE in problem]
    gone += absent[:SHOWN] + ([f"and {len(absent) - SHOWN} more files"] if len(absent) > SHOWN else [])
    others = [problem for problem in rows.problems if _GONE not in problem]
    notes += others[:SHOWN] + ([f"and {len(others) - SHOWN} more"] if len(others) > SHOWN else [])
    counts = []
    for kind, sources in rows.sources.items():
        if kind == "text":
            continue
        files = sorted({source for source in sources if source is not None})
        counts.append(f"{len(files):,} {kind} files")
        for file in files[:: max(1, -(-len(files) // SAMPLE))]:
            wrong = _beginning(Path(file))
            damaged += [] if wrong is None or wrong in damaged else [wrong]
    notes.append(f"{len(rows):,} rows of {len(rows.class_names)} classes: {', '.join(counts)}")


def _beginning(path: Path) -> str | None:
    """What is wrong with the beginning of a file, or with a folder; None if nothing is."""
    if path.is_dir():
        return None if any(path.iterdir()) else f"{path.name}: an empty folder"
    if not path.stat().st_size:
        return f"{path.name}: an empty file; fetch it again"
    try:
        if path.suffix == ".npy":
            np.load(path, mmap_mode="r", allow_pickle=False)
        elif path.suffix == ".parquet":
            parquet.read_metadata(path)
        elif path.suffix in (".csv", ".txt"):
            with path.open(encoding="utf-8-sig") as file:
                file.readline(2**16)
        else:
            offset, known = _BEGINNINGS.get(path.suffix.lower(), (0, ()))
            with path.open("rb") as file:
                start = file.read(offset + 8)[offset:]
            if known and not start.startswith(known):
                return f"{path.name}: does not begin as a {path.suffix} file does; fetch it again"
    except (ValueError, OSError, EOFError, pa.ArrowException) as error:
        return f"{path.name}: cannot be read ({error}); fetch it again"
    return None


def _differs(path: Path, algorithm: str, published: str, progress: bool) -> str | None:
    digest = hashlib.new(algorithm)
    console = Console(stderr=True)
    with (
        Progress(console=console, transient=True, disable=not progress or not console.is_terminal) as bar,
        bar.open(path, "rb", description=f"{algorithm} of {path.name}") as file,
    ):
        while block := file.read(2**22):
            digest.update(block)
    if digest.hexdigest() == published:
        return None
    return f"{path.name}: its {algorithm} is {digest.hexdigest()}, published is {published}; fetch it again"
