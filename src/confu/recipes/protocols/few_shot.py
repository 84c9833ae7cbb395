"""Few-shot probes: accuracy from a handful of labelled rows a class, beside zero-shot (Figs 4 and 9 to 13)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from confu.embeddings import EmbeddingTable
from confu.evaluation import ReportRow, summarise
from confu.evaluation.few_shot import evaluate_few_shot
from confu.evaluation.plots import lines
from confu.inference import embed
from confu.models import load_model
from confu.recipes.benchmark import Benchmark, without_target
from confu.recipes.run import Outcome, execute, measured
from confu.recipes.tables import Cell, ResultTable, percent, without_gaps

SHOTS = (1, 2, 4, 8, 16)
REPEATS = 10


def reproduce_few_shot(
    benchmark: Benchmark,
    methods: Sequence[str],
    seeds: Sequence[int],
    runs: Path,
    progress: bool = True,
    shots: Sequence[int] = SHOTS,
    name: str = "few-shot",
) -> Outcome:
    """Probes on n rows a class, the same rows for every method, with zero-shot accuracy as n = 0.

    Args:
        benchmark: what to measure on.
        methods: names in `confu.recipes.methods.METHODS`.
        seeds: one run each; the labelled rows are the same for all of them, as for all methods.
        runs: folder of the runs; finished ones, and their finished measurements, are read.
        progress: whether to draw progress bars.
        shots: labelled rows a class.
        name: of the table.
    """
    outcome = Outcome(benchmark.size)
    settings = {"shots": list(shots), "repeats": REPEATS}
    rows: dict[str, dict[str, Cell]] = {}
    for method in methods:
        reports = []
        for seed in seeds:
            for run in benchmark.runs(method, seed, {}):
                measure = partial(_measure, benchmark, method, seed, shots)
                reports.append(measured(run, runs, "few-shot", settings, measure, progress))
                outcome.reports.append(reports[-1])
                reports.append(execute(run, runs, progress))  # for zero-shot
        found = summarise(reports)
        features = dict.fromkeys(one.query for one in found if one.metric.endswith("-shot accuracy"))
        for feature in features:
            cells = {f"{n} shots": percent(found, method, feature, metric=f"{n}-shot accuracy") for n in shots}
            zero = percent(found, method, feature, target=str(benchmark.target))
            rows[f"{method} ({benchmark.letter(feature)})"] = without_gaps({"zero-shot": zero, **cells})
    table = ResultTable(
        f"{benchmark.name}: few-shot accuracy (%)",
        ("zero-shot", *(f"{n} shots" for n in shots)),
        rows,
        (
            f"seeds {', '.join(map(str, seeds))}; the mean over {REPEATS} draws of labelled rows from the validation "
            "rows, which every method shares; measured on all test rows",
            *benchmark.notes,
        ),
    )
    outcome.add(name, table)
    for query in benchmark.queries:
        letter = benchmark.letter(str(query))
        fallback = f"concat({', '.join(query)})"  # of a method without fusion
        series = {}
        for method in methods:
            label = next((one for one in (f"{method} ({letter})", f"{method} ({fallback})") if one in rows), None)
            if label is not None:
                series[label] = [rows[label][f"{n} shots"] for n in shots]
        stars = {label: rows[label]["zero-shot"].mean for label in series if "zero-shot" in rows[label]}
        bands = {
            label: ([one.mean for one in cells], [one.std or 0.0 for one in cells]) for label, cells in series.items()
        }
        if bands:
            figure = lines(list(shots), bands, x_label="labelled rows a class", log_x=True, stars=stars)
            outcome.figures[f"{name}-{'-'.join(query)}"] = figure
    return outcome


def _measure(benchmark: Benchmark, method: str, seed: int, shots: Sequence[int], folder: Path) -> list[ReportRow]:
    model = load_model(folder / "best")
    names = benchmark.asked_of(model.plan.modalities)
    support = embed(model, benchmark.splits(names, seed).validation)
    queries = without_target(EmbeddingTable.load(folder / "test.parquet"), names)
    return evaluate_few_shot(support, queries, shots=shots, repeats=REPEATS, method=method, seed=seed).rows
