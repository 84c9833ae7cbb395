"""Tables of results: what is written is what was measured, in every format."""

import csv
import io
import json
import re

import pytest

from confu.evaluation import Summary
from confu_paper.experiments.tables import CSV_HEADER, Cell, ResultTable, escape_latex, percent

NASTY = r"50 % of a_b & c # {d} $e ~f ^g \h <i|j> λ → 2 ± -0.5, 1e-4"


def table(**changes):
    fields = {
        "title": NASTY,
        "columns": ("audio -> text", "image -> text", "rank"),
        "rows": {
            "ceiling": {"audio -> text": Cell(99.0)},
            "con_fu": {
                "audio -> text": Cell(39.91, 0.25, (39.7, 0.1), 3),
                "image -> text": Cell(64.123456789, None, (64.6, None), 1),
                "rank": Cell(7.0),
            },
            "clip, a|b": {"audio -> text": Cell(39.94, 0.1, None, 3), "rank": Cell(5.0)},
            "gram": {"image -> text": Cell(-0.5, 0.125)},
        },
        "notes": (NASTY,),
        "lower_is_better": ("rank",),
        "references": ("ceiling",),
    }
    return ResultTable(**(fields | changes))


def plain(latex):
    """LaTeX without its commands and escapes: only braces and ampersands that mean something stay."""
    return re.sub(r"\\[\\{}&%$#_]", "", latex)


def body(latex):
    return latex[latex.index(r"\toprule") : latex.index(r"\bottomrule")]


def test_latex_is_balanced_and_every_row_has_every_column():
    latex = table().to_latex("tab:x_1")
    text = plain(latex)
    assert text.count("{") == text.count("}") > 0
    assert text.count("$") % 2 == 0
    assert re.findall(r"\\begin\{(\w+)\}", latex) == ["table", "tabular"]
    assert re.findall(r"\\end\{(\w+)\}", latex) == ["tabular", "table"]
    assert r"\begin{tabular}{lrrr}" in latex and r"\label{tab:x_1}" in latex
    rows = [line for line in body(latex).splitlines() if line.endswith(r" \\")]
    assert len(rows) == 1 + 4
    assert all(plain(row).count("&") == 3 for row in rows)
    comments = [line for line in latex.splitlines() if re.search(r"(?<!\\)%", line)]
    assert comments == [r"% needs \usepackage{booktabs}"]


def test_latex_groups_span_their_columns():
    groups = {"audio -> text": ("to text", "audio"), "image -> text": ("to text", "image")}
    lines = body(table(groups=groups).to_latex()).splitlines()
    assert lines[1] == r" & \multicolumn{2}{c}{to text} & \multicolumn{1}{c}{} \\"
    assert lines[2] == r"\cmidrule(lr){2-3}"
    assert lines[3] == r"method & audio & image & rank \\"


def test_latex_escapes_each_special_mark():
    assert escape_latex(NASTY) == (
        r"50 \% of a\_b \& c \# \{d\} \$e \textasciitilde{}f \textasciicircum{}g \textbackslash{}h $<$i\textbar{}j$>$ "
        r"$\lambda$ $\rightarrow$ 2 $\pm$ $-$0.5, 1e-4"
    )
    assert escape_latex("-1 tri-clip --size x->y") == r"$-$1 tri-clip -{}-size x$\rightarrow$y"


def test_the_best_of_a_column_is_bold_where_rows_compete():
    latex = table().to_latex()
    bold = re.findall(r"^(.*?) & ", "\n".join(line for line in body(latex).splitlines() if r"\textbf" in line), re.M)
    assert bold == [r"con\_fu", r"clip, a\textbar{}b"]
    # equal as printed: both; a ceiling does not compete; the lower rank wins
    assert table().best("audio -> text") == ("con_fu", "clip, a|b")
    assert table().best("image -> text") == ("con_fu",)
    assert table().best("rank") == ("clip, a|b",)
    assert table(rows={"a": {"rank": Cell(1.0)}}, references=()).best("rank") == ()
    assert r"{\boldmath\textbf{39.9 $\pm$ 0.2}} (39.7 $\pm$ 0.1)" in latex


