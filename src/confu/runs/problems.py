"""Broken rows: shown, listed in full, and set aside if the run file says so."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from confu.data.manifest import Manifest, Problem, check_labels
from confu.files import written_whole
from confu.runs.rows import RowTable
from confu.runs.run_file import RunFile

PROBLEMS = "problems.csv"


@dataclass(frozen=True)
class Problems:
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

    def with_broken(self, more: Sequence[Problem]) -> "Problems":
        """The same with further broken cells, in the order of the rows."""
        return replace(self, broken=tuple(sorted([*self.broken, *more], key=lambda problem: problem.row)))

    def to_rich(self, limit: int = 20) -> Table:
        """The first of them as a table."""
        count = len(self.all)
        title = f"{count} problem{'s' * (count != 1)}" + (f", the first {limit}" if count > limit else "")
        columns = ("row", "id", "column", "what is wrong")
        table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
        for problem in self.all[:limit]:
            source = "" if not problem.source or problem.source in problem.what else f" ({problem.source})"
            row = "all" if problem.row < 0 else str(problem.row)
            # As Text: brackets in a file's name are no markup.
            table.add_row(*map(Text, (row, problem.id, problem.column, problem.what + source)))
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


def find_table_problems(run: RunFile, manifest: Manifest, rows: RowTable) -> Problems:
    """What is wrong with ids, splits, groups, labels and the columns that a run reads; no file is opened."""
    used = {modality.column for modality in run.modalities.values()}
    # An unknown split is reported by its name, not as a row without a part.
    named = manifest.splits or [None] * len(manifest)
    found = check_labels(manifest, [part or named[row] for row, part in enumerate(rows.parts)])
    label = manifest.role_column("label")
    return Problems(
        broken=tuple(one for one in found if one.row >= 0 and one.column != label),
        columns=tuple(one for one in found if one.row < 0 and one.column in used),
        notes=tuple(one for one in found if one.row >= 0 and one.column == label),
    )


def set_aside(problems: Problems, run: RunFile, rows: RowTable, folder: Path, console: Console) -> RowTable:
    """Show what is wrong, write the list, and set broken rows aside, if the run file says so.

    Args:
        problems: of the manifest.
        run: `data.on_error` decides.
        rows: all of them.
        folder: where `problems.csv` is written.
        console: to show it on.

    Returns:
        the rows without the broken ones.

    Raises:
        ValueError: for a broken column, or for broken rows with `on_error: stop`.
    """
    if not problems.all:
        (folder / PROBLEMS).unlink(missing_ok=True)  # of an earlier start: they were repaired
        return rows
    console.print(problems.to_rich())
    file = problems.save(folder)
    if problems.columns:
        raise ValueError(
            f"{_first_lines(problems.columns)}\nTake the modality out of the run file, or fill its column."
        )
    count = len({problem.row for problem in problems.broken})
    if problems.broken and run.data.on_error == "stop":
        outside = any("allow_outside" in problem.what for problem in problems.broken)
        raise ValueError(
            f"{count} of {len(rows.ids)} rows cannot be used; all of them are listed in {file}:\n"
            f"{_first_lines(problems.broken)}\n"
            "Repair them, or set data.on_error to skip, which sets them aside and counts them."
            + (" To follow paths that leave the folder, set data.allow_outside to true." if outside else "")
        )
    if problems.broken:
        console.print(f"{count} of {len(rows.ids)} rows are set aside; all of them are listed in {file}")
    return rows.without(problems.broken)


def _first_lines(problems: Sequence[Problem], limit: int = 5) -> str:
    lines = [f"  {problem}" for problem in problems[:limit]]
    return "\n".join([*lines, *([f"  and {len(problems) - limit} more"] if len(problems) > limit else [])])
