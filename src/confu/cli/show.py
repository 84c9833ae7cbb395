"""How results are shown in a terminal, a file or a pipe."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from confu.recipes.tables import ResultTable

console = Console()


def print_table(table: "ResultTable") -> None:
    """A table with its title, and its notes below."""
    console.print(f"\n[bold]{escape(table.title)}[/bold]")
    print_wide(table.to_rich())
    for note in table.notes:
        console.print(f"- {note}", highlight=False, style="dim", soft_wrap=True)


def print_wide(table: Table) -> None:
    """A table in a terminal keeps to its width; in a file or a pipe no number is cut."""
    wide = Console(width=10_000)
    if not console.is_terminal:
        wide.width = Measurement.get(wide, wide.options, table).maximum
    (console if console.is_terminal else wide).print(table)


def escape(text: str) -> str:
    """Text that rich prints as it is."""
    return text.replace("[", r"\[")