def test_a_dash_where_there_is_no_cell():
    assert table().cells("gram") == ["-", "-0.5 ± 0.1", "-"]
    assert r"gram & -- & $-$0.5 $\pm$ 0.1 & -- \\" in table().to_latex()
    assert "| gram | - | -0.5 ± 0.1 | - |" in table().to_markdown()


def test_markdown_rows_have_equal_columns():
    lines = [line for line in table().to_markdown().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {5}
    assert "**3" not in table().to_markdown()
    assert "| **39.9 ± 0.2** (39.7 ± 0.1) |" in table().to_markdown(bold_best=True)


def test_csv_read_back_equals_the_cells():
    made = table()
    rows = list(csv.DictReader(io.StringIO(made.to_csv("fig_1"))))
    assert tuple(rows[0]) == CSV_HEADER

    def number(text):
        return None if text == "" else float(text)

    read = {}
    for row in rows:
        assert row["table"] == "fig_1"
        paper = number(row["paper_mean"])
        read.setdefault(row["method"], {})[row["column"]] = Cell(
            float(row["ours_mean"]),
            number(row["ours_std"]),
            None if paper is None else (paper, number(row["paper_std"])),
            None if row["seeds"] == "" else int(row["seeds"]),
        )
    assert read == made.rows
    assert next(csv.DictReader(io.StringIO(made.to_csv())))["table"] == NASTY


def test_json_holds_every_cell():
    content = json.loads(json.dumps(table().to_dict()))
    assert content["rows"]["con_fu"]["audio -> text"] == {
        "mean": 39.91, "std": 0.25, "published": [39.7, 0.1], "num_seeds": 3
    }  # fmt: skip


def test_write_makes_three_files_and_leaves_nothing_else(tmp_path):
    folder = tmp_path / "new" / "folder"
    made = table()
    written = made.write(folder, "table1")
    assert [path.name for path in written] == ["table1.md", "table1.tex", "table1.csv"]
    assert sorted(folder.iterdir()) == sorted(written)
    assert [path.read_text(encoding="utf-8") for path in written] == [
        made.to_markdown(), made.to_latex("tab:table1"), made.to_csv("table1")
    ]  # fmt: skip


def test_what_cannot_be_made_replaces_no_file(tmp_path, monkeypatch):
    table().write(tmp_path, "x")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UnicodeEncodeError):
        table(title="half of a pair: \ud800").write(tmp_path, "x")

    def no_memory(self, name):
        raise MemoryError

    monkeypatch.setattr(ResultTable, "to_csv", no_memory)
    with pytest.raises(MemoryError):
        table(title="another").write(tmp_path, "x")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x\n"])
def test_a_name_that_is_not_a_file_name_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="name must be letters, digits"):
        table().write(tmp_path, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": ("rank", "rank")}, "must have different names; got rank, rank"),
        ({"columns": ("audio -> text", "image -> text", "rnak")}, "column of row 'con_fu' 'rank'.*did you mean 'rnak'"),
        ({"lower_is_better": ("rnak",)}, "column 'rnak' is not known; did you mean 'rank'"),
        ({"groups": {"V": ("x", "y")}}, "column 'V' is not known"),
        ({"references": ("cieling",)}, "row 'cieling' is not known; did you mean 'ceiling'"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        table(**changes)


def test_percent_finds_metric_and_target_and_counts_the_seeds():
    def summary(metric, target, mean):
        return Summary("confu", metric, "audio", target, mean, 0.01, (0, 1, 2))

    summaries = [
        summary("accuracy", "text", 0.5),
        summary("recall@10", "image", 0.2),
        summary("recall@10", "text", 0.3),
    ]
    assert percent(summaries, "confu", "audio", (1.0, None)) == Cell(50.0, 1.0, (1.0, None), 3)
    assert percent(summaries, "confu", "audio", metric="recall@10", target="text").mean == pytest.approx(30.0)
    assert percent(summaries, "confu", "audio", metric="recall@10").mean == pytest.approx(20.0)
    assert percent(summaries, "clip", "audio") is None
