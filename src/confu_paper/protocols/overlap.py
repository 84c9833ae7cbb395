"""What share of the rows only one query gets right, two, or all (Figs 5 and 8)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from confu.evaluation import ReportRow, summarise
from confu.evaluation.overlap import evaluate_overlap
from confu.evaluation.plots import bars, heatmap
from confu_paper.experiments.benchmark import Benchmark, zero_shot
from confu_paper.experiments.published import stated
from confu_paper.experiments.run import Outcome, measured
from confu_paper.experiments.tables import Cell, ResultTable


def reproduce_overlap(
    benchmark: Benchmark,
    methods: Sequence[str],
    seeds: Sequence[int],
    runs: Path,
    progress: bool = True,
    name: str = "overlap",
) -> Outcome:
    """For each method that answers single and fused queries: who is right about which rows, overall and by class.

    Args:
        benchmark: what to measure on.
        methods: names in `confu.methods.METHODS`; those that answer fewer than all queries are left out. A
            method without fusion answers the fused one with the mean of its embeddings.
        seeds: one run each.
        runs: folder of the runs; finished ones are read.
        progress: whether to draw progress bars.
        name: of the table.
    """
    outcome = Outcome(benchmark.size)
    names = benchmark.class_names
    rows: dict[str, dict[str, Cell]] = {}
    by_class: dict[str, dict[str, dict[str, float]]] = {}
    for method in methods:
        reports = []
        for seed in seeds:
            for run in benchmark.runs(method, seed, {}):
                measure = partial(_measure, benchmark, method, seed, names)
                stored, settings = benchmark.stored("overlap"), benchmark.measurement({})
                reports.append(measured(run, runs, stored, settings, measure, progress))
        outcome.reports += reports
        for summary in summarise(reports):
            share, _, label = summary.metric.removeprefix("share ").partition(" of ")
            share = _lettered(benchmark, share)
            if label:
                by_class.setdefault(method, {}).setdefault(label, {})[share] = 100 * summary.mean
            else:
                std = None if summary.std is None else 100 * summary.std
                rows.setdefault(method, {})[share] = Cell(100 * summary.mean, std, num_seeds=len(summary.seeds))
    if not rows:
        raise ValueError(
            f"none of {', '.join(methods)} answers all of {', '.join(map(str, benchmark.queries))}; add confu or gram"
        )
    columns = tuple(dict.fromkeys(share for cells in rows.values() for share in cells))
    notes = (
        f"seeds {', '.join(map(str, seeds))}; zero-shot, each row is in one category, so that a line adds up to 100",
        "a method without fusion answers the fused query with the mean of its embeddings; others are left out",
        *(f"the paper of {one.method}: {one.words}" for one in stated("fig5") if one.data == benchmark.name),
        *benchmark.notes,
    )
    table = ResultTable(f"{benchmark.name}: share of test rows by which queries are right (%)", columns, rows, notes)
    nan = float("nan")
    means = {method: [cells[c].mean if c in cells else nan for c in columns] for method, cells in rows.items()}
    stds = {method: [(cells[c].std or nan) if c in cells else nan for c in columns] for method, cells in rows.items()}
    outcome.add(name, table, bars(list(columns), means, stds, x_label="share of test rows (%)"))
    for method, classes in by_class.items():
        cells = {label: {share: Cell(value) for share, value in shares.items()} for label, shares in classes.items()}
        matrix = [[shares[share] for share in columns] for shares in classes.values()]
        outcome.add(
            f"{name}-{method}",
            ResultTable(
                f"{benchmark.name}, {method}: share of each class's rows (%)", columns, cells, row_header="class"
            ),
            heatmap(matrix, list(classes), list(columns), "share of the class (%)", x_label="right", y_label="class"),
        )
    return outcome


def _measure(
    benchmark: Benchmark, method: str, seed: int, names: Sequence[str] | None, folder: Path
) -> list[ReportRow]:
    model = benchmark.model(folder)
    target, prompts = benchmark.classes
    queries = benchmark.queries_of(model)
    credits: dict[str, list[torch.Tensor]] = {str(query): [] for query in benchmark.queries}
    labels = []
    for table in benchmark.test_tables(model, folder):
        credit = zero_shot(model, table, prompts, target, queries, method, seed).credit
        for query in benchmark.queries:
            asked = credit.get(str(query), credit.get(f"mean({', '.join(query)})"))
            if asked is None:
                return []
            credits[str(query)].append(asked)
        assert table.labels is not None
        labels.append(table.labels)
    # Each view of a row counts as a row.
    found = evaluate_overlap({query: torch.cat(parts) for query, parts in credits.items()}, torch.cat(labels), names)
    return found.to_rows(str(target), method, seed)


def _lettered(benchmark: Benchmark, share: str) -> str:
    """`image+audio & image` as the paper's `A+V & V`."""
    if share.endswith(" only"):
        return f"{benchmark.letter(share.removesuffix(' only'))} only"
    return " & ".join(benchmark.letter(part) for part in share.split(" & "))
