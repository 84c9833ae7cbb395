"""Recall of every query -> target, and its means over 1 -> 1 and 2 -> 1 (Table 2)."""

from dataclasses import replace

from confu.evaluation import Report, retrieval_means, summarise
from confu.evaluation.plots import heatmap
from confu.methods import paper_name
from confu_paper.experiments.benchmark import Benchmark, Request
from confu_paper.experiments.run import Outcome
from confu_paper.experiments.tables import Cell, ResultTable, means_and_stds, percent, without_gaps

PAPER_METRIC = "recall@10"


def reproduce_retrieval(
    benchmark: Benchmark, request: Request, name: str = "retrieval", metric: str = PAPER_METRIC
) -> Outcome:
    """Recall@10 over the whole test split for each target and query, a dash where a method cannot answer.

    The paper's value stands beside ours where it has one. Its means are as it prints them, and do not always follow
    from its cells.

    Args:
        metric: another of `evaluate_retrieval`'s, e.g. `"recall@1"`, `"mean reciprocal rank"`, `"median rank"`.
    """
    outcome = Outcome(benchmark.size)
    columns = _columns(benchmark)
    ranks = metric == "median rank"
    rows: dict[str, dict[str, Cell]] = {}
    for method in request.chosen():
        runs = [run for seed in request.seeds for run in benchmark.runs(method, seed, {})]
        reports = outcome.execute(runs, request.runs, request.progress)
        if len(reports) == len(request.seeds):  # each of CLIP's models has one pair only, and nothing to average
            reports = [Report([*report.rows, *retrieval_means(report.rows)]) for report in reports]
        summaries = summarise(reports)
        published = benchmark.published.get(paper_name(method), {}) if metric == PAPER_METRIC else {}
        cells = {
            column: percent(summaries, method, query, published.get(column), metric, target)
            for column, (query, target) in columns.items()
        }
        rows[method] = {column: _rank(cell) if ranks else cell for column, cell in without_gaps(cells).items()}
    if not any(rows.values()):
        raise ValueError(
            f"the runs of {benchmark.name} do not measure {metric}: its targets are classes; use a zero-shot table"
        )
    beside = any(cell.published for cells in rows.values() for cell in cells.values())
    label = metric if ranks else f"{metric} (%)"
    notes = [f"{request.seeds_note}; the gallery is the whole test split, ties count in expectation"]
    if beside:
        notes.append("the paper's means are printed as they are; eleven of 21 do not follow from its cells")
    table = ResultTable(
        f"{benchmark.name}: {label}{', ours (published)' if beside else ''}",
        tuple(columns),
        rows,
        (*notes, *benchmark.notes),
        lower_is_better=tuple(columns) if ranks else (),
    )
    matrix = list(means_and_stds(rows, table.columns)[0].values())
    figure = heatmap(matrix, list(rows), list(columns), label, x_label="query -> target", y_label="method")
    outcome.add(name, table, figure)
    return outcome


def _columns(benchmark: Benchmark) -> dict[str, tuple[str, str]]:
    columns, fused = {}, len(benchmark.modalities) - 1
    for target in benchmark.modalities:
        others = [name for name in benchmark.modalities if name != target]
        for query in [*others, "+".join(others)]:
            columns[f"{query} -> {target}"] = (query, target)
    return columns | {f"mean {size} -> 1": (f"{size} -> 1", "mean") for size in (1, fused)}


def _rank(cell: Cell) -> Cell:
    """A rank is no percentage."""
    return replace(cell, mean=cell.mean / 100, std=None if cell.std is None else cell.std / 100)
