"""Opening every cell of a manifest before training does, and listing what is broken."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from confu.checks import check_known
from confu.data.manifest.address import FileResolver
from confu.data.manifest.cells import cells, source_of
from confu.data.manifest.kinds import KINDS
from confu.data.manifest.manifest import Manifest
from confu.data.manifest.problem import Problem, described

_ROWS = 32  # a task of the pool: long enough to cost nothing, short enough for a bar that moves
_MOST_WORKERS = 16


@runtime_checkable
class CellReader(Protocol):
    """What the check asks of a reader."""

    @property
    def modality_kind(self) -> str:
        """One of `KINDS`."""
        ...

    @property
    def stackable(self) -> bool:
        """Whether every item has one shape."""
        ...

    def read(self, source: Any, /) -> Tensor | str:
        """One item; raises a ValueError for a broken one."""
        ...

    def collate(self, items: Any, /) -> Tensor | dict[str, Tensor]:
        """What an encoder gets for some items."""
        ...


@dataclass(frozen=True)
class _Item:
    """What came of one cell: what is wrong with it, and the size that all others should have too."""

    row: int
    modality: str
    what: str | None = None
    source: str = ""
    size: tuple[int, ...] | None = None


def check_manifest(
    manifest: Manifest,
    readers: Mapping[str, tuple[str, CellReader]],
    workers: int | None = None,
    progress: bool = True,
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
    tasks = range(0, len(manifest), _ROWS)
    if workers is None:
        workers = min(_MOST_WORKERS, os.cpu_count() or 1)

    def look(start: int) -> list[_Item]:
        return list(_look(manifest, readers, start, resolve))

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("checking rows"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(), TextColumn("{task.fields[broken]} broken"),
        console=console, disable=not (progress and console.is_terminal), transient=True,
    )  # fmt: skip
    broken: list[_Item] = []
    sizes: dict[str, dict[tuple[int, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    with bar:
        shown = bar.add_task("rows", total=len(manifest), broken=0)
        for items in _in_order(look, tasks, workers):
            broken += [item for item in items if item.what is not None]
            for item in items:
                if item.size is not None:
                    sizes[item.modality][item.size].append(item.row)
            bar.update(shown, advance=min(_ROWS, len(manifest) - int(bar.tasks[0].completed)), broken=len(broken))
    for modality, rows_of in sizes.items():
        broken += _odd_sizes(modality, rows_of, manifest.column(readers[modality][0]))
    order = {modality: position for position, modality in enumerate(readers)}
    return [
        Problem(item.row, manifest.ids[item.row], readers[item.modality][0], item.source, str(item.what))
        for item in sorted(broken, key=lambda item: (item.row, order[item.modality]))
    ]


def _in_order(look: Any, tasks: range, workers: int) -> Iterable[list[_Item]]:
    if not workers:
        yield from map(look, tasks)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(look, tasks)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for a million files


def _look(
    manifest: Manifest, readers: Mapping[str, tuple[str, CellReader]], start: int, resolve: FileResolver
) -> Iterator[_Item]:
    for modality, (column, reader) in readers.items():
        for row, cell in enumerate(cells(manifest.column(column).slice(start, _ROWS)), start):
            if cell is None:
                continue
            source: Any = cell
            size = what = None
            try:
                source = source_of(cell, reader.modality_kind, resolve)
                value = reader.read(source)
                what = _wrong(value, reader)
                size = _size(value, reader) if what is None else None
            except ValueError as error:
                what = str(error)
            except ImportError:
                raise  # not the row is to blame, but a package that is not installed
            except Exception as error:  # whatever a decoder raises on broken bytes concerns this row alone
                what = f"cannot be read ({type(error).__name__}: {error})"
            if what is not None or size is not None:
                shown = "" if what is None else described(source, whole=reader.modality_kind != "text")
                yield _Item(row, modality, what, shown, size)


def _wrong(value: Tensor | str, reader: CellReader) -> str | None:
    if isinstance(value, str):
        if not value.strip():
            return "holds an empty text; leave the cell empty if the text is missing"
        reader.collate([value])  # a text may hold nothing that the tokenizer knows
        return None
    if not value.numel():
        return f"holds no number: its shape is {tuple(value.shape)}; leave the cell empty if it is missing"
    if value.is_floating_point() and not bool(value.isfinite().all()):
        return f"holds NaN or infinity ({int((~torch.isfinite(value)).sum())} of {value.numel()}); repair it"
    return None


def _size(value: Tensor | str, reader: CellReader) -> tuple[int, ...] | None:
    if isinstance(value, str) or not value.numel():
        return None
    if reader.modality_kind == "sequence":
        return tuple(value.shape[1:])
    return tuple(value.shape) if reader.stackable else None


def _odd_sizes(modality: str, rows_of: dict[tuple[int, ...], list[int]], column: pa.ChunkedArray) -> Iterator[_Item]:
    """The rows of any size but the most frequent one; of equally frequent ones the first that came counts."""
    usual = max(rows_of, key=lambda size: len(rows_of[size]))
    for size, rows in rows_of.items():
        if size != usual:
            what = f"has the size {_shown(size)}, where most have {_shown(usual)}; all must have one size"
            for row in rows:
                yield _Item(row, modality, what, described(cells(column.slice(row, 1))[0], whole=True))


def _shown(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size)) or "of a single number"
