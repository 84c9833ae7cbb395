"""How results are shown in a terminal, a file or a pipe."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

console = Console()


def say(text: str, markup: bool = True, style: str | None = None) -> None:
    """Print a line as it is: no numbers in colour, and no line that is broken where a path is long."""
    console.print(text, highlight=False, soft_wrap=True, markup=markup, style=style)


def print_wide(table: Table) -> None:
    """A table in a terminal keeps to its width; in a file or a pipe no number is cut."""
    wide = Console(width=10_000)
    if not console.is_terminal:
        wide.width = Measurement.get(wide, wide.options, table).maximum
    (console if console.is_terminal else wide).print(table)


def escape(text: str) -> str:
    """Text that rich prints as it is."""
    return text.replace("[", r"\[")
