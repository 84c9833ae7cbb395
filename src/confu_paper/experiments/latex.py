"""LaTeX of a table, and text made safe for it."""

import re
from collections.abc import Sequence
from itertools import groupby

_MARKS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}", "<": r"$<$", ">": r"$>$",
    "->": r"$\rightarrow$", "→": r"$\rightarrow$", "±": r"$\pm$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$",
    "−": r"$-$", "λ": r"$\lambda$", "τ": r"$\tau$", "σ": r"$\sigma$", "Δ": r"$\Delta$", "…": r"\ldots{}",
    "--": "-{}-",
}  # fmt: skip
# The longest first, so that an arrow is not read as a minus and a greater-than.
_TO_ESCAPE = re.compile("|".join(re.escape(mark) for mark in sorted(_MARKS, key=len, reverse=True)) + r"|-(?=\d)")


def escape_latex(text: str) -> str:
    r"""Plain text as LaTeX prints it in any font: special marks escaped, arrows and Greek letters as mathematics.

    Example:
        >>> escape_latex("mask_ratio ≤ 30 % of x1 -> x2")
        'mask\\_ratio $\\leq$ 30 \\% of x1 $\\rightarrow$ x2'
    """

    def escaped(match: re.Match[str]) -> str:
        if match[0] != "-":
            return _MARKS[match[0]]
        before = text[match.start() - 1] if match.start() else " "
        return "-" if before.isalnum() else "$-$"  # the hyphen of `1e-4`, or the sign of -0.2

    return _TO_ESCAPE.sub(escaped, text)


def latex_table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    groups: Sequence[str] = (),
    notes: Sequence[str] = (),
    label: str | None = None,
) -> str:
    r"""A `table` for a document that loads the package booktabs.

    Args:
        caption: plain text.
        header: names of the columns, plain text; the first is left-aligned, the others right-aligned.
        rows: LaTeX, as many parts each as the header has.
        groups: a further header over each column but the first, plain text; neighbours with the same one share it, and
            "" has none.
        notes: plain text, a line each below the table.
        label: for `\ref`.

    Example:
        >>> groups = ["from one", "from one"]
        >>> print(latex_table("Accuracy (%)", ["method", "A", "V"], [["clip", "1", "2"]], groups), end="")
        % needs \usepackage{booktabs}
        \begin{table}
        \centering
        \caption{Accuracy (\%)}
        \begin{tabular}{lrr}
        \toprule
         & \multicolumn{2}{c}{from one} \\
        \cmidrule(lr){2-3}
        method & A & V \\
        \midrule
        clip & 1 & 2 \\
        \bottomrule
        \end{tabular}
        \end{table}
    """
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(caption)}}}",
        *([rf"\label{{{label}}}"] if label is not None else []),
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        *_group_rows(groups),
        _row([escape_latex(name) for name in header]),
        r"\midrule",
        *(_row(row) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip{{\footnotesize {escape_latex(note)}\par}}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _group_rows(groups: Sequence[str]) -> list[str]:
    if not any(groups):
        return []
    parts, rules, at = [""], [], 2  # LaTeX counts columns from 1, and the first holds the labels of the rows
    for head, same in groupby(groups):
        width = len(list(same))
        parts.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(head)}}}")
        if head:
            rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
        at += width
    return [_row(parts), "".join(rules)]


def _row(parts: Sequence[str]) -> str:
    return " & ".join(parts) + r" \\"
