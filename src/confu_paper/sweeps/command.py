"""`confu sweep`: a grid or a search of a recipe's settings, with the table and figures that suit what was changed."""

from collections.abc import Sequence

from confu.checks import check_known
from confu.methods import METHODS, Tweaks
from confu_paper.experiments.benchmark import Benchmark
from confu_paper.experiments.paper import Request, benchmark
from confu_paper.experiments.run import Outcome, Run
from confu_paper.sweeps.grid import sweep
from confu_paper.sweeps.grid_tables import curve_view, mask_view, pareto_view, sweep_table
from confu_paper.sweeps.search import search
from confu_paper.sweeps.space import parse_grid, parse_space

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
    if bench.rows is not None:
        raise ValueError(
            f"{on} only evaluates models that are trained on other data, so there are no settings of its own to try"
        )
    objective = objective or _objective(bench, method)
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
        means = (f"mean {bench.score} {size} -> 1" for size in (1, 2))
        outcome.add(f"pareto-{name}", *pareto_view(result, *means))
    if len(result.grid.get("mask_ratio", ())) > 1 and 0 in result.grid["mask_ratio"]:
        queries = bench.queries if bench.score == "accuracy" else ("mean 1 -> 1", "mean 2 -> 1")
        outcome.add(f"mask-{name}", *mask_view(result, [_number(bench, str(query)) for query in queries]))
    for setting in CURVES:
        if len(result.grid.get(setting, ())) > 1:
            outcome.add(f"{setting}-{name}", *curve_view(result, setting, objective))
    return outcome


def _objective(bench: Benchmark, method: str) -> str:
    """The number of the fullest query that the method answers."""
    own = METHODS[method].fused or METHODS[method].score != "cosine"
    if bench.score != "accuracy":
        return _number(bench, f"mean {2 if own else 1} -> 1")
    query = bench.queries[-1]
    mean = ", ".join(query)
    return f"accuracy {query}" if own else f"accuracy mean({mean})"


def _number(bench: Benchmark, query: str) -> str:
    """The name of a query's number in a sweep: `accuracy image`, `mean recall@10 2 -> 1`."""
    mean, _, sizes = query.partition("mean ")
    return f"mean {bench.score} {sizes}" if not mean and sizes else f"{bench.score} {query}"
