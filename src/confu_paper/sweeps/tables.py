"""What a sweep shows, as tables and figures: λ's Pareto front, what masking changes, curves, and a search's trials."""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from confu.checks import check_known
from confu.evaluation.plots import lines
from confu.methods import Tweaks, Value
from confu_paper.experiments.tables import Cell, ResultTable, bands
from confu_paper.sweeps.figures import boxes, pareto, pareto_front
from confu_paper.sweeps.grid import Point, SweepResult, describe
from confu_paper.sweeps.numbers import is_share, lower_is_better
from confu_paper.sweeps.search import SearchResult, space_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHOICE_NOTE = "test numbers are shown and choose nothing"
MASK_COLUMNS = ("without mask", "with mask", "Δ")


def sweep_table(result: SweepResult, choose_by: str) -> ResultTable:
    """Every point with the number that chooses, on validation and on test rows; the chosen one is marked."""
    chosen = result.best(choose_by)
    rows = {
        describe(point.tweaks) + (" (chosen)" if point.tweaks == chosen.tweaks else ""): _cells(point, [choose_by])
        for point in result.points
    }
    way = "lowest" if lower_is_better(choose_by) else "highest"
    mean, std = chosen.validation(choose_by)
    exactly = f"{mean:.4g}" if std is None else f"{mean:.4g} ± {std:.2g}"
    notes = (f"chosen: the {way} mean of validation {choose_by}, {exactly}; {CHOICE_NOTE}", _seeds(result))
    return _table(f"Sweep of {', '.join(_varied(result) or result.grid)}", rows, [choose_by], notes)


def pareto_view(
    result: SweepResult, x: str = "mean recall@10 1 -> 1", y: str = "mean recall@10 2 -> 1"
) -> "tuple[ResultTable, Figure]":
    """Two numbers that a setting trades against each other, with the points that no other one beats (Table 7).

    The front is that of the validation numbers: a point is on it if none is as good in both and better in one.

    Raises:
        ValueError: if a number is not there, or one is better when it is lower: the front is of numbers to raise.
    """
    for name in (x, y):
        if lower_is_better(name):
            raise ValueError(
                f"{name} is better when it is lower; the front is of two numbers that are better when higher"
            )
    pairs = [(100 * point.validation(x)[0], 100 * point.validation(y)[0]) for point in result.points]
    front = set(pareto_front(pairs))
    rows = {
        describe(point.tweaks) + (" *" if i in front else ""): _cells(point, [x, y])
        for i, point in enumerate(result.points)
    }
    names = _varied(result) or list(result.grid)
    notes = (
        f"* on the Pareto front of the two validation numbers; {CHOICE_NOTE}",
        f"the figure's labels are {' / '.join(names)}",
        _seeds(result),
    )
    labels = [" / ".join(str(point.tweaks[name]) for name in names) for point in result.points]
    figure = pareto(pairs, labels, x_label=f"validation {x} (%)", y_label=f"validation {y} (%)")
    return _table(f"{x} against {y}", rows, [x, y], notes), figure


def mask_differences(result: SweepResult, names: Sequence[str], at: Tweaks | None = None) -> dict[str, list[float]]:
    """With mask less without, of test numbers, for each mask ratio above 0, other settings and seed (Appendix B.3).

    The two that are compared have everything else in common, the seed too.

    Args:
        result: of a sweep with `mask_ratio` 0 and others.
        names: of the test numbers.
        at: settings to keep to, e.g. `{"fused_weight": 0.5, "mask_ratio": 0.3}`; all by default.

    Returns:
        name -> one difference for each pair; fractions for shares.

    Raises:
        ValueError: if the sweep lacks mask ratio 0 or another one, or has nothing at `at`.
    """
    return {name: [after - before for before, after in pairs] for name, pairs in _mask_pairs(result, names, at).items()}


def mask_view(result: SweepResult, names: Sequence[str], at: Tweaks | None = None) -> "tuple[ResultTable, Figure]":
    """Test numbers without and with mask and their difference (Table 8), and its distribution by number (Fig 7).

    Arguments and errors are those of `mask_differences`; the boxes of the figure are over all settings.
    """
    rows, count = {}, 0
    for name, pairs in _mask_pairs(result, names, at).items():
        before, after = zip(*pairs)
        columns = (before, after, [b - a for a, b in pairs])
        rows[name] = {column: _cell(name, values) for column, values in zip(MASK_COLUMNS, columns)}
        count = len(pairs)
    settings = describe(at) if at else "all mask ratios above 0 and all other settings"
    notes = (
        f"mean and standard deviation over {count} pairs ({settings}, seeds {', '.join(map(str, result.seeds))}); the "
        "two of a pair have their other settings and their seed in common",
    )
    title = "Test numbers (shares in %) without and with masked features"
    differences = mask_differences(result, names)
    groups = {name: [_scaled(name, value) for value in values] for name, values in differences.items()}
    figure = boxes(groups, y_label="with mask less without (points)")
    return ResultTable(title, MASK_COLUMNS, rows, notes, row_header="number"), figure


