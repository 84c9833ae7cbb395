"""What a sweep shows, as a table and a figure: λ's Pareto front, what masking changes, and curves over one setting."""

import statistics
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from confu.checks import check_known
from confu.evaluation.plots import lines
from confu.methods import Tweaks, Value
from confu_paper.experiments.tables import Cell, ResultTable
from confu_paper.sweeps.figures import boxes, pareto, pareto_front
from confu_paper.sweeps.grid_result import Point, SweepResult
from confu_paper.sweeps.numbers import is_share, lower_is_better
from confu_paper.sweeps.space import describe

CHOICE_NOTE = "test numbers are shown and choose nothing"


def sweep_table(result: SweepResult, choose_by: str, validation: Sequence[str], test: Sequence[str]) -> ResultTable:
    """Every point with its validation and test numbers; the chosen one is marked.

    Args:
        result: of a finished sweep.
        choose_by: the validation number whose best mean is chosen.
        validation: names of further validation numbers to show.
        test: names of test numbers to show.
    """
    chosen = result.best(choose_by)
    shown = list(dict.fromkeys([choose_by, *validation]))
    rows = {
        describe(point.tweaks) + (" (chosen)" if point is chosen or point.tweaks == chosen.tweaks else ""): _cells(
            point, shown, test
        )
        for point in result.points
    }
    way = "lowest" if lower_is_better(choose_by) else "highest"
    notes = (
        f"chosen: the {way} mean of validation {choose_by}, {_exactly(chosen, choose_by)}; {CHOICE_NOTE}",
        _seeds(result),
    )
    return _table(f"Sweep of {_swept(result)}", rows, shown, test, notes)


def pareto_view(
    result: SweepResult, x: str = "mean recall@10 1 -> 1", y: str = "mean recall@10 2 -> 1"
) -> tuple[ResultTable, Figure]:
    """Two numbers that a setting trades against each other, with the points that no other one beats (Table 7).

    The front is that of the validation numbers: a point is on it if none is as good in both and better in one.

    Args:
        result: of a sweep.
        x: name of the first number, in validation and test alike.
        y: name of the second.

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
        describe(point.tweaks) + (" *" if i in front else ""): _cells(point, [x, y], [x, y])
        for i, point in enumerate(result.points)
    }
    shown = _varied(result) or list(result.grid)
    notes = (
        f"* on the Pareto front of the two validation numbers; {CHOICE_NOTE}",
        f"the figure's labels are {' / '.join(shown)}",
        _seeds(result),
    )
    table = _table(f"{x} against {y}", rows, [x, y], [x, y], notes)
    labels = [" / ".join(str(point.tweaks[name]) for name in shown) for point in result.points]
    figure = pareto(pairs, labels, x_label=f"validation {x} (%)", y_label=f"validation {y} (%)")
    return table, figure


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


def mask_view(result: SweepResult, names: Sequence[str], at: Tweaks | None = None) -> tuple[ResultTable, Figure]:
    """Test numbers without and with mask and their difference (Table 8), and its distribution by number (Fig 7).

    Args:
        result: of a sweep with `mask_ratio` 0 and others.
        names: of the test numbers: rows of the table, boxes of the figure.
        at: settings to keep to in the table, e.g. `{"fused_weight": 0.5, "mask_ratio": 0.3}`; the boxes are over all.

    Raises:
        ValueError: as `mask_differences`.
    """
    rows = {}
    for name, pairs in _mask_pairs(result, names, at).items():
        before, after = zip(*pairs)
        changes = [b - a for a, b in pairs]
        rows[name] = {column: _cell(name, values) for column, values in zip(MASK_COLUMNS, (before, after, changes))}
    kept = describe(at) if at else "all mask ratios above 0 and all other settings"
    count = len(next(iter(_mask_pairs(result, names, at).values())))
    notes = (
        f"mean and standard deviation over {count} pairs ({kept}, seeds {', '.join(map(str, result.seeds))}); the two "
        "of a pair have their other settings and their seed in common",
    )
    table = ResultTable(
        "Test numbers (shares in %) without and with masked features", MASK_COLUMNS, rows, notes, row_header="number"
    )
    groups = {
        name: [_scaled(name, value) for value in values] for name, values in mask_differences(result, names).items()
    }
    return table, boxes(groups, y_label="with mask less without (points)")


MASK_COLUMNS = ("without mask", "with mask", "Δ")


def curve_view(result: SweepResult, over: str, name: str) -> tuple[ResultTable, Figure]:
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
        cell = _cell(name, [one.test[name] for one in point.measured if point.test(name)])
        rows.setdefault(describe(others) or name, {})[describe({over: point.tweaks[over]})] = cell
    columns = tuple(describe({over: value}) for value in values)
    nan = float("nan")
    bands = {
        label: (
            [cells[column].mean if column in cells else nan for column in columns],
            [(cells[column].std or 0.0) if column in cells else nan for column in columns],
        )
        for label, cells in rows.items()
    }
    unit = f"{name} (%)" if is_share(name) else name
    table = ResultTable(f"Test {unit} by {over}", columns, rows, (_seeds(result),), row_header="other settings")
    xs = [float(value) for value in values]
    wide = min(xs) > 0 and max(xs) / min(xs) >= 8
    return table, lines(xs, bands, x_label=over, y_label=unit, log_x=wide)


def _mask_pairs(result: SweepResult, names: Sequence[str], at: Tweaks | None) -> dict[str, list[tuple[float, float]]]:
    at = dict(at or {})
    check_known("setting of the sweep", "mask_ratio", result.grid)
    for key in at:
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
    for before, after in pairs:
        for name in names:
            check_known("test number", name, before)
            check_known("test number", name, after)
    return {name: [(before[name], after[name]) for before, after in pairs] for name in names}


def _table(
    title: str, rows: dict[str, dict[str, Cell]], validation: Sequence[str], test: Sequence[str], notes: tuple[str, ...]
) -> ResultTable:
    parts = [("validation", name) for name in validation] + [("test", name) for name in test]
    groups = {f"{part} {name}": (part, name) for part, name in parts}
    lower = tuple(column for column, (_, name) in groups.items() if lower_is_better(name))
    return ResultTable(
        f"{title} (shares in %)", tuple(groups), rows, notes, groups, lower_is_better=lower, row_header="settings"
    )


def _cells(point: Point, validation: Sequence[str], test: Sequence[str]) -> dict[str, Cell]:
    cells = {}
    for name in validation:
        point.validation(name)  # says which there are, if this is not
        cells[f"validation {name}"] = _cell(name, [one.validation[name] for one in point.measured])
    for name in test:
        point.test(name)
        cells[f"test {name}"] = _cell(name, [one.test[name] for one in point.measured])
    return cells


def _cell(name: str, values: Sequence[float]) -> Cell:
    scaled = [_scaled(name, value) for value in values]
    std = statistics.stdev(scaled) if len(scaled) > 1 else None
    return Cell(statistics.fmean(scaled), std, num_seeds=len(scaled))


def _scaled(name: str, value: float) -> float:
    return 100 * value if is_share(name) else value


def _exactly(point: Point, name: str) -> str:
    mean, std = point.validation(name)
    return f"{mean:.4g}" if std is None else f"{mean:.4g} ± {std:.2g}"


def _seeds(result: SweepResult) -> str:
    return f"seeds {', '.join(map(str, result.seeds))}; standard deviations are over seeds"


def _varied(result: SweepResult) -> list[str]:
    return [name for name, values in result.grid.items() if len(values) > 1]


def _swept(result: SweepResult) -> str:
    return ", ".join(_varied(result) or result.grid)
