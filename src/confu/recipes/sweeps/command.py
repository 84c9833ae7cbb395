"""`confu sweep`: a grid or a search of a recipe's settings, with the table and figures that suit what was changed."""

from collections.abc import Sequence

from confu.checks import check_known
from confu.recipes.benchmark import Benchmark
from confu.recipes.methods import METHODS
from confu.recipes.paper import Request, benchmark
from confu.recipes.run import Outcome, Run
from confu.recipes.sweeps.grid import sweep
from confu.recipes.sweeps.grid_tables import curve_view, mask_view, pareto_view, sweep_table
from confu.recipes.sweeps.search import search
from confu.recipes.sweeps.space import Tweaks, parse_grid, parse_space

CURVES = ("dim", "fusion_depth", "fusion_dim", "lr", "temperature", "epochs", "batch_size", "weight_decay")


def tune(
    on: str,
    method: str,
    grid: Sequence[str],
    space: Sequence[str],
    trials: int,
    objective: str | None,
    request: Request,
) -> Outcome:
    """Sweep a grid, or search a space, of a method's settings.

    Args:
        on: the recipe, e.g. `"xor"`.
        method: one of `METHODS`.
        grid: as `parse_grid` reads it; the settings of all trials if there is a space, with one value each.
        space: as `parse_space` reads it; empty for a grid.
        trials: of a search.
        objective: name of the validation number that chooses; None for the accuracy with the fullest query.
        request: size, seeds and folders.

    Raises:
        ValueError: if nothing is to be changed, or for a setting that is unknown or that the method lacks.
    """
    check_known("method", method, METHODS)
    if not grid and not space:
        raise ValueError("nothing to change: give --set NAME=VALUES for a grid or --search NAME=RANGE for a search")
    bench = benchmark(on, request)
    objective = objective or f"accuracy {_fullest(bench, method)}"
    name = f"{bench.name}-{bench.size}-{method}-{'-'.join(part.split('=')[0] for part in (*grid, *space))}"
    outcome = Outcome(bench.size)

    def make(tweaks: Tweaks, seed: int) -> list[Run]:
        return bench.runs(method, seed, tweaks)

    if space:
        fixed = parse_grid(grid)
        if several := [key for key, values in fixed.items() if len(values) > 1]:
            raise ValueError(f"{', '.join(several)}: beside --search, --set gives one value for all trials")
        tweaks = {key: values[0] for key, values in fixed.items()}
        found = search(
            make, parse_space(space), objective, trials, request.runs, run_seeds=tuple(request.seeds), fixed=tweaks,
            name=name, progress=request.progress,
        )  # fmt: skip
        outcome.add(f"search-{name}", found.to_table([objective]), found.to_figure())
        return outcome
    result = sweep(make, parse_grid(grid), request.seeds, request.runs, name=name, progress=request.progress)
    outcome.add(f"sweep-{name}", sweep_table(result, objective, [], [objective]))
    if len(result.grid.get("fused_weight", ())) > 1:
        outcome.add(f"pareto-{name}", *pareto_view(result, "mean accuracy 1 -> 1", "mean accuracy 2 -> 1"))
    if len(result.grid.get("mask_ratio", ())) > 1 and 0 in result.grid["mask_ratio"]:
        outcome.add(f"mask-{name}", *mask_view(result, [f"accuracy {query}" for query in bench.queries]))
    for setting in CURVES:
        if len(result.grid.get(setting, ())) > 1:
            outcome.add(f"{setting}-{name}", *curve_view(result, setting, objective))
    return outcome


def _fullest(bench: Benchmark, method: str) -> str:
    query = bench.queries[-1]
    own = METHODS[method].fused or METHODS[method].score != "cosine"
    return str(query) if own else f"mean({', '.join(query)})"
