"""Few-shot probes: accuracy from a handful of labelled rows a class, beside zero-shot (Figs 4 and 9 to 13)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from confu.embeddings import EmbeddingTable
from confu.evaluation import ReportRow, summarise
from confu.evaluation.few_shot import evaluate_few_shot
from confu.evaluation.linear_probe import TARGET
from confu.evaluation.plots import lines
from confu.inference import embed
from confu_paper.experiments.benchmark import Benchmark
from confu_paper.experiments.run import Outcome, measured
from confu_paper.experiments.tables import Cell, ResultTable, percent, without_gaps
from confu_paper.experiments.views import accuracies, over_views

REPEATS = 10
SMALLEST = "rows of the smallest class"


def reproduce_few_shot(
    benchmark: Benchmark,
    methods: Sequence[str],
    seeds: Sequence[int],
    runs: Path,
    progress: bool = True,
    shots: Sequence[int] | None = None,
    name: str = "few-shot",
) -> Outcome:
    """Probes on n rows a class, the same rows for every method, with zero-shot accuracy as n = 0.

    Args:
        benchmark: what to measure on.
        methods: names in `confu.methods.METHODS`.
        seeds: one run each; the labelled rows are the same for all of them, as for all methods.
        runs: folder of the runs; finished ones, and their finished measurements, are read.
        progress: whether to draw progress bars.
        shots: labelled rows a class; None for the benchmark's. On rows of other data those that the smallest class
            has no row left for are left out.
        name: of the table.
    """
    outcome = Outcome(benchmark.size)
    shots = benchmark.shots if shots is None else shots
    settings = benchmark.measurement({"shots": list(shots), "repeats": REPEATS})
    rows: dict[str, dict[str, Cell]] = {}
    for method in methods:
        reports = []
        for seed in seeds:
            for run in benchmark.runs(method, seed, {}):
                measure = partial(_measure, benchmark, method, seed, shots)
                reports.append(measured(run, runs, benchmark.stored("few-shot"), settings, measure, progress))
                outcome.reports.append(reports[-1])
                reports.append(accuracies(benchmark, run, method, seed, runs, progress))
        found = summarise(reports)
        features = dict.fromkeys(one.query for one in found if one.metric.endswith("-shot accuracy"))
        for feature in features:
            cells = {f"{n} shots": percent(found, method, feature, metric=f"{n}-shot accuracy") for n in shots}
            zero = percent(found, method, feature, target=str(benchmark.target))
            rows[f"{method} ({benchmark.letter(feature)})"] = without_gaps({"zero-shot": zero, **cells})
    left_out = [n for n in shots if not any(f"{n} shots" in cells for cells in rows.values())]
    shots = [n for n in shots if n not in left_out]
    drawn = (
        "the validation rows, which every method shares; measured on all test rows"
        if benchmark.rows is None
        else "the test rows, which every method shares; measured on all the others"
    )
    table = ResultTable(
        f"{benchmark.name}: few-shot accuracy (%)",
        ("zero-shot", *(f"{n} shots" for n in shots)),
        rows,
        (
            f"seeds {', '.join(map(str, seeds))}; the mean over {REPEATS} draws of labelled rows from {drawn}",
            *([f"left out, as the smallest class has too few rows: {', '.join(map(str, left_out))} shots"]
              if left_out else []),
            *benchmark.notes,
        ),
    )  # fmt: skip
    outcome.add(name, table)
    for query in benchmark.queries:
        letter = benchmark.letter(str(query))
        fallback = f"concat({', '.join(query)})"  # of a method without fusion
        series = {}
        for method in methods:
            label = next((one for one in (f"{method} ({letter})", f"{method} ({fallback})") if one in rows), None)
            if label is not None:  # a method that asks for less may have rows for more shots
                series[label] = [rows[label].get(f"{n} shots") for n in shots]
        stars = {label: rows[label]["zero-shot"].mean for label in series if "zero-shot" in rows[label]}
        nan = float("nan")
        bands = {
            label: (
                [nan if one is None else one.mean for one in cells],
                [0.0 if one is None else one.std or 0.0 for one in cells],
            )
            for label, cells in series.items()
        }
        if bands:
            figure = lines(list(shots), bands, x_label="labelled rows a class", log_x=True, stars=stars)
            outcome.figures[f"{name}-{'-'.join(query)}"] = figure
    return outcome


def _measure(benchmark: Benchmark, method: str, seed: int, shots: Sequence[int], folder: Path) -> list[ReportRow]:
    model = benchmark.model(folder)
    tables = benchmark.test_tables(model, folder)
    if benchmark.rows is not None:
        return over_views(tables, partial(_from_the_rest, benchmark.class_names, method, seed, shots))
    (queries,) = tables
    support = embed(model, benchmark.splits(benchmark.asked_of(model.plan.modalities), seed).validation)
    return evaluate_few_shot(support, queries, shots=shots, repeats=REPEATS, method=method, seed=seed).rows


def _from_the_rest(
    names: Sequence[str] | None, method: str, seed: int, shots: Sequence[int], table: EmbeddingTable
) -> list[ReportRow]:
    """Probes on drawn rows of a table, measured on the rows that were not drawn."""
    assert table.labels is not None
    whole = table.labels.cpu()[table.rows_with(*table.subsets)]
    classes, counts = whole.unique(return_counts=True)
    smallest = int(counts.min()) if len(counts) else 0
    possible = [n for n in shots if n < smallest]
    if not possible:
        least = int(classes[counts.argmin()]) if len(counts) else None
        which = "no row has them all" if least is None else f"class {names[least] if names else least!r} has {smallest}"
        raise ValueError(
            f"{min(shots)} shots need {min(shots) + 1} rows of each class with {', '.join(map(str, table.subsets))}; "
            f"{which}. Leave such classes out, or take more rows"
        )
    found = evaluate_few_shot(table, None, None, possible, REPEATS, class_names=names, method=method, seed=seed).rows
    asked = ", ".join(map(str, table.subsets))
    return [*found, ReportRow(SMALLEST, asked, TARGET, float(smallest), len(whole), method, seed)]
