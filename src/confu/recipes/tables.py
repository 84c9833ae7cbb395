"""Tables of results: the paper's value, ours, and what differs; for the terminal, Markdown and JSON."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from confu.evaluation import Summary
from confu.recipes.published import Value


@dataclass(frozen=True)
class Cell:
    """A measured percentage, mean and standard deviation over seeds, beside the published one."""

    mean: float
    std: float | None = None
    published: Value | None = None

    def __str__(self) -> str:
        ours = f"{self.mean:.1f}" if self.std is None else f"{self.mean:.1f} ± {self.std:.1f}"
        if self.published is None:
            return ours
        mean, std = self.published
        return f"{ours} ({mean:.1f})" if std is None else f"{ours} ({mean:.1f} ± {std:.1f})"


@dataclass(frozen=True)
class ResultTable:
    """Rows of cells; a dash where there is nothing to say.

    Attributes:
        title: what is measured, in which unit.
        columns: names of the cells.
        rows: label -> cell by column name.
        notes: how our protocol or data differ from the paper's.
    """

    title: str
    columns: tuple[str, ...]
    rows: dict[str, dict[str, Cell]]
    notes: tuple[str, ...] = field(default=())

    def cells(self, label: str) -> list[str]:
        """The row's cells as text, in the order of the columns."""
        return [str(self.rows[label][column]) if column in self.rows[label] else "-" for column in self.columns]

    def to_rich(self) -> Table:
        """The rows for the terminal; the title and the notes are printed around it, where they do not wrap."""
        table = Table()
        table.add_column("method", no_wrap=True)
        for column in self.columns:
            table.add_column(column, justify="right")
        for label in self.rows:
            table.add_row(label, *self.cells(label))
        return table

    def to_markdown(self) -> str:
        """For a README."""
        lines = [f"| {' | '.join(['method', *self.columns])} |", f"|---|{'---:|' * len(self.columns)}"]
        lines += [f"| {' | '.join([label, *self.cells(label)])} |" for label in self.rows]
        return "\n".join([f"**{self.title}**", "", *lines, "", *(f"- {note}" for note in self.notes)]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def percent(summaries: Iterable[Summary], method: str, query: str, published: Value | None = None) -> Cell | None:
    """The accuracy of a method's query in percent, or None if it was not measured."""
    for summary in summaries:
        if (summary.method, summary.metric, summary.query) == (method, "accuracy", query):
            std = None if summary.std is None else 100 * summary.std
            return Cell(100 * summary.mean, std, published)
    return None


def without_gaps(cells: dict[str, Cell | None]) -> dict[str, Cell]:
    """Only the cells that there are."""
    return {name: cell for name, cell in cells.items() if cell is not None}
