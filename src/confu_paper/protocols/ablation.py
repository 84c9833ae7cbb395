"""What λ and masking change (Tables 7 and 8, Fig 7)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from confu.evaluation import Report
from confu.methods import Tweaks
from confu_paper.experiments.benchmark import Benchmark
from confu_paper.experiments.published import VALUES, Value
from confu_paper.experiments.run import Outcome, Run
from confu_paper.experiments.tables import ResultTable
from confu_paper.sweeps.grid import Factory, sweep
from confu_paper.sweeps.grid_result import SweepResult
from confu_paper.sweeps.grid_tables import MASK_COLUMNS, mask_view, pareto_view
from confu_paper.sweeps.numbers import report_numbers
from confu_paper.sweeps.space import describe

LAMBDAS = (0.1, 0.3, 0.5, 0.7, 0.9)
MASKS = (0.0, 0.3, 0.5)
RECALL_LAMBDAS = (0.1, 0.3, 0.4, 0.5, 0.7, 0.9)  # those that Table 7 chose, 0.1, 0.4 and 0.5, among others
RECALL_MASKS = (0.0, 0.3, 0.5, 0.7)  # 0.7 is what the released code does when it is told 0.3
PROBE = "mean accuracy over classes (linear probe)"


def reproduce_lambda(
    benchmark: Benchmark,
    seeds: Sequence[int],
    runs: Path,
    progress: bool = True,
    lambdas: Sequence[float] | None = None,
    name: str = "lambda",
) -> Outcome:
    """ConFu at several λ: one-modality queries against fused ones, and the front that no other λ beats.

    Args:
        benchmark: what to measure on; the means of its `score` over 1 -> 1 and over 2 -> 1 are the two objectives.
        seeds: one run each.
        runs: folder of the runs; finished ones are read.
        progress: whether to draw progress bars.
        lambdas: weights of the fused terms, in [0, 1]; None for those of the benchmark's score.
        name: of the table and of the sweep.
    """
    if lambdas is None:
        lambdas = LAMBDAS if benchmark.score == "accuracy" else RECALL_LAMBDAS
    grid, folder = {"fused_weight": list(lambdas)}, f"{benchmark.name}-{benchmark.size}-{name}"
    result = sweep(_factory(benchmark), grid, seeds, runs, name=folder, progress=progress)
    table, figure = pareto_view(result, *_means(benchmark))
    printed = {
        (one.condition, f"test mean {one.metric} {one.query}"): one.value
        for one in VALUES
        if (one.source, one.data) == ("table7", benchmark.name)
    }
    rows = {
        label: {
            column: replace(cell, published=printed.get((label.removesuffix(" *"), column)))
            for column, cell in cells.items()
        }
        for label, cells in table.rows.items()
    }
    notes = (_choice(result, benchmark), *table.notes, *(benchmark.notes if benchmark.score != "accuracy" else ()))
    outcome = Outcome(benchmark.size)
    outcome.add(name, replace(table, rows=rows, notes=notes), figure)
    return outcome


def reproduce_mask(
    benchmark: Benchmark,
    seeds: Sequence[int],
    runs: Path,
    progress: bool = True,
    masks: Sequence[float] | None = None,
    lambdas: Sequence[float] = (0.5,),
    name: str = "mask",
) -> Outcome:
    """ConFu with and without masked features before fusion: differences by query, over λ, mask ratios and seeds.

    Our mask ratio is the share that is dropped; in the released code it is the share that is kept. Of a benchmark that
    is judged by recall the table is at mask ratio 0.3 and λ = 0.5 (Table 8), a second one, `NAME-drop70`, at 0.7,
    and the figure (Fig 7) is of both means and of a linear probe, over all λ and mask ratios.

    Args:
        benchmark: what to measure on.
        seeds: one run each.
        runs: folder of the runs; finished ones are read.
        progress: whether to draw progress bars.
        masks: shares that are dropped, 0 among them; None for those of the benchmark's score.
        lambdas: weights of the fused terms.
        name: of the table and of the sweep.
    """
    recall = benchmark.score != "accuracy"
    if masks is None:
        masks = RECALL_MASKS if recall else MASKS
    grid = {"fused_weight": list(lambdas), "mask_ratio": list(masks)}
    folder, read = f"{benchmark.name}-{benchmark.size}-{name}", _with_probe if recall else report_numbers
    result = sweep(_factory(benchmark), grid, seeds, runs, read, name=folder, progress=progress)
    outcome = Outcome(benchmark.size)
    if not recall:
        outcome.add(name, *mask_view(result, [f"accuracy {query}" for query in benchmark.queries]))
        return outcome
    summary = [*_means(benchmark), PROBE]
    _, figure = mask_view(result, summary)
    views = {name: 0.3, f"{name}-drop70": 0.7}
    for label, mask in {label: mask for label, mask in views.items() if mask in masks}.items():
        at = {"fused_weight": 0.5 if 0.5 in lambdas else lambdas[0], "mask_ratio": mask}
        table, _ = mask_view(result, [*_pairs(benchmark), *summary], at)
        table = replace(table, notes=(*table.notes, *benchmark.notes))
        # The paper's 0.3 stands beside both: its text says dropped, its code keeps.
        outcome.add(label, _beside_table8(table, benchmark.name), figure if label == name else None)
    if not outcome.tables:
        outcome.add(name, mask_view(result, [*_pairs(benchmark), *summary])[0], figure)
    return outcome


def _means(benchmark: Benchmark) -> tuple[str, str]:
    return f"mean {benchmark.score} 1 -> 1", f"mean {benchmark.score} 2 -> 1"


def _pairs(benchmark: Benchmark) -> list[str]:
    """Every query that does not hold the target, as in Table 8."""
    return [
        f"{benchmark.score} {query} -> {target}"
        for target in benchmark.modalities
        for query in benchmark.queries
        if target not in query
    ]


def _choice(result: SweepResult, benchmark: Benchmark) -> str:
    single, fused = _means(benchmark)
    best = max(result.points, key=lambda point: point.validation(single)[0] + point.validation(fused)[0])
    tests = " and ".join(f"{100 * best.test(name)[0]:.2f}" for name in (single, fused))
    return f"highest sum of both on validation rows: {describe(best.tweaks)}, with {tests} on test rows"


def _with_probe(report: Report) -> dict[str, float]:
    """The numbers of a report, and the macro accuracy of its probe on the single embeddings side by side."""
    found = report_numbers(report)
    probes = [row.value for row in report.rows if row.metric == "linear probe macro accuracy"]
    return {**found, PROBE: probes[0]} if probes else found


def _beside_table8(table: ResultTable, data: str) -> ResultTable:
    printed: Mapping[tuple[str, str], Value] = {
        (f"recall@10 {one.query} -> {one.target}", _column(one.metric, one.condition)): one.value
        for one in VALUES
        if (one.source, one.data) == ("table8", data)
    }
    rows = {
        label: {column: replace(cell, published=printed.get((label, column))) for column, cell in cells.items()}
        for label, cells in table.rows.items()
    }
    return replace(table, rows=rows)


def _column(metric: str, condition: str) -> str:
    without, masked, difference = MASK_COLUMNS
    if metric.endswith("difference"):
        return difference
    return without if condition == "mask_ratio=0" else masked


def _factory(benchmark: Benchmark) -> Factory:
    def make(tweaks: Tweaks, seed: int) -> list[Run]:
        return benchmark.runs("confu", seed, tweaks)

    return make
