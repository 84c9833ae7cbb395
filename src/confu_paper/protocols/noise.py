"""Accuracy when a modality is disturbed at test time: Gaussian noise (Tables 6 and 9) and other corruptions."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure

from confu.data.corruptions import Corruption, GaussianNoise
from confu.embeddings import EmbeddingTable
from confu.evaluation import ReportRow, Summary, ZeroShotResult, summarise
from confu.evaluation.plots import lines
from confu.methods import paper_name
from confu.plan import Subset
from confu_paper.experiments.benchmark import Benchmark, Conditions, zero_shot
from confu_paper.experiments.published import Value
from confu_paper.experiments.run import Outcome, measured
from confu_paper.experiments.tables import Cell, ResultTable, percent, without_gaps
from confu_paper.experiments.views import mean_rows

SNR = "signal-to-noise ratio"
AVAILABLE = "what is there"
"""The query of a model that is asked with every modality that a row has: fused where all are there, else single."""


def snr_conditions(modalities: Sequence[str], levels: Sequence[float]) -> dict[str, tuple[str, Corruption]]:
    """Gaussian noise on each modality at each signal-to-noise ratio in dB."""
    return {
        f"{modality} {level:g} dB": (modality, GaussianNoise(snr_db=level))
        for modality in modalities
        for level in levels
    }


def reproduce_noise(
    benchmark: Benchmark,
    methods: Sequence[str],
    seeds: Sequence[int],
    runs: Path,
    conditions: Conditions,
    progress: bool = True,
    name: str = "noise",
    stored: str = "noise",
    published: Mapping[str, Mapping[str, Mapping[str, Value]]] | None = None,
) -> Outcome:
    """Zero-shot accuracy under each condition; the models are those that were trained on clean data.

    Args:
        benchmark: what to measure on.
        methods: names in `confu.methods.METHODS`.
        seeds: one run each; the noise of a row depends on the seed too.
        runs: folder of the runs; finished ones, and their finished measurements, are read.
        conditions: what is disturbed, and how; see `snr_conditions`.
        progress: whether to draw progress bars.
        name: of the table.
        stored: of the measurements beside the runs, which tables of the same conditions share.
        published: the paper's values by condition, method and query.
    """
    outcome = Outcome(benchmark.size)
    settings = benchmark.measurement(
        {"conditions": {label: [modality, str(how)] for label, (modality, how) in conditions.items()}}
    )
    published = {"clean": benchmark.published, **(published or {})} if benchmark.rows is not None else published or {}
    rows: dict[str, dict[str, Cell]] = {}
    summaries: list[Summary] = []
    for method in methods:
        reports = []
        for seed in seeds:
            for run in benchmark.runs(method, seed, {}):
                measure = partial(_measure, benchmark, method, seed, conditions)
                reports.append(measured(run, runs, benchmark.stored(stored), settings, measure, progress))
        outcome.reports += reports
        found = summarise(reports)
        summaries += found
        for query in dict.fromkeys(summary.query for summary in found if summary.metric != SNR):
            theirs = {label: of.get(paper_name(method), {}).get(query) for label, of in published.items()}
            rows[f"{method} ({benchmark.letter(query)})"] = without_gaps(
                {label: percent(found, method, query, theirs.get(label), _metric(label))
                 for label in ("clean", *conditions)}
            )  # fmt: skip
    table = ResultTable(
        f"{benchmark.name}: zero-shot accuracy (%) under corruption at test time",
        ("clean", *conditions), rows,
        (f"seeds {', '.join(map(str, seeds))}; models trained on clean data, only the test inputs are disturbed",
         *(f"{label}: {how} of {modality}{_decibels(summaries, label)}"
           for label, (modality, how) in conditions.items()),
         *benchmark.notes),
    )  # fmt: skip
    outcome.add(name, table)
    for modality in dict.fromkeys(modality for modality, _ in conditions.values()):
        outcome.figures[f"{name}-{modality}"] = _figure(benchmark, rows, conditions, modality)
    return outcome


def _measure(benchmark: Benchmark, method: str, seed: int, conditions: Conditions, folder: Path) -> list[ReportRow]:
    model = benchmark.model(folder)
    queries = benchmark.queries_of(model)
    target, prompts = benchmark.classes
    found: list[ReportRow] = []

    def rows_of(label: str, table: EmbeddingTable) -> list[ReportRow]:
        result = zero_shot(model, table, prompts, target, _with_rows(table, queries), method, seed)
        rows = [
            ReportRow(_metric(label), row.query, row.target, row.value, row.count, method, seed) for row in result.rows
        ]
        if (whole := _available(table, result, queries)) is not None:
            rows.append(ReportRow(_metric(label), AVAILABLE, str(target), whole, len(table), method, seed))
        return rows

    found += mean_rows([rows_of("clean", table) for table in benchmark.test_tables(model, folder)])
    for label, tables in benchmark.disturbed_tables(model, folder, conditions, seed):
        found += mean_rows([rows_of(label, table) for table in tables])
        if benchmark.rows is not None and (ratio := benchmark.rows.snr_db(*conditions[label])) is not None:
            found.append(ReportRow(SNR, label, conditions[label][0], ratio, len(tables[0]), method, seed, note="dB"))
    return found


def _metric(label: str) -> str:
    return f"accuracy, {label}"


def _decibels(summaries: Sequence[Summary], label: str) -> str:
    """What the noise is in decibels, where that was estimated."""
    return next((f", about {one.mean:.0f} dB" for one in summaries if (one.metric, one.query) == (SNR, label)), "")


def _with_rows(table: EmbeddingTable, queries: Sequence[Subset]) -> list[Subset]:
    """The queries that some row is complete for: if a modality was dropped from all rows, none is."""

    def there(name: str) -> torch.Tensor:
        return next(table.complete[one] for one in table.subsets if one == Subset(name))

    return [query for query in queries if bool(torch.stack([there(name) for name in query]).all(dim=0).any())]


def _available(table: EmbeddingTable, result: ZeroShotResult, queries: Sequence[Subset]) -> float | None:
    """Accuracy if each row is asked with all that it has; None if nothing is missing, or a method has no answer."""
    if all(bool(mask.all()) for mask in table.complete.values()):
        return None
    credit = torch.full((len(table),), float("nan"))
    for query in sorted(queries, key=len):
        name = str(query) if str(query) in result.credit else f"mean({', '.join(query)})"
        if name in result.credit:
            credit = torch.where(result.credit[name].isnan(), credit, result.credit[name])
    return None if bool(credit.isnan().any()) else float(credit.double().mean())


def _figure(
    benchmark: Benchmark, rows: Mapping[str, Mapping[str, Cell]], conditions: Conditions, modality: str
) -> Figure:
    """Accuracy by the conditions of one modality, a curve for each method's answer with the most modalities."""
    labels = ["clean", *(label for label, (touched, _) in conditions.items() if touched == modality)]
    nan = float("nan")
    fullest = benchmark.queries[-1]
    letters = [benchmark.letter(str(fullest)), benchmark.letter(f"mean({', '.join(fullest)})")]
    shown = {label: cells for label, cells in rows.items() if any(label.endswith(f"({one})") for one in letters)}
    bands = {
        label: (
            [cells[c].mean if c in cells else nan for c in labels],
            [(cells[c].std or 0.0) if c in cells else nan for c in labels],
        )
        for label, cells in shown.items()
    }
    figure = lines(list(range(len(labels))), bands, x_label="", y_label="accuracy (%)")
    figure.axes[0].set_xticks(range(len(labels)), labels, rotation=30, ha="right", rotation_mode="anchor")
    return figure
