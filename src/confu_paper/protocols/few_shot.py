"""Few-shot probes: accuracy from a handful of labelled rows a class, beside zero-shot (Figs 4 and 9 to 13)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from confu.embeddings import EmbeddingTable
from confu.evaluation import Report, ReportRow, evaluate_few_shot
from confu.evaluation.linear_probe import TARGET
from confu.evaluation.plots import lines
from confu.inference import embed
from confu_paper.experiments.benchmark import Benchmark, Request, accuracies, mean_rows, summaries_by_method
from confu_paper.experiments.run import Outcome, Run
from confu_paper.experiments.tables import Cell, ResultTable, bands, percent, without_gaps

REPEATS = 10
SMALLEST = "rows of the smallest class"


def reproduce_few_shot(
    benchmark: Benchmark, request: Request, name: str = "few-shot", shots: Sequence[int] | None = None
) -> Outcome:
    """Probes on n rows a class, the same rows for every method and seed, with zero-shot accuracy as n = 0.

    Args:
        shots: labelled rows a class; None for the benchmark's. On rows of other data those that the smallest class
            has no row left for are left out.
    """
    outcome = Outcome(benchmark.size)
    requested = tuple(benchmark.shots if shots is None else shots)
    settings = {"shots": list(requested), "repeats": REPEATS}

    def report(method: str, seed: int, run: Run) -> list[Report]:
        measure = partial(_measure, benchmark, method, seed, requested)
        few = benchmark.measure(run, request, "few-shot", settings, measure)
        return [few, accuracies(benchmark, request, method, seed, run)]

    rows: dict[str, dict[str, Cell]] = {}
    for method, summaries in summaries_by_method(benchmark, request, outcome, report):
        features = dict.fromkeys(summary.query for summary in summaries if summary.metric.endswith("-shot accuracy"))
        for feature in features:
            cells = {f"{n} shots": percent(summaries, method, feature, metric=f"{n}-shot accuracy") for n in requested}
            zero = percent(summaries, method, feature, target=str(benchmark.target))
            rows[f"{method} ({benchmark.letter(feature)})"] = without_gaps({"zero-shot": zero, **cells})
    left_out = [n for n in requested if not any(f"{n} shots" in cells for cells in rows.values())]
    used = [n for n in requested if n not in left_out]
    drawn = (
        "the validation rows, which every method shares; measured on all test rows"
        if benchmark.rows is None
        else "the test rows, which every method shares; measured on all the others"
    )
    notes = [f"{request.seeds_note}; the mean over {REPEATS} draws of labelled rows from {drawn}"]
    if left_out:
        notes.append(f"left out, as the smallest class has too few rows: {', '.join(map(str, left_out))} shots")
    columns = [f"{n} shots" for n in used]
    title = f"{benchmark.name}: few-shot accuracy (%)"
    outcome.add(name, ResultTable(title, ("zero-shot", *columns), rows, (*notes, *benchmark.notes)))
    for query in benchmark.queries:
        series = {}
        for method in request.chosen():
            # A method without fusion has the concatenation in place of the fused embedding.
            letters = (benchmark.letter(str(query)), benchmark.letter(f"concat({', '.join(query)})"))
            labels = [f"{method} ({letter})" for letter in letters if f"{method} ({letter})" in rows]
            series |= {label: rows[label] for label in labels[:1]}
        stars = {label: cells["zero-shot"].mean for label, cells in series.items() if "zero-shot" in cells}
        if series:
            figure = lines(used, bands(series, columns), x_label="labelled rows a class", log_x=True, stars=stars)
            outcome.figures[f"{name}-{'-'.join(query)}"] = figure
    return outcome


def _measure(benchmark: Benchmark, method: str, seed: int, shots: Sequence[int], folder: Path) -> list[ReportRow]:
    model = benchmark.model(folder)
    tables = benchmark.test_tables(model, folder)
    if benchmark.rows is not None:
        names = benchmark.class_names
        return mean_rows([_from_the_rest(names, method, seed, shots, table) for table in tables])
    (queries,) = tables
    support = embed(model, benchmark.splits(benchmark.queried(model.plan.modalities), seed).validation)
    return evaluate_few_shot(support, queries, shots=shots, repeats=REPEATS, method=method, seed=seed).rows


def _from_the_rest(
    names: Sequence[str] | None, method: str, seed: int, shots: Sequence[int], table: EmbeddingTable
) -> list[ReportRow]:
    """Probes on drawn rows of a table, measured on the rows that were not drawn."""
    assert table.labels is not None
    subsets = ", ".join(map(str, table.subsets))
    labels = table.labels.cpu()[table.rows_with(*table.subsets)]
    classes, counts = labels.unique(return_counts=True)
    smallest = int(counts.min()) if len(counts) else 0
    possible = [n for n in shots if n < smallest]
    if not possible:
        least = int(classes[counts.argmin()]) if len(counts) else None
        which = "no row has them all" if least is None else f"class {names[least] if names else least!r} has {smallest}"
        raise ValueError(
            f"{min(shots)} shots need {min(shots) + 1} rows of each class with {subsets}; {which}. Leave such classes "
            "out, or take more rows"
        )
    result = evaluate_few_shot(table, None, None, possible, REPEATS, class_names=names, method=method, seed=seed)
    return [*result.rows, ReportRow(SMALLEST, subsets, TARGET, float(smallest), len(labels), method, seed)]
