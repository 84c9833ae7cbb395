"""Recall of every query -> target, and its means over 1 -> 1 and 2 -> 1 (Table 2)."""

from collections.abc import Sequence
from pathlib import Path

from confu.evaluation import summarise
from confu.evaluation.plots import heatmap
from confu.evaluation.report import Report
from confu.evaluation.retrieval import retrieval_means
from confu.methods import paper_name
from confu_paper.experiments.benchmark import Benchmark
from confu_paper.experiments.run import Outcome
from confu_paper.experiments.tables import Cell, ResultTable, percent, without_gaps

PAPER_METRIC = "recall@10"


def reproduce_retrieval(
    benchmark: Benchmark,
    methods: Sequence[str],
    seeds: Sequence[int],
    runs: Path,
    progress: bool = True,
    metric: str = PAPER_METRIC,
    name: str = "retrieval",
) -> Outcome:
    """Recall@10 over the whole test split for each target and query, a dash where a method cannot answer.

    The paper's value stands beside ours where it has one. Its means are as it prints them, and do not always follow
    from its cells (`confu_paper.experiments.published.printed_means`).

    Args:
        benchmark: what to measure on.
        methods: names in `confu.methods.METHODS`.
        seeds: one run each.
        runs: folder of the runs; finished ones are read.
        progress: whether to draw progress bars.
        metric: another of `evaluate_retrieval`'s, e.g. `"recall@1"`, `"mean reciprocal rank"`, `"median rank"`.
        name: of the table.
    """
    outcome = Outcome(benchmark.size)
    columns = _columns(benchmark)
    rows: dict[str, dict[str, Cell]] = {}
    for method in methods:
        found = [run for seed in seeds for run in benchmark.runs(method, seed, {})]
        reports = outcome.execute(found, runs, progress)
        if len(reports) == len(seeds):  # each of CLIP's models has one pair only, and nothing to take a mean of
            reports = [Report([*report.rows, *retrieval_means(report.rows)]) for report in reports]
        summaries = summarise(reports)
        printed = benchmark.published.get(paper_name(method), {}) if metric == PAPER_METRIC else {}
        rows[method] = without_gaps(
            {column: _scaled(percent(summaries, method, query, printed.get(column), metric, target), metric)
             for column, (query, target) in columns.items()}
        )  # fmt: skip
    if not any(rows.values()):
        raise ValueError(
            f"the runs of {benchmark.name} do not measure {metric}: its targets are classes; use a zero-shot table"
        )
    ranks = metric == "median rank"
    beside = any(cell.published for cells in rows.values() for cell in cells.values())
    table = ResultTable(
        f"{benchmark.name}: {metric}{'' if ranks else ' (%)'}{', ours (published)' if beside else ''}",
        tuple(columns), rows,
        (f"seeds {', '.join(map(str, seeds))}; the gallery is the whole test split, ties count in expectation",
         *(["the paper's means are printed as they are; eleven of 21 do not follow from its cells"] if beside else []),
         *benchmark.notes),
        lower_is_better=tuple(columns) if ranks else (),
    )  # fmt: skip
    nan = float("nan")
    matrix = [[cells[c].mean if c in cells else nan for c in columns] for cells in rows.values()]
    label = metric if ranks else f"{metric} (%)"
    outcome.add(
        name, table, heatmap(matrix, list(rows), list(columns), label, x_label="query -> target", y_label="method")
    )
    return outcome


def _columns(benchmark: Benchmark) -> dict[str, tuple[str, str]]:
    columns, fused = {}, len(benchmark.modalities) - 1
    for target in benchmark.modalities:
        others = [name for name in benchmark.modalities if name != target]
        for query in [*others, "+".join(others)]:
            columns[f"{query} -> {target}"] = (query, target)
    return columns | {f"mean {size} -> 1": (f"{size} -> 1", "mean") for size in (1, fused)}


def _scaled(cell: Cell | None, metric: str) -> Cell | None:
    if cell is None or metric != "median rank":
        return cell
    return Cell(cell.mean / 100, None if cell.std is None else cell.std / 100, num_seeds=cell.num_seeds)
