"""The data sets of the paper: what each is, where it comes from, and whether its files are there and whole.

A data set is registered in `data_sets.toml`. Other packages add theirs by an entry point in the group
`confu_paper.datasets`, whose value is a `DataSet`. Nothing here, and nothing at the top of the files that list rows,
imports torch.
"""

import hashlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from confu.checks import check_known
from confu.data.media import HEAD, format_of, format_of_name
from confu_paper.datasets.birds import BirdRows, unpacked

NOT_PUBLISHED = "not published"
MAX_NAMED = 5  # of the files that are gone
SAMPLE = 50  # media files of each kind whose beginnings are looked at, spread over all
# The first bytes of a file with this ending; other endings are only checked not to be empty.
_MAGIC = {".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b", ".pkl": b"\x80"}
_MEDIA = (".jpg", ".jpeg", ".wav", ".mp4")


@dataclass(frozen=True)
class DataSet:
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
        benchmark: makes its benchmark from its name, a `Request`, and "eight" or "single" frames; or where that
            function is, as "module:function". "" where it is no benchmark.
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
    benchmark: str | Callable[..., Any] = ""

    def folder_in(self, data: Path | str) -> Path:
        """Where it lies by default in the folder of all data sets."""
        return Path(data) / (self.folder or self.name)

    def load_benchmark(self) -> Callable[..., Any]:
        """The function that makes its benchmark.

        Raises:
            ValueError: if it has none.
        """
        if not isinstance(self.benchmark, str):
            return self.benchmark
        if not self.benchmark:
            known = ", ".join(name for name, other in data_sets().items() if other.benchmark)
            raise ValueError(f"data set {self.name!r} is no benchmark of its own; those are: {known}")
        module, _, function = self.benchmark.partition(":")
        return getattr(import_module(module), function)


def _rows(read: str, **options: str) -> Callable[[Path], BirdRows]:
    """A function that lists rows, by "module:function" and its options."""
    module, _, function = read.partition(":")

    def rows(folder: Path) -> BirdRows:
        return getattr(import_module(f"confu_paper.datasets.{module}"), function)(folder, **options)

    return rows


@cache
def _built_in() -> dict[str, DataSet]:
    content = tomllib.loads(Path(__file__).with_name("data_sets.toml").read_text(encoding="utf-8"))
    known = {}
    for name, fields in content.items():
        rows = tuple(_rows(**one) for one in fields.pop("rows", ()))
        lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        checksums = {file: (algorithm, digits) for file, (algorithm, digits) in fields.get("checksums", {}).items()}
        known[name] = DataSet(**{"name": name, **fields, **lists, "checksums": checksums, "rows": rows})
    return known


def data_sets() -> dict[str, DataSet]:
    """Every data set by name, those of other packages last.

    >>> list(data_sets())[:3]
    ['xor', 'av-mnist', 'mosi']
    """
    others = [point.load() for point in entry_points(group="confu_paper.datasets")]
    return {other.name: other for other in others} | _built_in()


def data_set(name: str) -> DataSet:
    """A data set by name.

    Raises:
        ValueError: naming the closest one.
    """
    if name in _built_in():
        return _built_in()[name]
    known = data_sets()
    check_known("data set", name, known)
    return known[name]


@dataclass(frozen=True)
class Availability:
    """The state of a data set's files.

    Attributes:
        state: "missing" (nothing is there), "incomplete" (some files are not there), "damaged" (a checksum differs, or
            a file cannot be read) or "found".
        findings: a line each.
    """

    state: Literal["found", "missing", "incomplete", "damaged"]
    findings: list[str] = field(default_factory=list)


def check_files(info: DataSet, folder: Path | str, checksums: bool = True, progress: bool = False) -> Availability:
    """Look for a data set's files: that all are there, and that their beginnings are what they should be.

    Of photos, sounds and videos every one is looked for, and the beginnings of fifty of each kind are read; what
    cannot be decoded is named when a data set is made of them.

    Args:
        info: the data set.
        folder: of this data set.
        checksums: compute those that are published, for the downloads that lie in the folder; minutes for a large one.
    """
    folder = Path(folder)
    if not info.files and not info.rows:
        return Availability("found", ["needs no files"])
    downloads = [name for name in info.downloads if (folder / name).is_file()]
    root = unpacked(folder, info.files)
    present = [name for name in info.files if (root / name).exists()]
    if not downloads and not present and (info.files or not folder.is_dir() or not any(folder.iterdir())):
        return Availability("missing", [f"nothing of it in {folder}"])
    notes = [f"in {root.relative_to(folder)}/"] if root != folder else []
    damaged: list[str] = []
    for name in downloads:
        problem = _problem_of(folder / name)
        if problem is None and name in info.checksums and checksums:
            algorithm = info.checksums[name][0]
            problem = _wrong_checksum(folder / name, *info.checksums[name], progress)
            notes += [f"{name}: its {algorithm} is the published one"] if problem is None else []
        elif problem is None and name in info.checksums:
            notes.append(f"{name}: checksum not computed")
        damaged += [] if problem is None else [problem]
    gone = [f"no {name}" for name in info.files if name not in present]
    if len(gone) == len(info.files) and downloads:
        gone = [f"{', '.join(downloads)}: not unpacked yet: {info.unpack}"]
    damaged += [problem for name in present if (problem := _problem_of(root / name)) is not None]
    if not gone and not damaged:
        for read in info.rows:
            _check_rows(read, root, gone, damaged, notes)
    state = "damaged" if damaged else "incomplete" if gone else "found"
    return Availability(state, [*damaged, *gone, *notes])


