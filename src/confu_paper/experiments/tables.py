"""Tables of results: the paper's value beside ours; for the terminal, Markdown, LaTeX, CSV and JSON."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from confu.checks import check_known
from confu.files import written_whole
from confu_paper.experiments.published import Value

if TYPE_CHECKING:
    from confu.evaluation import Summary

CSV_HEADER = ("table", "method", "column", "ours_mean", "ours_std", "seeds", "paper_mean", "paper_std")
# Pairs of plain text and LaTeX.
_LATEX_MARKS = r"""
    \ \textbackslash{} ; { \{ ; } \} ; & \& ; % \% ; $ \$ ; # \# ; _ \_ ; ~ \textasciitilde{} ; ^ \textasciicircum{}
    ; | \textbar{} ; < $<$ ; > $>$ ; -> $\rightarrow$ ; → $\rightarrow$ ; ± $\pm$ ; × $\times$ ; ≤ $\leq$ ; ≥ $\geq$
    ; − $-$ ; λ $\lambda$ ; τ $\tau$ ; σ $\sigma$ ; Δ $\Delta$ ; … \ldots{} ; -- -{}-
"""
_LATEX = {pair[0]: pair[1] for pair in map(str.split, _LATEX_MARKS.split(";"))}
# The longest first, so that an arrow is not read as a minus and a greater-than.
_TO_ESCAPE = re.compile("|".join(re.escape(mark) for mark in sorted(_LATEX, key=len, reverse=True)) + r"|-(?=\d)")


@dataclass(frozen=True)
class Cell:
    """A measured percentage, mean and standard deviation over seeds, beside the published one.

    Attributes:
        mean: over the seeds.
        std: the sample standard deviation over the seeds; None for one seed.
        published: the paper's mean and standard deviation, if it has the number.
        num_seeds: how many; None where there are none, e.g. for a ceiling that is computed.
    """

    mean: float
    std: float | None = None
    published: Value | None = None
    num_seeds: int | None = None

    @property
    def ours(self) -> str:
        """`71.2 ± 0.1`, without the paper's."""
        return _with_std(self.mean, self.std)

    @property
    def paper(self) -> str:
        """`(71.2 ± 0.2)` after a space, or nothing."""
        return "" if self.published is None else f" ({_with_std(*self.published)})"

    def __str__(self) -> str:
        return self.ours + self.paper


def _with_std(mean: float, std: float | None) -> str:
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


Rows = Mapping[str, Mapping[str, Cell]]


