"""What share of the rows only one query gets right, two, or all (Figs 5 and 8)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from confu.evaluation import Report, ReportRow, evaluate_overlap
from confu.evaluation.plots import bars, heatmap
from confu_paper.experiments.benchmark import Benchmark, Request, summaries_by_method, zero_shot
from confu_paper.experiments.published import stated
from confu_paper.experiments.run import Outcome, Run
from confu_paper.experiments.tables import Cell, ResultTable, means_and_stds


def reproduce_overlap(benchmark: Benchmark, request: Request, name: str = "overlap") -> Outcome:
    """For each method that answers single and fused queries: who is right about which rows, overall and by class.

    Methods that answer fewer than all queries are left out. A method without fusion answers the fused one with the
    mean of its embeddings.
    """
    outcome = Outcome(benchmark.size)
    class_names = benchmark.class_names

    def report(method: str, seed: int, run: Run) -> list[Report]:
        measure = partial(_measure, benchmark, method, seed, class_names)
        return [benchmark.measure(run, request, "overlap", {}, measure)]

    rows: dict[str, dict[str, Cell]] = {}
    by_class: dict[str, dict[str, dict[str, Cell]]] = {}
    for method, summaries in summaries_by_method(benchmark, request, outcome, report):
        for summary in summaries:
            share, _, label = summary.metric.removeprefix("share ").partition(" of ")
            share = _lettered(benchmark, share)
            if label:
                by_class.setdefault(method, {}).setdefault(label, {})[share] = Cell(100 * summary.mean)
            else:
                std = None if summary.std is None else 100 * summary.std
                rows.setdefault(method, {})[share] = Cell(100 * summary.mean, std, num_seeds=len(summary.seeds))
    if not rows:
        raise ValueError(
            f"none of {', '.join(request.chosen())} answers all of {', '.join(map(str, benchmark.queries))}; add confu "
            "or gram"
        )
    columns = tuple(dict.fromkeys(share for cells in rows.values() for share in cells))
    statements = [f"the paper of {one.method}: {one.words}" for one in stated("fig5") if one.data == benchmark.name]
    notes = (
        f"{request.seeds_note}; zero-shot, each row is in one category, so that a line adds up to 100",
        "a method without fusion answers the fused query with the mean of its embeddings; others are left out",
        *statements,
        *benchmark.notes,
    )
    table = ResultTable(f"{benchmark.name}: share of test rows by which queries are right (%)", columns, rows, notes)
    figure = bars(list(columns), *means_and_stds(rows, columns), x_label="share of test rows (%)")
    outcome.add(name, table, figure)
    for method, cells in by_class.items():
        title = f"{benchmark.name}, {method}: share of each class's rows (%)"
        matrix = [[shares[share].mean for share in columns] for shares in cells.values()]
        axes = {"x_label": "right", "y_label": "class"}
        figure = heatmap(matrix, list(cells), list(columns), "share of the class (%)", **axes)
        outcome.add(f"{name}-{method}", ResultTable(title, columns, cells, row_header="class"), figure)
    return outcome


def _measure(
    benchmark: Benchmark, method: str, seed: int, class_names: Sequence[str] | None, folder: Path
) -> list[ReportRow]:
    model = benchmark.model(folder)
    target, prompts = benchmark.classes
    queries = benchmark.queries_of(model)
    credits: dict[str, list[torch.Tensor]] = {str(query): [] for query in benchmark.queries}
    labels = []
    for table in benchmark.test_tables(model, folder):
        of_table = zero_shot(model, table, prompts, target, queries, method, seed).credit
        for query in benchmark.queries:
            credit = of_table.get(str(query), of_table.get(f"mean({', '.join(query)})"))
            if credit is None:
                return []
            credits[str(query)].append(credit)
        assert table.labels is not None
        labels.append(table.labels)
    # Each view of a row counts as a row.
    joined = {query: torch.cat(parts) for query, parts in credits.items()}
    return evaluate_overlap(joined, torch.cat(labels), class_names).to_rows(str(target), method, seed)


def _lettered(benchmark: Benchmark, share: str) -> str:
    """`image+audio & image` as the paper's `A+V & V`."""
    if share.endswith(" only"):
        return f"{benchmark.letter(share.removesuffix(' only'))} only"
    return " & ".join(benchmark.letter(part) for part in share.split(" & "))
