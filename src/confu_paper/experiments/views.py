"""What is measured several times, on views of the same rows such as frames of a video: means and deviations."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from confu.embeddings import EmbeddingTable
from confu.evaluation import Report, ReportRow
from confu_paper.experiments.benchmark import Benchmark, zero_shot
from confu_paper.experiments.run import Run, execute, measured

DEVIATION = ", deviation over views"
"""What is added to a metric whose value is a standard deviation over views."""


def mean_rows(views: Sequence[Sequence[ReportRow]], deviations: bool = False) -> list[ReportRow]:
    """The mean of each number over views, a single view's rows as they are.

    Args:
        views: each view's rows; the same numbers in each.
        deviations: add, after each mean, the standard deviation (divisor views - 1) as a number of its own.

    Example:
        >>> rows = [ReportRow("accuracy", "image", "text", value, count=10) for value in (0.25, 0.75)]
        >>> [(row.metric, round(row.value, 3)) for row in mean_rows([[rows[0]], [rows[1]]], deviations=True)]
        [('accuracy', 0.5), ('accuracy, deviation over views', 0.354)]
    """
    if len(views) == 1:
        return list(views[0])
    found = []
    for same in zip(*views, strict=True):
        assert len({(row.metric, row.query, row.target) for row in same}) == 1
        values = [row.value for row in same]
        std = statistics.stdev(values)
        note = "; ".join(part for part in (same[0].note, f"mean of {len(values)} views, std {std:.4f}") if part)
        found.append(replace(same[0], value=statistics.fmean(values), note=note))
        if deviations:
            found.append(replace(same[0], metric=same[0].metric + DEVIATION, value=std, note=f"{len(values)} views"))
    return found


def over_views(
    tables: Iterable[EmbeddingTable], measure: Callable[[EmbeddingTable], list[ReportRow]]
) -> list[ReportRow]:
    """`mean_rows` of what is measured on each table."""
    return mean_rows([measure(table) for table in tables])


def accuracies(benchmark: Benchmark, run: Run, method: str, seed: int, runs: Path, progress: bool = True) -> Report:
    """The zero-shot accuracies of a run: those of its own report, or those on the benchmark's other rows.

    Trains the run first if it has to.
    """
    if benchmark.rows is None:
        return execute(run, runs, progress)
    measure = partial(_measure, benchmark, method, seed)
    return measured(run, runs, benchmark.stored("zero-shot"), benchmark.measurement({}), measure, progress)


def _measure(benchmark: Benchmark, method: str, seed: int, folder: Path) -> list[ReportRow]:
    model, (target, prompts) = benchmark.model(folder), benchmark.classes
    queries = benchmark.queries_of(model)
    views = [
        zero_shot(model, table, prompts, target, queries, method, seed).rows
        for table in benchmark.test_tables(model, folder)
    ]
    return mean_rows(views, deviations=True)
