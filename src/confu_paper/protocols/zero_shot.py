"""Zero-shot accuracy of every method and query (Tables 1 and 4)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from confu.evaluation import Report, Summary, summarise
from confu.evaluation.plots import bars
from confu.methods import paper_name
from confu_paper.experiments.benchmark import DEVIATION, Benchmark, Request, accuracies, summaries_by_method
from confu_paper.experiments.published import Value
from confu_paper.experiments.run import Outcome, Run
from confu_paper.experiments.tables import Cell, ResultTable, means_and_stds, percent, without_gaps

Reference = tuple[Callable[[int], list[Run]], Mapping[str, Value]]
"""Makes the runs of a seed, and the published values by query; their reports hold `accuracy` rows."""


def reproduce_zero_shot(
    benchmark: Benchmark,
    request: Request,
    name: str = "zero-shot",
    references: Mapping[str, Reference] | None = None,
    notes: Sequence[str] = (),
) -> Outcome:
    """Accuracy of each query that a method can answer, a dash where it cannot.

    Args:
        references: further rows that do not compete, e.g. supervised classifiers.
        notes: what the table has to say beside the benchmark's own notes.
    """
    outcome = Outcome(benchmark.size)
    columns = {benchmark.letter(query): query for query in queries_shown(benchmark)}

    def report(method: str, seed: int, run: Run) -> list[Report]:
        return [accuracies(benchmark, request, method, seed, run)]

    summaries = dict(summaries_by_method(benchmark, request, outcome, report))
    views = any(one.metric.endswith(DEVIATION) for of_method in summaries.values() for one in of_method)
    rows = {}
    for method, of_method in summaries.items():
        published = benchmark.published.get(paper_name(method), {})
        cells = {
            column: _cell(of_method, method, query, published.get(query), views) for column, query in columns.items()
        }
        rows[method] = without_gaps(cells)
    for label, (make, published) in (references or {}).items():
        runs = [run for seed in request.seeds for run in make(seed)]
        of_runs = summarise(outcome.execute(runs, request.runs, request.progress))
        method = of_runs[0].method
        cells = {column: percent(of_runs, method, query, published.get(query)) for column, query in columns.items()}
        rows[label] = without_gaps(cells)
    deviations = "over views of the same rows, the mean over seeds of each" if views else "over seeds"
    notes = (
        *notes,
        f"{request.seeds_note}; standard deviations are {deviations}",
        "mean(...) is the mean of the single embeddings, without a fusion network",
        *benchmark.notes,
    )
    title = f"{benchmark.name}: zero-shot accuracy (%), ours (published)"
    table = ResultTable(title, tuple(columns), rows, notes, references=tuple(references or ()))
    outcome.add(name, table, bars(list(columns), *means_and_stds(rows, table.columns)))
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
