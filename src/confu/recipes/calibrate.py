"""Find the noise level of AV-MNIST at which a supervised audio classifier is as accurate as the published one."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from confu.data.datasets import build_av_mnist
from confu.evaluation.plots import lines, save_figure
from confu.files import write_json
from confu.recipes.av_mnist import Size, supervised_run
from confu.recipes.run import execute

STEP_DB = 0.25  # levels are rounded to this: a finer one moves the accuracy less than a seed does


@dataclass(frozen=True)
class Calibration:
    """What was measured, and the level that comes nearest.

    Attributes:
        target: accuracy to reach, in percent.
        points: (level in dB, test accuracy in percent), in the order of measurement.
        size: whose encoder and training was used.
        seed: of the builds and the runs.
    """

    target: float
    points: tuple[tuple[float, float], ...]
    size: str
    seed: int = 0

    @property
    def snr_db(self) -> float:
        """The measured level whose accuracy is nearest to the target."""
        return min(self.points, key=lambda point: abs(point[1] - self.target))[0]

    def to_rich(self) -> Table:
        """For the terminal."""
        table = Table("speech to noise (dB)", "audio accuracy (%)", title=f"target {self.target:g} %")
        for level, accuracy in sorted(self.points):
            table.add_row(f"{level:g}{' *' if level == self.snr_db else ''}", f"{accuracy:.1f}")
        return table


def next_level(points: Sequence[tuple[float, float]], target: float) -> float:
    """Where to measure next: the straight line through the two points nearest to the target, one from each side if
    there are such, rounded to 0.25 dB and at most 4 dB beyond what was measured.

    >>> next_level([(-10.0, 52.0), (-14.0, 36.0)], target=42.0)
    -12.5
    """
    below = sorted((p for p in points if p[1] <= target), key=lambda p: target - p[1])
    above = sorted((p for p in points if p[1] > target), key=lambda p: p[1] - target)
    first, second = (below[0], above[0]) if below and above else (below or above)[:2]
    slope = (second[1] - first[1]) / (second[0] - first[0])
    levels = [level for level, _ in points]
    # Accuracy rises with the level; a slope that says otherwise is noise, and a step outwards is safer.
    guess = first[0] + (target - first[1]) / slope if slope > 0 else (max(levels) + 2 if below else min(levels) - 2)
    guess = min(max(guess, min(levels) - 4), max(levels) + 4)
    return round(guess / STEP_DB) * STEP_DB


def search(
    measure: Callable[[float], float], target: float, tolerance: float, levels: Sequence[float], most: int = 8
) -> list[tuple[float, float]]:
    """Measure levels until one is within the tolerance of the target, `most` are measured, or none is left to try."""
    points: list[tuple[float, float]] = []
    pending = list(levels)
    while len(points) < most:
        level = pending.pop(0) if pending else next_level(points, target)
        if level in (known for known, _ in points):
            break
        points.append((level, measure(level)))
        if abs(points[-1][1] - target) <= tolerance:
            break
    return points


def calibrate(
    mnist: Path, speech: Path, noise: Path, out: Path, target: float, tolerance: float, levels: Sequence[float],
    size: Size, runs: Path, seed: int = 0,
) -> Calibration:  # fmt: skip
    """Build AV-MNIST at several noise levels and train the audio classifier of a size on each.

    The accuracy is that on the test rows, as the published one is; the epoch is chosen on the validation rows. Writes
    `calibration.json`, `.png` and `.svg` to `out`. Levels that were measured before are not measured again.

    Args:
        mnist: folder of MNIST.
        speech: folder of spoken digits.
        noise: folder of background sounds.
        out: for the results; each build is removed when its classifier is done.
        target: accuracy in percent.
        tolerance: stop within so many points.
        levels: the first two to measure, in dB.
        size: whose audio encoder and training to use.
        runs: folder of the runs.
        seed: of the builds and the runs.

    Raises:
        ValueError: for other than two first levels, or as the builder does.
    """
    if len(levels) != 2 or levels[0] == levels[1]:
        raise ValueError(f"calibration starts from two different levels in dB, e.g. -10,-14; got {list(levels)}")
    out.mkdir(parents=True, exist_ok=True)
    file = out / "calibration.json"
    known: dict[float, float] = {}
    if file.exists():
        stored = json.loads(file.read_text())
        if (stored["size"], stored["seed"]) == (size, seed):
            known = dict(stored["points"])

    def measure(level: float) -> float:
        if level not in known:
            data = out / f"build{level:g}dB"
            build_av_mnist(mnist, speech, noise, data, level, seed=seed)
            report = execute(supervised_run("-audio", data, seed, size, name=f"calibrate{level:g}dB"), runs)
            known[level] = 100 * report.rows[0].value
            Console(stderr=True).print(f"{level:g} dB: audio accuracy {known[level]:.1f} %", highlight=False)
            _write(Calibration(target, tuple(known.items()), size, seed), out)
            shutil.rmtree(data)
        return known[level]

    search(measure, target, tolerance, levels)
    found = Calibration(target, tuple(known.items()), size, seed)
    _write(found, out)
    return found


def _write(found: Calibration, out: Path) -> None:
    write_json(out / "calibration.json", {**asdict(found), "snr_db": found.snr_db})
    points = sorted(found.points)
    figure = lines(
        [level for level, _ in points], {"audio classifier": ([accuracy for _, accuracy in points], None)},
        {f"published, {found.target:g} %": found.target}, x_label="speech to noise (dB)",
    )  # fmt: skip
    save_figure(figure, out / "calibration")
