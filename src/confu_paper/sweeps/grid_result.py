"""What a sweep has measured: its points, their seeds, and the choice among them by validation numbers alone."""

import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from confu.checks import check_known
from confu.files import written_whole
from confu.methods import Value
from confu_paper.sweeps.numbers import lower_is_better
from confu_paper.sweeps.space import grid_points


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
        return _spread(name, [one.validation for one in self.measured], "validation number")

    def test(self, name: str) -> tuple[float, float | None]:
        """Mean and sample standard deviation over the seeds of a test number; no deviation for one seed."""
        return _spread(name, [one.test for one in self.measured], "test number")


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
        return [Point(tweaks, found) for tweaks, found in groups if found]

    def best(self, name: str) -> Point:
        """The point whose validation number has the best mean; test numbers are not looked at.

        Args:
            name: of the validation number: lowest for losses and ranks, highest for the rest. The first of equals.

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
        """Every number, with mean and standard deviation by point, for JSON; `from_dict` reads it back."""
        return {
            "sweep": self.name,
            "grid": {name: list(values) for name, values in self.grid.items()},
            "seeds": list(self.seeds),
            "measured": [asdict(one) for one in self.measured],
            "points": [
                {"tweaks": point.tweaks, "seeds": [one.seed for one in point.measured]}
                | {"validation": _summary(point, "validation"), "test": _summary(point, "test")}
                for point in self.points
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SweepResult":
        """The result that `to_dict` wrote.

        Raises:
            ValueError: if it lacks a part.
        """
        try:
            measured = [Measured(**{**one, "runs": tuple(one["runs"])}) for one in data["measured"]]
            grid = {name: tuple(values) for name, values in data["grid"].items()}
            return cls(data["sweep"], grid, tuple(data["seeds"]), tuple(measured))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the result of a sweep: {error} is missing or wrong") from error

    def write_csv(self, path: Path | str) -> None:
        """One line for each point and seed: settings, seed, `validation NAME` and `test NAME` of every number."""
        lines = [
            {**one.tweaks, "seed": one.seed}
            | {f"validation {name}": value for name, value in one.validation.items()}
            | {f"test {name}": value for name, value in one.test.items()}
            for one in self.measured
        ]
        columns = list(dict.fromkeys(name for line in lines for name in line))
        with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(lines)


def load_sweep(path: Path | str) -> SweepResult:
    """Read the `result.json` of a sweep.

    Raises:
        ValueError: naming the file, if it is missing or not the result of a sweep.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no result of a sweep at {path}")
    try:
        return SweepResult.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _spread(name: str, numbers: Sequence[Mapping[str, float]], what: str) -> tuple[float, float | None]:
    for found in numbers:
        check_known(what, name, found)
    values = [found[name] for found in numbers]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _summary(point: Point, part: str) -> dict[str, dict[str, float | None]]:
    names = set.intersection(*(set(getattr(one, part)) for one in point.measured))
    ordered = [name for name in getattr(point.measured[0], part) if name in names]
    return {name: dict(zip(("mean", "std"), getattr(point, part)(name))) for name in ordered}