@dataclass(frozen=True)
class ResultTable:
    """Rows of cells; a dash where there is nothing to say, e.g. where a method cannot answer a query.

    Attributes:
        title: what is measured, in which unit.
        columns: names of the cells, each once.
        rows: label -> cell by column name.
        notes: how our protocol or data differ from the paper's.
        groups: column -> (header over it, name below that header), for LaTeX; columns that stand side by side share a
            header. The other formats write the column's own name.
        lower_is_better: columns whose best cell is the lowest, e.g. a median rank.
        references: labels of rows that do not compete for the best cell, e.g. a ceiling.
        row_header: what the labels are.

    Raises:
        ValueError: if a name stands twice in `columns`, or a row, group or option names what is not there.

    >>> rows = {"confu": {"A": Cell(39.9, 0.2, (39.7, 0.1)), "A+V": Cell(71.0)}, "clip": {"A": Cell(41)}}
    >>> print(ResultTable("Accuracy (%)", ("A", "A+V"), rows).to_markdown(bold_best=True).rstrip())
    **Accuracy (%)**
    <BLANKLINE>
    | method | A | A+V |
    |---|---:|---:|
    | confu | 39.9 ± 0.2 (39.7 ± 0.1) | 71.0 |
    | clip | **41.0** | - |
    """

    title: str
    columns: tuple[str, ...]
    rows: dict[str, dict[str, Cell]]
    notes: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    lower_is_better: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    row_header: str = "method"

    def __post_init__(self) -> None:
        if len(set(self.columns)) != len(self.columns):
            raise ValueError(f"columns of {self.title!r} must have different names; got {', '.join(self.columns)}")
        for label, cells in self.rows.items():
            for column in cells:
                check_known(f"column of row {label!r}", column, self.columns)
        for column in (*self.groups, *self.lower_is_better):
            check_known("column", column, self.columns)
        for label in self.references:
            check_known("row", label, self.rows)

    def cells(self, label: str) -> list[str]:
        """The row's cells as text, in the order of the columns."""
        return [str(self.rows[label][column]) if column in self.rows[label] else "-" for column in self.columns]

    def _lines(self, missing: str, text: Callable[[Cell, bool], str], bold: bool = True) -> list[list[str]]:
        """Each row's label and cells; `text` is told whether a cell is the best of its column."""
        best = {column: self.best(column) if bold else () for column in self.columns}
        return [
            [label, *(text(cells[name], label in best[name]) if name in cells else missing for name in self.columns)]
            for label, cells in self.rows.items()
        ]

    def best(self, column: str) -> tuple[str, ...]:
        """Labels of the best rows of a column: several if they print the same, none if fewer than two compete."""
        competing = {
            label: round(cells[column].mean, 1)  # as it is printed: what looks equal is equal
            for label, cells in self.rows.items()
            if column in cells and label not in self.references
        }
        if len(competing) < 2:
            return ()
        best = (min if column in self.lower_is_better else max)(competing.values())
        return tuple(label for label, mean in competing.items() if mean == best)

    def beside(self, published: Mapping[tuple[str, str], Value]) -> "ResultTable":
        """The same cells with the paper's values by label and column."""
        rows = {
            label: {column: replace(cell, published=published.get((label, column))) for column, cell in cells.items()}
            for label, cells in self.rows.items()
        }
        return replace(self, rows=rows)

    def to_rich(self) -> Table:
        """The rows for the terminal; the title and the notes are printed around it, where they do not wrap."""
        table = Table()
        table.add_column(self.row_header, no_wrap=True)
        for column in self.columns:
            table.add_column(column, justify="right")
        for label in self.rows:
            table.add_row(label, *self.cells(label))
        return table

    def to_markdown(self, bold_best: bool = False) -> str:
        """For a README; `bold_best` prints the best cells of each column in bold."""

        def text(cell: Cell, best: bool) -> str:
            return f"**{cell.ours}**{cell.paper}" if best else str(cell)

        rows = [[self.row_header, *self.columns], *self._lines("-", text, bold_best)]
        lines = ["| " + " | ".join(part.replace("|", r"\|") for part in row) + " |" for row in rows]
        lines.insert(1, f"|---|{'---:|' * len(self.columns)}")
        return "\n".join([f"**{self.title}**", "", *lines, "", *(f"- {note}" for note in self.notes)]) + "\n"

    def to_latex(self, label: str | None = None) -> str:
        r"""A `table` for a document that loads the package booktabs; the best cells of each column in bold.

        Args:
            label: for `\ref`.
        """

        def text(cell: Cell, best: bool) -> str:
            ours = escape_latex(cell.ours)
            # \boldmath for the ±, \textbf for the digits
            return (rf"{{\boldmath\textbf{{{ours}}}}}" if best else ours) + escape_latex(cell.paper)

        heads = [self.groups.get(column, ("", column)) for column in self.columns]
        header = [escape_latex(name) for name in (self.row_header, *(name for _, name in heads))]
        rows = [[escape_latex(label), *cells] for label, *cells in self._lines("--", text)]
        lines = [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(self.title)}}}",
            *([rf"\label{{{label}}}"] if label is not None else []),
            rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}",
            r"\toprule",
            *_group_rows([group for group, _ in heads]),
            _latex_row(header),
            r"\midrule",
            *(_latex_row(row) for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\smallskip{{\footnotesize {escape_latex(note)}\par}}" for note in self.notes),
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def to_csv(self, name: str | None = None) -> str:
        """One row a cell, with every digit; `name` is in the column `table`, the title by default."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_HEADER)
        for label, cells in self.rows.items():
            for column in self.columns:
                if (cell := cells.get(column)) is not None:
                    table, paper = self.title if name is None else name, cell.published or (None, None)
                    writer.writerow([table, label, column, cell.mean, cell.std, cell.num_seeds, *paper])
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def write(self, folder: str | Path, name: str) -> list[Path]:
        """Write `NAME.md`, `NAME.tex` and `NAME.csv`, each whole or not at all; none if one cannot be made.

        Raises:
            ValueError: if the name is not one that a file can have on every system.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError(f"name must be letters, digits, '.', '_' and '-', starting with no mark; got {name!r}")
        texts = {".md": self.to_markdown(), ".tex": self.to_latex(f"tab:{name}"), ".csv": self.to_csv(name)}
        written = []
        for suffix, text in texts.items():
            with written_whole(Path(folder) / f"{name}{suffix}") as partial:
                partial.write_text(text, encoding="utf-8", newline="\n")
            written.append(Path(folder) / f"{name}{suffix}")
        return written


def percent(
    summaries: Iterable["Summary"],
    method: str,
    query: str,
    published: Value | None = None,
    metric: str = "accuracy",
    target: str | None = None,
) -> Cell | None:
    """A number of a method's query in percent, or None if it was not measured.

    Args:
        summaries: as `confu.evaluation.summarise` makes them.
        method, query, metric: as in them.
        published: the paper's value for the cell.
        target: as in them; None takes the first that there is.
    """
    for summary in summaries:
        matches = (summary.method, summary.metric, summary.query) == (method, metric, query)
        if matches and target in (None, summary.target):
            std = None if summary.std is None else 100 * summary.std
            return Cell(100 * summary.mean, std, published, num_seeds=len(summary.seeds))
    return None


def without_gaps(cells: Mapping[str, Cell | None]) -> dict[str, Cell]:
    """Only the cells that there are."""
    return {name: cell for name, cell in cells.items() if cell is not None}


def means_and_stds(
    rows: Rows, columns: Sequence[str], no_std: float = float("nan")
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """The numbers of each row, for `confu.evaluation.plots.bars`; NaN where there is none."""
    nan = Cell(float("nan"), float("nan"))
    in_order = {label: [cells.get(column, nan) for column in columns] for label, cells in rows.items()}
    means = {label: [cell.mean for cell in cells] for label, cells in in_order.items()}
    return means, {label: [cell.std or no_std for cell in cells] for label, cells in in_order.items()}


def bands(rows: Rows, columns: Sequence[str]) -> dict[str, tuple[list[float], list[float]]]:
    """The numbers of each row, for `confu.evaluation.plots.lines`; a single seed has the deviation 0."""
    means, stds = means_and_stds(rows, columns, 0.0)
    return {label: (means[label], stds[label]) for label in rows}


def escape_latex(text: str) -> str:
    r"""Plain text as LaTeX prints it in any font: special marks escaped, arrows and Greek letters as mathematics.

    >>> escape_latex("mask_ratio ≤ 30 % of x1 -> x2")
    'mask\\_ratio $\\leq$ 30 \\% of x1 $\\rightarrow$ x2'
    """

    def escaped(match: re.Match[str]) -> str:
        if match[0] != "-":
            return _LATEX[match[0]]
        before = text[match.start() - 1] if match.start() else " "
        return "-" if before.isalnum() else "$-$"  # the hyphen of `1e-4`, or the sign of -0.2

    return _TO_ESCAPE.sub(escaped, text)


def _group_rows(groups: Sequence[str]) -> list[str]:
    """The header above the columns' names; neighbours with the same one share it, and "" has none."""
    if not any(groups):
        return []
    parts, rules, start = [""], [], 2  # LaTeX counts columns from 1, and the first holds the labels of the rows
    for head, same in groupby(groups):
        width = len(list(same))
        parts.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(head)}}}")
        if head:
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [_latex_row(parts), "".join(rules)]


def _latex_row(parts: Sequence[str]) -> str:
    return " & ".join(parts) + r" \\"
