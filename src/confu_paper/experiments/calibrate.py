"""Find the noise level of AV-MNIST at which a supervised audio classifier is as accurate as the published one."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, linear_regression, pstdev

from rich.console import Console
from rich.table import Table

from confu.evaluation import versions
from confu.files import write_json
from confu_paper.datasets import build_av_mnist
from confu_paper.experiments.av_mnist import supervised_run
from confu_paper.experiments.benchmark import Request
from confu_paper.experiments.run import execute

MOST_LEVELS = 8
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

    def save(self, out: Path) -> None:
        """Write `calibration.json`, `.png` and `.svg`."""
        from confu.evaluation.plots import lines, save_figure

        content = {"target": self.target, "size": self.size, "snr_db": self.snr_db, "versions": versions()}
        points = [{"snr_db": level, "accuracy": self.points[level], "mean": mean} for level, mean in self.means]
        write_json(out / "calibration.json", {**content, "points": points})
        levels, means = zip(*self.means)
        spread = [pstdev(self.points[level]) for level in levels]
        published = {f"published, {self.target:g} %": self.target}
        curve = {"audio classifier": (list(means), spread)}
        save_figure(lines(levels, curve, published, x_label="speech to noise (dB)"), out / "calibration")


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


def calibrate(
    sources: Mapping[str, Path],
    out: Path,
    levels: Sequence[float],
    request: Request,
    target: float = 42.0,
    tolerance: float = 1.5,
) -> Calibration:
    """Build AV-MNIST at several noise levels and train the audio classifier of a size on each.

    The accuracy is that on the test rows, as the published one is; the epoch is chosen on the validation rows. Writes
    `calibration.json`, `.png` and `.svg` to `out` after each level. Finished trainings are reused.

    Args:
        sources: the folders `mnist`, `speech` and `noise` of `build_av_mnist`.
        out: for the results; each build is removed when its classifiers are done.
        levels: the first to measure, two or more, in dB.
        request: size, seeds of the trainings on each build, whose mean counts, folder of the runs; builds have seed 0.
        target: accuracy in percent.
        tolerance: stop within so many points.

    Raises:
        ValueError: for fewer than two first levels, or as the builder does.
    """
    if len(set(levels)) < 2 or len(set(levels)) < len(levels):
        raise ValueError(
            f"calibration starts from two or more different levels in dB, e.g. -12,-14; got {list(levels)}"
        )
    calibration = Calibration(target, {}, request.size)
    pending = list(levels)
    while len(calibration.points) < MOST_LEVELS:
        # The line through all that is measured points to the next level, until it does so to a known one.
        level = pending.pop(0) if pending else calibration.snr_db
        if level in calibration.points:
            break
        accuracies = calibration.points[level] = _accuracies(sources, out / f"build{level:g}dB", level, request)
        calibration.save(out)
        if request.progress:
            text = f"{level:g} dB: audio accuracy {fmean(accuracies):.1f} %"
            Console(stderr=True).print(text, highlight=False)
        if not pending and abs(fmean(accuracies) - target) <= tolerance:
            break
    return calibration


def _accuracies(sources: Mapping[str, Path], data: Path, level: float, request: Request) -> list[float]:
    """The test accuracies in percent of the audio classifier on a build, which is removed afterwards."""
    folders = sources["mnist"], sources["speech"], sources["noise"]
    build_av_mnist(*folders, data, level, progress=request.progress)
    accuracies = []
    for seed in request.seeds:
        run = supervised_run("-audio", data, seed, request.budget, name=f"calibrate{level:g}dB")
        accuracies.append(100 * execute(run, request.runs, request.progress).rows[0].value)
    shutil.rmtree(data)
    return accuracies
