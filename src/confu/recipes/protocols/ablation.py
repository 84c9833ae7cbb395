"""What λ and masking change (Tables 7 and 8, Fig 7)."""

from collections.abc import Sequence
from pathlib import Path

from confu.recipes.benchmark import Benchmark
from confu.recipes.run import Outcome, Run
from confu.recipes.sweeps.grid import Factory, sweep
from confu.recipes.sweeps.grid_tables import mask_view, pareto_view
from confu.recipes.sweeps.space import Tweaks

LAMBDAS = (0.1, 0.3, 0.5, 0.7, 0.9)
MASKS = (0.0, 0.3, 0.5)
SINGLE, FUSED = "mean accuracy 1 -> 1", "mean accuracy 2 -> 1"


def reproduce_lambda(
    benchmark: Benchmark,
    seeds: Sequence[int],
    runs: Path,
    progress: bool = True,
    lambdas: Sequence[float] = LAMBDAS,
    name: str = "lambda",
) -> Outcome:
    """ConFu at several λ: one-modality queries against fused ones, and the front that no other λ beats.

    Args:
        benchmark: what to measure on; its zero-shot accuracies are the two objectives.
        seeds: one run each.
        runs: folder of the runs; finished ones are read.
        progress: whether to draw progress bars.
        lambdas: weights of the fused terms, in [0, 1].
        name: of the table and of the sweep.
    """
    outcome = Outcome(benchmark.size)
    result = sweep(
        _factory(benchmark),
        {"fused_weight": list(lambdas)},
        seeds,
        runs,
        name=_folder(benchmark, name),
        progress=progress,
    )
    outcome.add(name, *pareto_view(result, SINGLE, FUSED))
    return outcome


def reproduce_mask(
    benchmark: Benchmark,
    seeds: Sequence[int],
    runs: Path,
    progress: bool = True,
    masks: Sequence[float] = MASKS,
    lambdas: Sequence[float] = (0.5,),
    name: str = "mask",
) -> Outcome:
    """ConFu with and without masked features before fusion: differences by query, over λ, mask ratios and seeds.

    Our mask ratio is the share that is dropped; in the released code it is the share that is kept.

    Args:
        benchmark: what to measure on.
        seeds: one run each.
        runs: folder of the runs; finished ones are read.
        progress: whether to draw progress bars.
        masks: shares that are dropped, 0 among them.
        lambdas: weights of the fused terms.
        name: of the table and of the sweep.
    """
    outcome = Outcome(benchmark.size)
    grid = {"fused_weight": list(lambdas), "mask_ratio": list(masks)}
    result = sweep(_factory(benchmark), grid, seeds, runs, name=_folder(benchmark, name), progress=progress)
    outcome.add(name, *mask_view(result, [f"accuracy {query}" for query in benchmark.queries]))
    return outcome


def _factory(benchmark: Benchmark) -> Factory:
    def make(tweaks: Tweaks, seed: int) -> list[Run]:
        return benchmark.runs("confu", seed, tweaks)

    return make


def _folder(benchmark: Benchmark, name: str) -> str:
    return f"{benchmark.name}-{benchmark.size}-{name}"