def _check_rows(
    read: Callable[[Path], BirdRows], folder: Path, gone: list[str], damaged: list[str], notes: list[str]
) -> None:
    """Look for the files that the rows name."""
    try:
        rows = read(folder)
    except ValueError as error:
        missing = "not one of the listed files" in str(error) or "expected one csv" in str(error)
        (gone if missing else damaged).append(str(error))
        return
    absent = [problem for problem in rows.problems if ": no file " in problem]
    others = [problem for problem in rows.problems if ": no file " not in problem]
    gone += _first(absent, "more files")
    notes += _first(others, "more")
    counts = []
    for kind, sources in rows.sources.items():
        if kind == "text":
            continue
        files = sorted({source for source in sources if source is not None})
        counts.append(f"{len(files):,} {kind} files")
        problems = (_problem_of(Path(file)) for file in files[:: max(1, -(-len(files) // SAMPLE))])
        damaged += [one for one in dict.fromkeys(problems) if one is not None and one not in damaged]
    notes.append(f"{len(rows):,} rows of {len(rows.class_names)} classes: {', '.join(counts)}")


def _first(problems: list[str], what: str) -> list[str]:
    more = len(problems) - MAX_NAMED
    return problems[:MAX_NAMED] + ([f"and {more} {what}"] if more > 0 else [])


def _problem_of(path: Path) -> str | None:
    """What is wrong with the beginning of a file, or with a folder; None if nothing is."""
    if path.is_dir():
        return None if any(path.iterdir()) else f"{path.name}: an empty folder"
    if not path.stat().st_size:
        return f"{path.name}: an empty file; fetch it again"
    try:
        if path.suffix == ".npy":
            import numpy as np

            np.load(path, mmap_mode="r", allow_pickle=False)
        elif path.suffix == ".parquet":
            import pyarrow.parquet as parquet

            parquet.read_metadata(path)
        elif path.suffix in (".csv", ".txt"):
            with path.open(encoding="utf-8-sig") as file:
                file.readline(2**16)
        else:
            suffix = path.suffix.lower()
            with path.open("rb") as file:
                start = file.read(HEAD)
            if not start.startswith(_MAGIC.get(suffix, b"")) or (
                suffix in _MEDIA and format_of(start) != format_of_name(path.name)
            ):
                return f"{path.name}: does not begin as a {path.suffix} file does; fetch it again"
    except (ValueError, OSError, EOFError) as error:  # what Arrow raises is one of these too
        return f"{path.name}: cannot be read ({error}); fetch it again"
    return None


def _wrong_checksum(path: Path, algorithm: str, published: str, progress: bool) -> str | None:
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


def data_sets_table(data: Path | str = "data", checksums: bool = False) -> Table:
    """Every data set: what it is, where it comes from, its licence and size, and whether it is there.

    Args:
        data: the folder that holds each data set's folder.
        checksums: compute those that are published; minutes for a large download.
    """
    table = Table("name", show_lines=True)
    for title in ("what it is and where from", "licence and size", "is it there"):
        table.add_column(title, overflow="fold")  # addresses are not cut
    for info in data_sets().values():
        files = check_files(info, info.folder_in(data), checksums, progress=True)
        table.add_row(
            info.name,
            f"{info.what}\nfrom: {info.get}",
            f"{info.licence or f'licence: {NOT_PUBLISHED}'}\nsize: {info.size or NOT_PUBLISHED}",
            Text("\n".join([files.state, *files.findings])),
        )
    return table


def about_data_set(name: str, data: Path | str = "data", checksums: bool = True) -> str:
    """One data set on a page: all that is known of it, and the state of its files; arguments as for `check_files`.

    Raises:
        ValueError: an unknown name.
    """
    info = data_set(name)
    files = check_files(info, info.folder_in(data), checksums, progress=True)
    sums = [f"{file} {algorithm} {digits}" for file, (algorithm, digits) in info.checksums.items()]
    facts = {
        "what": info.what,
        "get": info.get,
        "unpack": info.unpack,
        "licence": info.licence or NOT_PUBLISHED,
        "size": info.size or NOT_PUBLISHED,
        "checksums": ", ".join(sums) or NOT_PUBLISHED,
        "folder": str(info.folder_in(data)) if info.files or info.rows else "",
        "files": ", ".join(info.files),
        "state": files.state,
    }
    lines = [info.title] + [f"  {key:<10} {fact}" for key, fact in facts.items() if fact]
    lines += [f"             {line}" for line in files.findings]
    return "\n".join([*lines, *(f"  {'layout':<10} {line}" for line in info.layout)])
