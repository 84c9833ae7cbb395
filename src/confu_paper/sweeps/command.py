"""`confu sweep`: a grid or a search of a recipe's settings, with the table and figures that suit what was changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from confu.checks import check_known
from confu.methods import METHODS, Tweaks
from confu_paper.experiments.benchmark import Benchmark, Request
from confu_paper.experiments.paper import benchmark
from confu_paper.experiments.run import Outcome, Run
from confu_paper.sweeps.figures import search_figure
from confu_paper.sweeps.grid import parse_grid, sweep
from confu_paper.sweeps.search import parse_space, search
from confu_paper.sweeps.tables import curve_view, mask_view, pareto_view, search_table, sweep_table

CURVES = ("dim", "fusion_depth", "fusion_dim", "lr", "temperature", "epochs", "batch_size", "weight_decay")


@dataclass(frozen=True)
class Changes:
    """The settings to try.

    Attributes:
        method: one of `METHODS`.
        grid: as `parse_grid` reads it; the settings of all trials if there is a space, with one value each.
        space: as `parse_space` reads it; empty for a grid.
        trials: of a search.
        objective: name of the validation number that chooses; None for the accuracy with the fullest query.
    """

    method: str = "confu"
    grid: Sequence[str] = ()
    space: Sequence[str] = ()
    trials: int = 20
    objective: str | None = None


def tune(on: str, changes: Changes, request: Request) -> Outcome:
    """Sweep a grid, or search a space, of a method's settings on a recipe, e.g. `"xor"`.

    Raises:
        ValueError: if nothing is to be changed, or for a setting that is unknown or that the method lacks.
    """
    method = changes.method
    check_known("method", method, METHODS)
    if not changes.grid and not changes.space:
        raise ValueError("nothing to change: give --set NAME=VALUES for a grid or --search NAME=RANGE for a search")
    bench = benchmark(on, request)
    if bench.rows is not None:
        raise ValueError(
            f"{on} only evaluates models that are trained on other data, so there are no settings of its own to try"
        )
    objective = changes.objective or _objective(bench, method)
    settings = [part.split("=")[0] for part in (*changes.grid, *changes.space)]
    name = "-".join([bench.name, bench.size, method, *settings])
    outcome, grid = Outcome(bench.size), parse_grid(changes.grid)

    def make(tweaks: Tweaks, seed: int) -> list[Run]:
        return bench.runs(method, seed, tweaks)

    if changes.space:
        if several := [key for key, values in grid.items() if len(values) > 1]:
            raise ValueError(f"{', '.join(several)}: beside --search, --set gives one value for all trials")
        fixed = {key: values[0] for key, values in grid.items()}
        found = search(make, parse_space(changes.space), objective, changes.trials, name, request, fixed)
        outcome.add(f"search-{name}", search_table(found), search_figure(found))
        return outcome
    result = sweep(make, grid, name, request)
    outcome.add(f"sweep-{name}", sweep_table(result, objective))
    if len(result.grid.get("fused_weight", ())) > 1:
        outcome.add(f"pareto-{name}", *pareto_view(result, *(f"mean {bench.score} {size} -> 1" for size in (1, 2))))
    if len(result.grid.get("mask_ratio", ())) > 1 and 0 in result.grid["mask_ratio"]:
        numbers = [f"accuracy {query}" for query in bench.queries]
        if bench.score != "accuracy":
            numbers = [f"mean {bench.score} {size} -> 1" for size in (1, 2)]
        outcome.add(f"mask-{name}", *mask_view(result, numbers))
    for setting in CURVES:
        if len(result.grid.get(setting, ())) > 1:
            outcome.add(f"{setting}-{name}", *curve_view(result, setting, objective))
    return outcome


def _objective(bench: Benchmark, method: str) -> str:
    """The number of the fullest query that the method answers."""
    fused = METHODS[method].fused or METHODS[method].score != "cosine"
    if bench.score != "accuracy":
        return f"mean {bench.score} {2 if fused else 1} -> 1"
    query = bench.queries[-1]
    return f"accuracy {query}" if fused else f"accuracy mean({', '.join(query)})"
