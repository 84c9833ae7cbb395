"""Accuracy when a modality is disturbed at test time: Gaussian noise (Tables 6 and 9) and other corruptions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from confu.data.corruptions import Corruption, GaussianNoise
from confu.embeddings import EmbeddingTable
from confu.evaluation import Report, ReportRow, Summary, ZeroShotResult
from confu.evaluation.plots import lines
from confu.methods import paper_name
from confu.plan import Subset
from confu_paper.experiments.benchmark import (
    Benchmark,
    Conditions,
    Request,
    mean_rows,
    summaries_by_method,
    zero_shot,
)
from confu_paper.experiments.published import Value
from confu_paper.experiments.run import Outcome, Run
from confu_paper.experiments.tables import Cell, ResultTable, bands, percent, without_gaps

SNR = "signal-to-noise ratio"
AVAILABLE = "what is there"
"""The query with every modality that a row has: fused where all are there, else single."""


@dataclass(frozen=True)
class Disturbance:
    """What is disturbed, and where its measurements are kept.

    Attributes:
        conditions: name -> the modality that is disturbed, and how.
        stored: of the measurements beside the runs, which tables of the same conditions share.
        published: the paper's values by condition, method and query.
    """

    conditions: Conditions
    stored: str = "noise"
    published: Mapping[str, Mapping[str, Mapping[str, Value]]] = field(default_factory=dict)


def snr_conditions(modalities: Sequence[str], levels: Sequence[float]) -> dict[str, tuple[str, Corruption]]:
    """Gaussian noise on each modality at each signal-to-noise ratio in dB."""
    return {
        f"{modality} {level:g} dB": (modality, GaussianNoise(snr_db=level))
        for modality in modalities
        for level in levels
    }


def reproduce_noise(benchmark: Benchmark, request: Request, disturbance: Disturbance, name: str = "noise") -> Outcome:
    """Zero-shot accuracy under each condition; the models are those that were trained on clean data.

    Args:
        benchmark: to measure on.
        request: methods, seeds (which the noise of a row depends on too), runs.
        disturbance: its conditions; see `snr_conditions`.
        name: of the table.
    """
    outcome = Outcome(benchmark.size)
    conditions, published = disturbance.conditions, disturbance.published
    if benchmark.rows is not None:
        published = {"clean": benchmark.published, **published}
    settings = {"conditions": {label: [modality, str(how)] for label, (modality, how) in conditions.items()}}

    def report(method: str, seed: int, run: Run) -> list[Report]:
        measure = partial(_measure, benchmark, method, seed, conditions)
        return [benchmark.measure(run, request, disturbance.stored, settings, measure)]

    rows: dict[str, dict[str, Cell]] = {}
    everything: list[Summary] = []
    for method, summaries in summaries_by_method(benchmark, request, outcome, report):
        everything += summaries
        for query in dict.fromkeys(summary.query for summary in summaries if summary.metric != SNR):
            values = {label: of.get(paper_name(method), {}).get(query) for label, of in published.items()}
            cells = {
                label: percent(summaries, method, query, values.get(label), _metric(label))
                for label in ("clean", *conditions)
            }
            rows[f"{method} ({benchmark.letter(query)})"] = without_gaps(cells)
    table = ResultTable(
        f"{benchmark.name}: zero-shot accuracy (%) under corruption at test time",
        ("clean", *conditions),
        rows,
        (
            f"{request.seeds_note}; models trained on clean data, only the test inputs are disturbed",
            *(
                f"{label}: {how} of {modality}{_decibels(everything, label)}"
                for label, (modality, how) in conditions.items()
            ),
            *benchmark.notes,
        ),
    )
    outcome.add(name, table)
    # A curve for each method's answer with the most modalities, over the conditions of one modality.
    fullest = benchmark.queries[-1]
    letters = [benchmark.letter(str(fullest)), benchmark.letter(f"mean({', '.join(fullest)})")]
    curves = {label: cells for label, cells in rows.items() if any(label.endswith(f"({letter})") for letter in letters)}
    for modality in dict.fromkeys(modality for modality, _ in conditions.values()):
        labels = ["clean", *(label for label, (disturbed, _) in conditions.items() if disturbed == modality)]
        figure = lines(list(range(len(labels))), bands(curves, labels), x_label="", y_label="accuracy (%)")
        figure.axes[0].set_xticks(range(len(labels)), labels, rotation=30, ha="right", rotation_mode="anchor")
        outcome.figures[f"{name}-{modality}"] = figure
    return outcome


def _measure(benchmark: Benchmark, method: str, seed: int, conditions: Conditions, folder: Path) -> list[ReportRow]:
    model = benchmark.model(folder)
    queries = benchmark.queries_of(model)
    target, prompts = benchmark.classes

    def rows_of(label: str, table: EmbeddingTable) -> list[ReportRow]:
        result = zero_shot(model, table, prompts, target, _with_rows(table, queries), method, seed)
        numbers = [(row.query, row.target, row.value, row.count) for row in result.rows]
        if (accuracy := _available(table, result, queries)) is not None:
            numbers.append((AVAILABLE, str(target), accuracy, len(table)))
        return [ReportRow(_metric(label), *number, method, seed) for number in numbers]

    rows = mean_rows([rows_of("clean", table) for table in benchmark.test_tables(model, folder)])
    for label, tables in benchmark.disturbed_tables(model, folder, conditions, seed):
        rows += mean_rows([rows_of(label, table) for table in tables])
        if benchmark.rows is not None and (ratio := benchmark.rows.snr_db(*conditions[label])) is not None:
            rows.append(ReportRow(SNR, label, conditions[label][0], ratio, len(tables[0]), method, seed, note="dB"))
    return rows


def _metric(label: str) -> str:
    return f"accuracy, {label}"


def _decibels(summaries: Sequence[Summary], label: str) -> str:
    """What the noise is in decibels, where that was estimated."""
    return next((f", about {one.mean:.0f} dB" for one in summaries if (one.metric, one.query) == (SNR, label)), "")


def _with_rows(table: EmbeddingTable, queries: Sequence[Subset]) -> list[Subset]:
    """The queries that some row is complete for: if a modality was dropped from all rows, none is."""
    complete = {name: table.complete[subset] for subset in table.subsets for name in subset if not subset.is_fused}
    return [query for query in queries if bool(torch.stack([complete[name] for name in query]).all(dim=0).any())]


def _available(table: EmbeddingTable, result: ZeroShotResult, queries: Sequence[Subset]) -> float | None:
    """Accuracy if each row is a query with all that it has; None if nothing is missing, or a method has no answer."""
    if all(bool(mask.all()) for mask in table.complete.values()):
        return None
    credit = torch.full((len(table),), float("nan"))
    for query in sorted(queries, key=len):
        name = str(query) if str(query) in result.credit else f"mean({', '.join(query)})"
        if name in result.credit:
            credit = torch.where(result.credit[name].isnan(), credit, result.credit[name])
    return None if bool(credit.isnan().any()) else float(credit.double().mean())
