"""Zero-shot accuracy of every method and query (Tables 1 and 4)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from confu.evaluation import Summary, summarise
from confu.evaluation.plots import bars
from confu.methods import paper_name
from confu_paper.experiments.benchmark import Benchmark
from confu_paper.experiments.published import Value
from confu_paper.experiments.run import Outcome, Run
from confu_paper.experiments.tables import Cell, ResultTable, percent, without_gaps
from confu_paper.experiments.views import DEVIATION, accuracies

Reference = tuple[Callable[[int], list[Run]], Mapping[str, Value]]
"""Makes the runs of a seed, and the published values by query; their reports hold `accuracy` rows."""


def reproduce_zero_shot(
    benchmark: Benchmark,
    methods: Sequence[str],
    seeds: Sequence[int],
    runs: Path,
    progress: bool = True,
    references: Mapping[str, Reference] | None = None,
    notes: Sequence[str] = (),
    name: str | None = None,
) -> Outcome:
    """Accuracy of each query that a method can answer, a dash where it cannot.

    Args:
        benchmark: what to measure on.
        methods: names in `confu.methods.METHODS`.
        seeds: one run each.
        runs: folder of the runs; finished ones are read.
        progress: whether to draw progress bars.
        references: further rows that do not compete, e.g. supervised classifiers.
        notes: what the table must say beside the benchmark's own notes.
        name: of the table; by default the benchmark's.
    """
    outcome = Outcome(benchmark.size)
    rows, found_by = {}, {}
    columns = {benchmark.letter(query): query for query in queries_shown(benchmark)}
    for method in methods:
        if benchmark.rows is None:
            found = [run for seed in seeds for run in benchmark.runs(method, seed, {})]
            reports = outcome.execute(found, runs, progress)
        else:
            reports = [
                accuracies(benchmark, run, method, seed, runs, progress)
                for seed in seeds
                for run in benchmark.runs(method, seed, {})
            ]
            outcome.reports += reports
        found_by[method] = summarise(reports)
    views = any(one.metric.endswith(DEVIATION) for found in found_by.values() for one in found)
    for method, summaries in found_by.items():
        published = benchmark.published.get(paper_name(method), {})
        rows[method] = without_gaps(
            {column: _cell(summaries, method, query, published.get(query), views) for column, query in columns.items()}
        )
    deviations = "over views of the same rows, the mean over seeds of each" if views else "over seeds"
    notes = [
        *notes,
        f"seeds {', '.join(map(str, seeds))}; standard deviations are {deviations}",
        "mean(...) is the mean of the single embeddings, without a fusion network",
    ]
    for label, (make, published) in (references or {}).items():
        found = [run for seed in seeds for run in make(seed)]
        summaries = summarise(outcome.execute(found, runs, progress))
        method = summaries[0].method
        rows[label] = without_gaps(
            {column: percent(summaries, method, query, published.get(query)) for column, query in columns.items()}
        )
    table = ResultTable(
        f"{benchmark.name}: zero-shot accuracy (%), ours (published)",
        tuple(columns),
        rows,
        (*notes, *benchmark.notes),
        references=tuple(references or ()),
    )
    nan = float("nan")
    means = {label: [cells[c].mean if c in cells else nan for c in columns] for label, cells in rows.items()}
    stds = {label: [(cells[c].std or nan) if c in cells else nan for c in columns] for label, cells in rows.items()}
    outcome.add(name or benchmark.name, table, bars(list(columns), means, stds))
    return outcome


def _cell(summaries: Sequence[Summary], method: str, query: str, published: Value | None, views: bool) -> Cell | None:
    """The accuracy; where there are views, with the deviation over them, none if they do not matter."""
    cell = percent(summaries, method, query, published)
    if cell is None or not views:
        return cell
    deviation = percent(summaries, method, query, metric="accuracy" + DEVIATION)
    return replace(cell, std=None if deviation is None or deviation.mean == 0 else deviation.mean)


def queries_shown(benchmark: Benchmark) -> list[str]:
    """The queries' names, and the mean of single embeddings for each fused one."""
    fused = [query for query in benchmark.queries if query.is_fused]
    return [*map(str, benchmark.queries), *(f"mean({', '.join(query)})" for query in fused)]
