"""A grid of settings, one run for each point and seed: validation numbers choose among them, test numbers are shown."""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from confu.checks import check_known
from confu.files import write_json
from confu.methods import DOMAINS, Tweaks, Value, check_number, check_tweaks
from confu_paper.experiments.benchmark import Request
from confu_paper.experiments.run import Run, execute
from confu_paper.sweeps.numbers import (
    Read,
    averaged,
    lower_is_better,
    report_numbers,
    validation_metrics,
    with_means,
)

Factory = Callable[[Tweaks, int], Sequence[Run]]
"""Makes the runs of some settings and a seed: one, or as many as the method trains models."""


@dataclass(frozen=True)
class Measured:
    """One point of a sweep at one seed.

    Attributes:
        tweaks: the settings that were changed, by name.
        seed: of its runs.
        runs: names of its runs, which are their folders.
        validation: numbers on validation rows at the best epoch; only these choose.
        test: numbers on test rows, to be shown.
    """

    tweaks: dict[str, Value]
    seed: int
    runs: tuple[str, ...]
    validation: dict[str, float]
    test: dict[str, float]


@dataclass(frozen=True)
class Point:
    """One point of a sweep with all its seeds."""

    tweaks: dict[str, Value]
    measured: tuple[Measured, ...]

    def validation(self, name: str) -> tuple[float, float | None]:
        """Mean and sample standard deviation over the seeds of a validation number; no deviation for one seed."""
        return self._mean_and_std("validation", name)

    def test(self, name: str) -> tuple[float, float | None]:
        """The same of a test number."""
        return self._mean_and_std("test", name)

    def to_dict(self) -> dict[str, Any]:
        """Mean and deviation of every number that all seeds have, for JSON."""
        content: dict[str, Any] = {"tweaks": self.tweaks, "seeds": [one.seed for one in self.measured]}
        for part in ("validation", "test"):
            common = [
                name
                for name in getattr(self.measured[0], part)
                if all(name in getattr(one, part) for one in self.measured)
            ]
            content[part] = {name: dict(zip(("mean", "std"), self._mean_and_std(part, name))) for name in common}
        return content

    def values(self, part: str, name: str) -> list[float]:
        """A "validation" or "test" number of each seed.

        Raises:
            ValueError: naming the numbers that there are, if a seed has not this one.
        """
        for one in self.measured:
            check_known(f"{part} number", name, getattr(one, part))
        return [getattr(one, part)[name] for one in self.measured]

    def _mean_and_std(self, part: str, name: str) -> tuple[float, float | None]:
        values = self.values(part, name)
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class SweepResult:
    """What a sweep has measured so far.

    Attributes:
        name: of the sweep.
        grid: the values of each setting.
        seeds: one run, or group of runs, of each point for each.
        measured: what is there, by point, then seed.
    """

    name: str
    grid: dict[str, tuple[Value, ...]]
    seeds: tuple[int, ...]
    measured: tuple[Measured, ...]

    @property
    def points(self) -> list[Point]:
        """The points of the grid that have a seed at least, in its order."""
        groups = [
            (tweaks, tuple(one for one in self.measured if one.tweaks == tweaks)) for tweaks in grid_points(self.grid)
        ]
        return [Point(tweaks, measured) for tweaks, measured in groups if measured]

    def best(self, name: str) -> Point:
        """The point whose validation number has the best mean, the first of equals; test numbers are not looked at.

        Raises:
            ValueError: if a seed of a point is missing, or no run logged the number.
        """
        total = len(grid_points(self.grid)) * len(self.seeds)
        if missing := total - len(self.measured):
            raise ValueError(
                f"sweep {self.name}: {missing} of {total} points and seeds are missing; finish it before choosing"
            )
        sign = 1 if lower_is_better(name) else -1
        return min(self.points, key=lambda point: sign * point.validation(name)[0])

    def to_dict(self) -> dict[str, Any]:
        """Every number, with mean and standard deviation by point, for JSON."""
        return {
            "sweep": self.name,
            "grid": {name: list(values) for name, values in self.grid.items()},
            "seeds": list(self.seeds),
            "measured": [asdict(one) for one in self.measured],
            "points": [point.to_dict() for point in self.points],
        }


def sweep(
    factory: Factory,
    grid: Mapping[str, Sequence[Value]],
    name: str,
    request: Request,
    read: Read = report_numbers,
) -> SweepResult:
    """Run every point of a grid at every seed; called again it does only what is missing.

    All points at the first seed come before the second seed. After each point `RUNS/sweeps/NAME/result.json` holds all
    that is finished.

    Args:
        factory: makes the runs of a point and a seed.
        grid: values by name of the setting (see `confu.methods.DOMAINS`).
        name: of the sweep's folder.
        request: seeds, folder of the runs, progress.
        read: the numbers of a report to keep, by name.

    Raises:
        ValueError: for an unknown setting or a value that it does not take, if two points have the same run (the
            recipe does not know the setting), or as `execute`, with the run that failed.
    """
    seeds, runs = tuple(request.seeds), request.runs
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be at least one, each once; got {list(seeds)}")
    points = grid_points(grid)
    for tweaks in points:
        check_tweaks(tweaks)
    # All runs are made before the first one trains, so that a mistake in the last one is not found hours later.
    jobs = {(i, seed): list(factory(points[i], seed)) for seed in seeds for i in range(len(points))}
    owners: dict[str, tuple[int, int]] = {}
    for job, of_job in jobs.items():
        for run in of_job:
            if (first := owners.setdefault(run.name, job)) != job:
                described = [f"({describe(points[i])}, seed {seed})" for i, seed in (first, job)]
                raise ValueError(
                    f"{' and '.join(described)} are one run, {run.name}: this recipe does not use the setting that "
                    "differs; leave it out"
                )
    finished = [job for job in jobs if all((runs / run.name / "report.json").exists() for run in jobs[job])]
    left = [job for job in jobs if job not in finished]
    measured: dict[tuple[int, int], Measured] = {}

    def save() -> SweepResult:
        order = [(i, seed) for i in range(len(points)) for seed in seeds]
        values = {key: tuple(values) for key, values in grid.items()}
        result = SweepResult(name, values, seeds, tuple(measured[job] for job in order if job in measured))
        write_json(runs / "sweeps" / name / "result.json", result.to_dict())
        return result

    for job in finished:
        measured[job] = measure_point(jobs[job], points[job[0]], job[1], request, read)
    result = save()
    started = time.monotonic()
    for i, job in enumerate(left):
        if request.progress:
            seconds = (time.monotonic() - started) / i * (len(left) - i) if i else None
            line = progress_line(len(jobs), len(left) - i, seconds)
            Console(stderr=True).print(f"{line}; now {describe(points[job[0]])} seed {job[1]}", highlight=False)
        measured[job] = measure_point(jobs[job], points[job[0]], job[1], request, read)
        result = save()
    return result