def curve_view(result: SweepResult, over: str, name: str) -> "tuple[ResultTable, Figure]":
    """A test number over the values of one setting, a curve for each combination of the others (Fig 6).

    Args:
        result: of a sweep.
        over: the setting along the axis, e.g. `dim`, `fusion_depth` or `fusion_dim`.
        name: of the test number.

    Raises:
        ValueError: if the sweep has no such setting or number.
    """
    check_known("setting of the sweep", over, result.grid)
    values = [value for value in result.grid[over] if any(point.tweaks[over] == value for point in result.points)]
    rows: dict[str, dict[str, Cell]] = {}
    for point in result.points:
        others = {key: value for key, value in point.tweaks.items() if key != over and key in _varied(result)}
        cell = _cell(name, point.values("test", name))
        rows.setdefault(describe(others) or name, {})[describe({over: point.tweaks[over]})] = cell
    columns = tuple(describe({over: value}) for value in values)
    unit = f"{name} (%)" if is_share(name) else name
    table = ResultTable(f"Test {unit} by {over}", columns, rows, (_seeds(result),), row_header="other settings")
    xs = [float(value) for value in values]
    wide = min(xs) > 0 and max(xs) / min(xs) >= 8
    return table, lines(xs, bands(rows, columns), x_label=over, y_label=unit, log_x=wide)


def search_table(result: SearchResult, top: int = 10) -> ResultTable:
    """The best trials, best first; the test number of the first one only, as it must not choose among the others."""
    name, ranked = result.objective, result.ranked()[:top]
    best = ranked[0]
    columns = (f"validation {name}", f"test {name}")
    rows = {
        f"trial {trial.number}: {describe(trial.tweaks)}": {columns[0]: _cell(name, [trial.value])} for trial in ranked
    }
    rows[next(iter(rows))][columns[1]] = _cell(name, Point(best.tweaks, best.measured).values("test", name))
    seeds = ", ".join(map(str, result.run_seeds))
    notes = [
        f"the best {len(ranked)} of {len(result.trials)} trials by {columns[0]}, the first with {best.value:.4g}; "
        f"seeds {seeds}",
        "drawn from " + ", ".join(f"{key}={space_text(values)}" for key, values in result.space.items()),
        "test numbers are those of the best trial, looked at after the choice",
    ]
    if result.failed:
        notes.append(f"{len(result.failed)} more trials failed: {', '.join(result.failed)}")
    lower = columns if lower_is_better(name) else ()
    title = f"Search over {', '.join(result.space)} (shares in %)"
    return ResultTable(title, columns, rows, tuple(notes), lower_is_better=lower, row_header="trial")


def _mask_pairs(result: SweepResult, names: Sequence[str], at: Tweaks | None) -> dict[str, list[tuple[float, float]]]:
    at = dict(at or {})
    for key in ("mask_ratio", *at):
        check_known("setting of the sweep", key, result.grid)

    def rest(tweaks: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
        return tuple((key, value) for key, value in tweaks.items() if key != "mask_ratio")

    without = {(rest(one.tweaks), one.seed): one.test for one in result.measured if one.tweaks["mask_ratio"] == 0}
    pairs = [
        (without[rest(one.tweaks), one.seed], one.test)
        for one in result.measured
        if one.tweaks["mask_ratio"] != 0
        and all(one.tweaks[key] == value for key, value in at.items())
        and (rest(one.tweaks), one.seed) in without
    ]
    if not pairs:
        raise ValueError(
            f"sweep {result.name} has no runs with and without mask to compare{' at ' + describe(at) if at else ''}: "
            "sweep mask_ratio=0,0.3 or so"
        )
    for numbers in (numbers for pair in pairs for numbers in pair):
        for name in names:
            check_known("test number", name, numbers)
    return {name: [(before[name], after[name]) for before, after in pairs] for name in names}


def _table(title: str, rows: dict[str, dict[str, Cell]], names: Sequence[str], notes: tuple[str, ...]) -> ResultTable:
    groups = {f"{part} {name}": (part, name) for part in ("validation", "test") for name in names}
    lower = tuple(column for column, (_, name) in groups.items() if lower_is_better(name))
    title = f"{title} (shares in %)"
    return ResultTable(title, tuple(groups), rows, notes, groups, lower_is_better=lower, row_header="settings")


def _cells(point: Point, names: Sequence[str]) -> dict[str, Cell]:
    return {
        f"{part} {name}": _cell(name, point.values(part, name)) for part in ("validation", "test") for name in names
    }


def _cell(name: str, values: Sequence[float]) -> Cell:
    scaled = [_scaled(name, value) for value in values]
    std = statistics.stdev(scaled) if len(scaled) > 1 else None
    return Cell(statistics.fmean(scaled), std, num_seeds=len(scaled))


def _scaled(name: str, value: float) -> float:
    return 100 * value if is_share(name) else value


def _seeds(result: SweepResult) -> str:
    return f"seeds {', '.join(map(str, result.seeds))}; standard deviations are over seeds"


def _varied(result: SweepResult) -> list[str]:
    return [name for name, values in result.grid.items() if len(values) > 1]
