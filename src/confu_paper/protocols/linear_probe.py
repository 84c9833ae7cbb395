"""A linear probe on every embedding and on concatenations (Table 3)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from confu.embeddings import EmbeddingTable
from confu.evaluation import Report, ReportRow, summarise
from confu.evaluation.linear_probe import evaluate_linear_probe
from confu.evaluation.plots import bars
from confu.inference import embed
from confu.methods import paper_name
from confu.models import load_model
from confu_paper.experiments.benchmark import Benchmark, without_target
from confu_paper.experiments.run import Outcome, Run, execute, measured
from confu_paper.experiments.tables import Cell, ResultTable, percent, without_gaps

METRIC = "linear probe accuracy"


def reproduce_linear_probe(
    benchmark: Benchmark,
    methods: Sequence[str],
    seeds: Sequence[int],
    runs: Path,
    progress: bool = True,
    metric: str = METRIC,
    name: str = "linear-probe",
) -> Outcome:
    """Logistic regression on the embeddings of the training rows, its regularisation chosen on validation rows.

    The target of the zero-shot queries is left out, as it says the label. Where a recipe's own measurement holds
    a probe, that is read.

    Args:
        benchmark: what to measure on.
        methods: names in `confu.methods.METHODS`.
        seeds: one run each.
        runs: folder of the runs; finished ones, and their finished measurements, are read.
        progress: whether to draw progress bars.
        metric: the other is `"linear probe macro accuracy"`, that of the released code.
        name: of the table.
    """
    outcome = Outcome(benchmark.size)
    rows: dict[str, dict[str, Cell]] = {}
    for method in methods:
        reports: list[Report] = []
        for seed in seeds:
            found_runs = benchmark.runs(method, seed, {})
            reports += [_probed(benchmark, method, seed, run, runs, progress) for run in found_runs]
        outcome.reports += reports
        found = summarise(reports)
        names = dict.fromkeys(summary.query for summary in found if summary.metric == metric)
        # With a target, what is published are zero-shot accuracies.
        printed = benchmark.published.get(paper_name(method), {}) if benchmark.target is None else {}
        cells = {feature: percent(found, method, feature, printed.get(feature), metric) for feature in names}
        rows[method] = {benchmark.letter(feature): cell for feature, cell in without_gaps(cells).items()}
    columns = tuple(dict.fromkeys(feature for cells in rows.values() for feature in cells))
    beside = any(cell.published for cells in rows.values() for cell in cells.values())
    table = ResultTable(
        f"{benchmark.name}: {metric} (%)" + (", ours (published)" if beside else ""),
        columns,
        rows,
        (
            f"seeds {', '.join(map(str, seeds))}; C chosen on validation rows, then fitted on all but the test rows",
            *benchmark.notes,
        ),
    )
    nan = float("nan")
    means = {method: [cells[c].mean if c in cells else nan for c in columns] for method, cells in rows.items()}
    stds = {method: [(cells[c].std or nan) if c in cells else nan for c in columns] for method, cells in rows.items()}
    outcome.add(name, table, bars(list(columns), means, stds))
    return outcome


def _probed(benchmark: Benchmark, method: str, seed: int, run: Run, runs: Path, progress: bool) -> Report:
    own = execute(run, runs, progress)
    if any(row.metric == METRIC for row in own.rows):
        return own
    return measured(run, runs, "linear-probe", {}, partial(_measure, benchmark, method, seed), progress)


def _measure(benchmark: Benchmark, method: str, seed: int, folder: Path) -> list[ReportRow]:
    model = load_model(folder / "best")
    names = benchmark.asked_of(model.plan.modalities)
    splits = benchmark.splits(names, seed)
    test = without_target(EmbeddingTable.load(folder / "test.parquet"), names)
    train, validation = embed(model, splits.train), embed(model, splits.validation)
    return evaluate_linear_probe(train, validation, test, method=method, seed=seed).rows