def measure_point(
    runs: Sequence[Run], tweaks: Tweaks, seed: int, request: Request, read: Read = report_numbers
) -> Measured:
    """Execute the runs of a point, and read their numbers; a number that several of them have is their mean.

    The means of accuracy and recall@10 over 1 -> 1 and 2 -> 1 are added (see `with_means`).

    Raises:
        ValueError: as `execute`, with the run and its settings.
    """
    reports = []
    for run in runs:
        try:
            reports.append(execute(run, request.runs, request.progress))
        except ValueError as error:
            raise ValueError(f"run {run.name} ({describe(tweaks)}, seed {seed}): {error}") from error
    validation = with_means(averaged(validation_metrics(request.runs / run.name) for run in runs))
    test = with_means(averaged(read(report) for report in reports))
    return Measured(dict(tweaks), seed, tuple(run.name for run in runs), validation, test)


def progress_line(total: int, left: int, seconds: float | None, what: str = "runs") -> str:
    """How many of `total` runs or trials are left, and for how long; None while nothing is known.

    >>> progress_line(12, 9, 5_460)
    '9 of 12 runs left, about 1 h 31 min'
    """
    if seconds is None:
        return f"{left} of {total} {what} left"
    hours, minutes = divmod(round(seconds / 60), 60)
    time_left = f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{round(seconds)} s"
    return f"{left} of {total} {what} left, about {time_left}"


def parse_grid(settings: Sequence[str]) -> dict[str, tuple[Value, ...]]:
    """Read `NAME=VALUE,VALUE,...` for each setting of a grid.

    >>> parse_grid(["fused_weight=0.1,0.5", "dim=64"])
    {'fused_weight': (0.1, 0.5), 'dim': (64,)}

    Args:
        settings: one text for each name of `DOMAINS` that changes.

    Returns:
        the values by name, in the order given.

    Raises:
        ValueError: for an unknown name (with the closest one), one given twice, no value, one value twice, or a value
            that is not a number which the setting takes.
    """
    example = "fused_weight=0.1,0.3"
    found = {}
    for name, text in named_settings(settings, example):
        if any(mark in text for mark in "|:"):
            raise ValueError(
                f"{name}={text}: a grid lists its values with commas, e.g. {example}; ranges and | are for a search"
            )
        found[name] = setting_values(name, text, ",")
    return found


def grid_points(grid: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    """Every combination of a grid's values; the last name changes fastest.

    >>> grid_points({"dim": [16, 64], "mask_ratio": [0.0]})
    [{'dim': 16, 'mask_ratio': 0.0}, {'dim': 64, 'mask_ratio': 0.0}]

    Raises:
        ValueError: if a name has no values, or one twice.
    """
    for name, values in grid.items():
        if not values:
            raise ValueError(f"{name} has no values; give at least one, or leave {name} out")
        if len(set(values)) != len(values):
            raise ValueError(f"{name} has a value twice: {', '.join(map(str, values))}; give each once")
    return [dict(zip(grid, values)) for values in itertools.product(*grid.values())]


def describe(tweaks: Tweaks) -> str:
    """Settings in one line.

    >>> describe({"dim": 16, "lr": 0.001})
    'dim=16 lr=0.001'
    """
    return " ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in tweaks.items()
    )


def named_settings(settings: Sequence[str], example: str) -> list[tuple[str, str]]:
    """Name and text of `NAME=TEXT` settings; each name is known and given once."""
    found: dict[str, str] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ValueError(f"{setting!r} must be NAME=VALUES, e.g. {example}")
        check_known("setting", name, DOMAINS)
        if name in found:
            raise ValueError(f"{name} is given twice: {name}={found[name]} and {name}={text}; give all values at once")
        if not text:
            raise ValueError(f"{name} has no values; write e.g. {example}")
        found[name] = text
    return list(found.items())


def setting_values(name: str, text: str, mark: str) -> tuple[Value, ...]:
    """The different numbers of a setting, which stand between marks."""
    parts = [part.strip() for part in text.split(mark)]
    if "" in parts:
        raise ValueError(f"{name}={text}: there is nothing before or after a {mark!r}; leave it out")
    values = tuple(check_number(name, part) for part in parts)
    if len(set(values)) != len(values):
        raise ValueError(f"{name}={text}: a value stands twice; give each once")
    return values
