"""What a search found: its trials, the best of them by a validation number, its table and its figure."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from confu.files import written_whole
from confu.methods import Value
from confu_paper.experiments.tables import Cell, ResultTable
from confu_paper.sweeps.grid_result import Measured, Point
from confu_paper.sweeps.numbers import is_share, lower_is_better
from confu_paper.sweeps.search_figure import search_figure
from confu_paper.sweeps.space import Choices, Range, describe


@dataclass(frozen=True)
class Trial:
    """One finished trial.

    Attributes:
        number: in the order in which they were drawn, from 0.
        tweaks: its settings.
        value: of the objective, on validation rows.
        measured: by seed, with the test numbers that are shown of the chosen trial only.
    """

    number: int
    tweaks: dict[str, Value]
    value: float
    measured: tuple[Measured, ...]


@dataclass(frozen=True)
class SearchResult:
    """What a search has found so far.

    Attributes:
        name: of the search.
        space: what it draws from.
        objective: name of the validation number.
        seed: of the draws.
        run_seeds: of each trial's runs.
        trials: the finished ones, by number.
        failed: number, as text -> error of a trial that failed.
    """

    name: str
    space: dict[str, Range | Choices]
    objective: str
    seed: int
    run_seeds: tuple[int, ...]
    trials: tuple[Trial, ...]
    failed: Mapping[str, str]

    @property
    def best(self) -> Trial:
        """The trial with the best value of the objective, the first of equals; test numbers are not looked at.

        Raises:
            ValueError: if no trial is finished.
        """
        if not self.trials:
            raise ValueError(f"search {self.name} has no finished trial; run it first")
        return min(self.trials, key=lambda trial: self._sign * trial.value)

    @property
    def best_so_far(self) -> list[float]:
        """The best value after each trial."""
        found, best = [], math.inf
        for trial in self.trials:
            best = min(best, self._sign * trial.value)
            found.append(self._sign * best)
        return found

    @property
    def _sign(self) -> int:
        return 1 if lower_is_better(self.objective) else -1

    def to_dict(self) -> dict[str, Any]:
        """Every trial with its validation number, and all numbers of the best one, for JSON."""
        trials = [{"number": one.number, "tweaks": one.tweaks, "value": one.value} for one in self.trials]
        best = None
        if self.trials:
            measured = [asdict(one) for one in self.best.measured]
            best = {
                "number": self.best.number,
                "tweaks": self.best.tweaks,
                "value": self.best.value,
                "measured": measured,
            }
        return {
            "search": self.name,
            "space": {name: str(values) for name, values in self.space.items()},
            "objective": self.objective,
            "seed": self.seed,
            "run_seeds": list(self.run_seeds),
            "best": best,
            "trials": trials,
            "failed": dict(self.failed),
        }

    def write_csv(self, path: Path | str) -> None:
        """One line a trial: number, settings, and the objective."""
        lines = [{"trial": one.number, **one.tweaks, f"validation {self.objective}": one.value} for one in self.trials]
        with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(lines[0]) if lines else ["trial"])
            writer.writeheader()
            writer.writerows(lines)

    def to_table(self, test: Sequence[str] = (), top: int = 10) -> ResultTable:
        """The best trials, best first; test numbers of the first one only, as they must not choose among the others.

        Args:
            test: names of test numbers.
            top: how many trials.
        """
        best = self.best
        ranked = sorted(self.trials, key=lambda trial: self._sign * trial.value)[:top]
        objective = f"validation {self.objective}"
        rows = {
            f"trial {one.number}: {describe(one.tweaks)}": {objective: _cell(self.objective, one.value)}
            for one in ranked
        }
        point = Point(best.tweaks, best.measured)
        for name in test:
            mean, std = point.test(name)
            rows[next(iter(rows))][f"test {name}"] = _cell(name, mean, std)
        notes = [
            f"the best {len(ranked)} of {len(self.trials)} trials by {objective}, the first with {best.value:.4g}; "
            "seeds " + ", ".join(map(str, self.run_seeds)),
            "drawn from " + ", ".join(f"{name}={values}" for name, values in self.space.items()),
        ]
        if test:
            notes.append("test numbers are those of the best trial, looked at after the choice")
        if self.failed:
            notes.append(f"{len(self.failed)} more trials failed: {', '.join(self.failed)}")
        return ResultTable(
            f"Search over {', '.join(self.space)} (shares in %)",
            (objective, *(f"test {name}" for name in test)),
            rows,
            tuple(notes),
            lower_is_better=tuple(
                f"{part} {name}"
                for part, names in (("validation", [self.objective]), ("test", test))
                for name in names
                if lower_is_better(name)
            ),
            row_header="trial",
        )

    def to_figure(self) -> Figure:
        """The history of the search, and the objective against each setting.

        Raises:
            ValueError: if no trial is finished.
        """
        factor, best = (100 if is_share(self.objective) else 1), self.trials.index(self.best)
        return search_figure(
            self.space,
            [trial.number for trial in self.trials],
            [trial.tweaks for trial in self.trials],
            [factor * trial.value for trial in self.trials],
            [factor * value for value in self.best_so_far],
            best,
            f"validation {self.objective}{' (%)' if factor == 100 else ''}",
        )


def _cell(name: str, value: float, std: float | None = None) -> Cell:
    factor = 100 if is_share(name) else 1
    return Cell(factor * value, None if std is None else factor * std)
