"""A grid of settings, one run for each point and seed: validation numbers choose among them, test numbers are shown."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from confu.files import write_json
from confu.methods import Tweaks, Value, check_tweaks
from confu_paper.experiments.run import Run, execute
from confu_paper.sweeps.grid_result import Measured, SweepResult
from confu_paper.sweeps.numbers import Read, averaged, report_numbers, validation_metrics, with_means
from confu_paper.sweeps.space import describe, grid_points

Factory = Callable[[Tweaks, int], Sequence[Run]]
"""Makes the runs of some settings and a seed: one, or as many as the method trains models."""


def sweep(
    factory: Factory,
    grid: Mapping[str, Sequence[Value]],
    seeds: Sequence[int],
    runs: Path,
    read: Read = report_numbers,
    name: str = "sweep",
    progress: bool = True,
) -> SweepResult:
    """Run every point of a grid at every seed; called again it does only what is missing.

    All points at the first seed come before the second seed. After each point `RUNS/sweeps/NAME/result.json` holds all
    that is finished.

    Args:
        factory: makes the runs of a point and a seed.
        grid: values by name of the setting (see `confu_paper.sweeps.space.DOMAINS`).
        seeds: of the runs.
        runs: folder of the runs; finished ones are read, interrupted ones go on.
        read: the numbers of a report to keep, by name.
        name: of the sweep's folder.
        progress: whether to say what is left, and draw progress bars.

    Raises:
        ValueError: for an unknown setting or a value that it does not take, if two points have the same run (the
            recipe does not know the setting), or as `execute`, with the run that failed.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be at least one, each once; got {list(seeds)}")
    points = grid_points(grid)
    for tweaks in points:
        check_tweaks(tweaks)
    # All runs are made before the first one trains, so that a mistake in the last one is not found hours later.
    jobs = {(i, seed): list(factory(points[i], seed)) for seed in seeds for i in range(len(points))}
    _check_distinct({job: [run.name for run in found] for job, found in jobs.items()}, points)
    done = {job: all((runs / run.name / "report.json").exists() for run in found) for job, found in jobs.items()}
    left = [job for job in jobs if not done[job]]
    measured: dict[tuple[int, int], Measured] = {}

    def result() -> SweepResult:
        order = [(i, seed) for i in range(len(points)) for seed in seeds]
        values = {key: tuple(values) for key, values in grid.items()}
        return SweepResult(name, values, tuple(seeds), tuple(measured[job] for job in order if job in measured))

    def measure(job: tuple[int, int]) -> None:
        measured[job] = measure_point(jobs[job], points[job[0]], job[1], runs, read, progress)

    for job in jobs:
        if done[job]:
            measure(job)
    write_json(runs / "sweeps" / name / "result.json", result().to_dict())
    started = time.monotonic()
    for i, job in enumerate(left):
        if progress:
            seconds = (time.monotonic() - started) / i * (len(left) - i) if i else None
            now = f"{describe(points[job[0]])} seed {job[1]}"
            Console(stderr=True).print(
                f"{progress_line(len(jobs), len(left) - i, seconds)}; now {now}", highlight=False
            )
        measure(job)
        write_json(runs / "sweeps" / name / "result.json", result().to_dict())
    return result()


def measure_point(
    found: Sequence[Run], tweaks: Tweaks, seed: int, runs: Path, read: Read, progress: bool = False
) -> Measured:
    """Execute the runs of a point, and read their numbers; a number that several of them have is their mean.

    The means of accuracy and recall@10 over 1 -> 1 and 2 -> 1 are added (see `with_means`).

    Raises:
        ValueError: as `execute`, with the run and its settings.
    """
    reports = []
    for run in found:
        try:
            reports.append(execute(run, runs, progress))
        except ValueError as error:
            raise ValueError(f"run {run.name} ({describe(tweaks)}, seed {seed}): {error}") from error
    return Measured(
        tweaks=dict(tweaks),
        seed=seed,
        runs=tuple(run.name for run in found),
        validation=with_means(averaged(validation_metrics(runs / run.name) for run in found)),
        test=with_means(averaged(read(report) for report in reports)),
    )


def _check_distinct(names: Mapping[tuple[int, int], Sequence[str]], points: Sequence[Tweaks]) -> None:
    owners: dict[str, tuple[int, int]] = {}
    for job, found in names.items():
        for name in found:
            first = owners.setdefault(name, job)
            if first != job:
                raise ValueError(
                    f"({describe(points[first[0]])}, seed {first[1]}) and ({describe(points[job[0]])}, seed {job[1]}) "
                    f"are one run, {name}: this recipe does not use the setting that differs; leave it out"
                )


def progress_line(total: int, left: int, seconds: float | None, what: str = "runs") -> str:
    """How many runs are left, and for how long.

    >>> progress_line(12, 9, 5_460)
    '9 of 12 runs left, about 1 h 31 min'

    Args:
        total: number of runs or trials.
        left: of which are still to do.
        seconds: that they will take; None while nothing is known.
        what: what is counted.
    """
    if seconds is None:
        return f"{left} of {total} {what} left"
    hours, minutes = divmod(round(seconds / 60), 60)
    time_left = f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{round(seconds)} s"
    return f"{left} of {total} {what} left, about {time_left}"
