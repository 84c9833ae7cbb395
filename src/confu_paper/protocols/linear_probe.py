"""A linear probe on every embedding and on concatenations (Table 3)."""

from functools import partial
from pathlib import Path

from confu.embeddings import EmbeddingTable
from confu.evaluation import Report, ReportRow, evaluate_linear_probe
from confu.evaluation.plots import bars
from confu.inference import embed
from confu.methods import paper_name
from confu.models import load_model
from confu_paper.experiments.benchmark import Benchmark, Request, summaries_by_method, without_target
from confu_paper.experiments.run import Outcome, Run, execute, measured
from confu_paper.experiments.tables import Cell, ResultTable, means_and_stds, percent, without_gaps

METRIC = "linear probe accuracy"


def reproduce_linear_probe(
    benchmark: Benchmark, request: Request, name: str = "linear-probe", metric: str = METRIC
) -> Outcome:
    """Logistic regression on the embeddings of the training rows, its regularisation chosen on validation rows.

    The target of the zero-shot queries is left out, as it says the label. Where a recipe's own measurement holds
    a probe, that is read.

    Args:
        metric: the other is `"linear probe macro accuracy"`, that of the released code.
    """
    outcome = Outcome(benchmark.size)

    def report(method: str, seed: int, run: Run) -> list[Report]:
        own = execute(run, request.runs, request.progress)
        if any(row.metric == METRIC for row in own.rows):
            return [own]
        measure = partial(_measure, benchmark, method, seed)
        return [measured(run, request.runs, "linear-probe", {}, measure, request.progress)]

    rows: dict[str, dict[str, Cell]] = {}
    for method, summaries in summaries_by_method(benchmark, request, outcome, report):
        features = dict.fromkeys(summary.query for summary in summaries if summary.metric == metric)
        # With a target, the published values are zero-shot accuracies.
        published = benchmark.published.get(paper_name(method), {}) if benchmark.target is None else {}
        cells = {feature: percent(summaries, method, feature, published.get(feature), metric) for feature in features}
        rows[method] = {benchmark.letter(feature): cell for feature, cell in without_gaps(cells).items()}
    columns = tuple(dict.fromkeys(feature for cells in rows.values() for feature in cells))
    beside = any(cell.published for cells in rows.values() for cell in cells.values())
    title = f"{benchmark.name}: {metric} (%)" + (", ours (published)" if beside else "")
    note = f"{request.seeds_note}; C chosen on validation rows, then fitted on all but the test rows"
    table = ResultTable(title, columns, rows, (note, *benchmark.notes))
    outcome.add(name, table, bars(list(columns), *means_and_stds(rows, columns)))
    return outcome


def _measure(benchmark: Benchmark, method: str, seed: int, folder: Path) -> list[ReportRow]:
    model = load_model(folder / "best")
    names = benchmark.queried(model.plan.modalities)
    splits = benchmark.splits(names, seed)
    test = without_target(EmbeddingTable.load(folder / "test.parquet"), names)
    train, validation = embed(model, splits.train), embed(model, splits.validation)
    return evaluate_linear_probe(train, validation, test, method=method, seed=seed).rows
