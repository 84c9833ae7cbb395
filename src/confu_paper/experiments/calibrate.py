"""Find the noise level of AV-MNIST at which a supervised audio classifier is as accurate as the published one."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, linear_regression, pstdev

from rich.console import Console
from rich.table import Table

from confu.evaluation import versions
from confu.evaluation.plots import lines, save_figure
from confu.files import write_json
from confu_paper.datasets import build_av_mnist
from confu_paper.experiments.av_mnist import Size, supervised_run
from confu_paper.experiments.run import execute

STEP_DB = 0.25  # levels are rounded to this: a finer one moves the accuracy less than a seed does


@dataclass(frozen=True)
class Calibration:
    """What was measured, and the level that it points to.

    Attributes:
        target: accuracy to reach, in percent.
        points: level in dB -> test accuracy in percent of each training seed.
        size: whose encoder and training was used.
    """

    target: float
    points: dict[float, list[float]]
    size: str

    @property
    def means(self) -> list[tuple[float, float]]:
        """(level, mean accuracy over the seeds), the lowest level first."""
        return [(level, fmean(values)) for level, values in sorted(self.points.items())]

    @property
    def snr_db(self) -> float:
        """The level at which the fitted line reaches the target; that of the only point, if there is but one."""
        return crossing(self.means, self.target) if len(self.points) > 1 else self.means[0][0]

    def to_rich(self) -> Table:
        """For the terminal."""
        table = Table("speech to noise (dB)", "mean (%)", "each seed (%)", title=f"target {self.target:g} %")
        for level, mean in self.means:
            table.add_row(f"{level:g}", f"{mean:.1f}", ", ".join(f"{value:.1f}" for value in self.points[level]))
        return table


def crossing(points: Sequence[tuple[float, float]], target: float) -> float:
    """The level at which a straight line through the points reaches the target, rounded to 0.25 dB.

    The line is fitted by least squares to the points within 15 of the target, or to the two nearest: one training can
    be two points off, so that two points alone mislead. It is never followed more than 4 dB beyond what was measured.

    >>> crossing([(-10.0, 52.0), (-14.0, 36.0)], target=42.0)
    -12.5
    """
    near = [point for point in points if abs(point[1] - target) <= 15]
    if len(near) < 2:
        near = sorted(points, key=lambda point: abs(point[1] - target))[:2]
    levels = [level for level, _ in points]
    slope, intercept = linear_regression(*zip(*near))
    # Accuracy rises with the level; a slope that says otherwise is noise, and a step outwards is safer.
    outwards = max(levels) + 2 if near[0][1] < target else min(levels) - 2
    guess = (target - intercept) / slope if slope > 0 else outwards
    return round(min(max(guess, min(levels) - 4), max(levels) + 4) / STEP_DB) * STEP_DB


def search(
    measure: Callable[[float], float], target: float, tolerance: float, levels: Sequence[float], most: int = 8
) -> list[tuple[float, float]]:
    """Measure the first levels, then where the line through all of them reaches the target, until that level was
    measured within the tolerance, `most` are measured, or the line points to a level that was measured before.
    """
    points: list[tuple[float, float]] = []
    pending = list(levels)
    while len(points) < most:
        level = pending.pop(0) if pending else crossing(points, target)
        if level in (known for known, _ in points):
            break
        points.append((level, measure(level)))
        if not pending and abs(points[-1][1] - target) <= tolerance:
            break
    return points


def calibrate(
    mnist: Path, speech: Path, noise: Path, out: Path, target: float, tolerance: float, levels: Sequence[float],
    size: Size, runs: Path, seeds: Sequence[int] = (0, 1), progress: bool = True,
) -> Calibration:  # fmt: skip
    """Build AV-MNIST at several noise levels and train the audio classifier of a size on each.

    The accuracy is that on the test rows, as the published one is; the epoch is chosen on the validation rows. Writes
    `calibration.json`, `.png` and `.svg` to `out` after each level. Finished trainings are reused.

    Args:
        mnist: folder of MNIST.
        speech: folder of spoken digits.
        noise: folder of background sounds.
        out: for the results; each build is removed when its classifiers are done.
        target: accuracy in percent.
        tolerance: stop within so many points.
        levels: the first to measure, two or more, in dB.
        size: whose audio encoder and training to use.
        runs: folder of the runs.
        seeds: of the trainings on each build; their mean is what counts. The builds have the seed 0.
        progress: whether to draw progress bars.

    Raises:
        ValueError: for fewer than two first levels, or as the builder does.
    """
    if len(set(levels)) < 2 or len(set(levels)) < len(levels):
        raise ValueError(
            f"calibration starts from two or more different levels in dB, e.g. -12,-14; got {list(levels)}"
        )
    points: dict[float, list[float]] = {}

    def measure(level: float) -> float:
        data = out / f"build{level:g}dB"
        build_av_mnist(mnist, speech, noise, data, level, progress=progress)
        name = f"calibrate{level:g}dB"
        found = [execute(supervised_run("-audio", data, seed, size, name=name), runs, progress) for seed in seeds]
        points[level] = [100 * report.rows[0].value for report in found]
        if progress:
            Console(stderr=True).print(f"{level:g} dB: audio accuracy {fmean(points[level]):.1f} %", highlight=False)
        _write(Calibration(target, points, size), out)
        shutil.rmtree(data)
        return fmean(points[level])

    search(measure, target, tolerance, levels)
    return Calibration(target, points, size)


def _write(found: Calibration, out: Path) -> None:
    content = {"target": found.target, "size": found.size, "snr_db": found.snr_db, "versions": versions()}
    points = [{"snr_db": level, "accuracy": found.points[level], "mean": mean} for level, mean in found.means]
    write_json(out / "calibration.json", {**content, "points": points})
    spread = [pstdev(found.points[level]) for level, _ in found.means]
    figure = lines(
        [level for level, _ in found.means], {"audio classifier": ([mean for _, mean in found.means], spread)},
        {f"published, {found.target:g} %": found.target}, x_label="speech to noise (dB)",
    )  # fmt: skip
    save_figure(figure, out / "calibration")
