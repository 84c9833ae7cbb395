"""Broken rows: found before training starts, shown, listed in full, and set aside if the run file says so."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from confu.data.manifest import Manifest, Problem, check_labels, check_manifest
from confu.data.readers import Reader
from confu.files import written_whole
from confu.runs.preparing.rows import RowTable
from confu.runs.run_files.run_file import RunFile

PROBLEMS = "problems.csv"
_SHOWN = 20


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a manifest.

    Attributes:
        broken: cells of rows that cannot be used.
        columns: of whole columns; setting rows aside does not help.
        notes: what does not keep a row from being used: a class that is seen in test only.
    """

    broken: tuple[Problem, ...] = ()
    columns: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()

    @property
    def all(self) -> tuple[Problem, ...]:
        """Everything, the worst first."""
        return (*self.columns, *self.broken, *self.notes)

    @property
    def rows(self) -> int:
        """How many rows cannot be used."""
        return len({problem.row for problem in self.broken})

    def to_rich(self, limit: int = _SHOWN) -> Table:
        """The first of them as a table."""
        count = len(self.all)
        title = f"{count} problem{'s' * (count != 1)}" + (f", the first {limit}" if count > limit else "")
        table = Table(
            "row", "id", "column", "what is wrong", title=title, title_justify="left", box=None, pad_edge=False
        )
        for one in self.all[:limit]:
            cells = ("all" if one.row < 0 else str(one.row), one.id, one.column, _what(one))
            table.add_row(*map(Text, cells))  # brackets in a file's name are no markup
        return table

    def save(self, folder: Path) -> Path:
        """Write all of them as `problems.csv`."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["row", "id", "column", "what", "source", "set_aside"])
        for problems, aside in ((self.columns, "no"), (self.broken, "yes"), (self.notes, "no")):
            writer.writerows([one.row, one.id, one.column, one.what, one.source, aside] for one in problems)
        with written_whole(folder / PROBLEMS) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")
        return folder / PROBLEMS


def find_trouble(
    run: RunFile,
    manifest: Manifest,
    rows: RowTable,
    readers: Mapping[str, Reader] | None = None,
    progress: bool = True,
) -> Trouble:
    """Everything that is wrong with the columns that a run reads; with readers, every file is opened."""
    used = {modality.column for modality in run.modalities.values()}
    # Unknown names of splits are told of as they stand there, not as rows without a part.
    given = manifest.splits or [None] * len(manifest)
    parts = [part or given[row] for row, part in enumerate(rows.parts)]
    found = check_labels(manifest, parts)
    columns = tuple(one for one in found if one.row < 0 and one.column in used)
    notes = tuple(one for one in found if one.row >= 0 and one.column == "label")
    broken = [one for one in found if one.row >= 0 and one.column != "label"]
    if readers is not None and not columns:
        pairs = {name: (run.modalities[name].column, reader) for name, reader in readers.items()}
        broken += check_manifest(manifest, pairs, run.data.workers or None, progress)
    return Trouble(tuple(sorted(broken, key=lambda one: one.row)), columns, notes)


def settle(trouble: Trouble, run: RunFile, rows: RowTable, folder: Path, console: Console) -> RowTable:
    """Show what is wrong, write the list, and set broken rows aside, if the run file says so.

    Args:
        trouble: of the manifest.
        run: `data.on_error` decides.
        rows: all of them.
        folder: where `problems.csv` is written.
        console: to show it on.

    Returns:
        the rows without the broken ones.

    Raises:
        ValueError: for a broken column, or for broken rows with `on_error: stop`.
    """
    if not trouble.all:
        (folder / PROBLEMS).unlink(missing_ok=True)  # of an earlier start: they were repaired
        return rows
    console.print(trouble.to_rich())
    listed = trouble.save(folder)
    if trouble.columns:
        raise ValueError(f"{_listing(trouble.columns)}\nTake the modality out of the run file, or fill its column.")
    if trouble.broken and run.data.on_error == "stop":
        outside = any("allow_outside" in problem.what for problem in trouble.broken)
        raise ValueError(
            f"{trouble.rows} of {len(rows.ids)} rows cannot be used; all of them are listed in {listed}:\n"
            f"{_listing(trouble.broken)}\n"
            "Repair them, or set data.on_error to skip, which sets them aside and counts them."
            + (" To follow paths that leave the folder, set data.allow_outside to true." if outside else "")
        )
    if trouble.broken:
        console.print(f"{trouble.rows} of {len(rows.ids)} rows are set aside; all of them are listed in {listed}")
    return rows.without(trouble.broken)


def _listing(problems: Sequence[Problem], limit: int = 5) -> str:
    lines = [f"  {one}" for one in problems[:limit]]
    return "\n".join([*lines, *([f"  and {len(problems) - limit} more"] if len(problems) > limit else [])])


def _what(problem: Problem) -> str:
    source = "" if not problem.source or problem.source in problem.what else f" ({problem.source})"
    return f"{problem.what}{source}"
