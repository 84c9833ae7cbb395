"""A run file trained with every combination of some settings; the validation rows say which is best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rich.table import Table

from confu.runs.run_file import RunFile
from confu.runs.run_yaml import read_run_file, to_yaml, with_sets
from confu.runs.training import train
from confu.training.log import best_record, read_log


@dataclass(frozen=True)
class SweepPoint:
    """One run of a sweep.

    Attributes:
        settings: what was set, as text by name.
        folder: of the run.
        epoch: that the validation rows chose.
        loss: its validation loss. Losses of other temperatures, batch sizes or plans are other quantities, not better
            or worse.
        mrr: its mean reciprocal rank of validation queries, which compares them all; None with `train.select: loss`.
    """

    settings: dict[str, str]
    folder: Path
    epoch: int
    loss: float
    mrr: float | None = None


@dataclass(frozen=True)
class Sweep:
    """Its runs, in the order of the grid."""

    points: tuple[SweepPoint, ...]

    @property
    def best(self) -> SweepPoint:
        """The run with the highest mean reciprocal rank if all have one, else with the lowest validation loss."""
        ranked = all(point.mrr is not None for point in self.points)
        return min(self.points, key=lambda point: -(point.mrr or 0.0) if ranked else point.loss)

    def to_rich(self) -> Table:
        """A row a run; the best is marked."""
        names = list(self.points[0].settings)
        ranked = self.best.mrr is not None
        measure = ["mean reciprocal rank"] if ranked else []
        table = Table(*names, "validation loss", *measure, "epoch", "run", box=None, pad_edge=False)
        for point in self.points:
            numbers = [f"{point.loss:.4f}", *(["-" if point.mrr is None else f"{point.mrr:.4f}"] if ranked else [])]
            numbers[-1] += " *" if point is self.best else ""
            table.add_row(*point.settings.values(), *numbers, str(point.epoch), str(point.folder))
        return table


def sweep(
    run: RunFile | Path | str, grid: Mapping[str, Sequence[Any]], sets: Sequence[str] = (), progress: bool = True
) -> Sweep:
    """Train every combination of settings, each in a folder of its own; finished runs are reused.

    Args:
        run: a run file. The folders are its `out` with the settings behind it; decoded files are shared.
        grid: setting -> its values, e.g. `{"train.lr": [1e-3, 1e-4]}`.
        sets: changes for all of them.
        progress: say what is done.

    Raises:
        ValueError: for a grid without values, and as `train`; every combination is read before the first one trains.
    """
    base = with_sets(run, sets) if isinstance(run, RunFile) else read_run_file(run, sets)
    if not grid or not all(grid.values()):
        raise ValueError(f"grid: expected settings, each with its values; got {dict(grid)}")
    runs: dict[str, tuple[dict[str, str], RunFile]] = {}
    for values in product(*grid.values()):
        settings = {name: _yaml_value(value) for name, value in zip(grid, values)}
        changed = with_sets(base, [f"{name}={text}" for name, text in settings.items()])
        out = base.out
        for name, text in settings.items():
            plain = "".join(mark if mark.isalnum() or mark in ".-" else "_" for mark in text)
            out += f"-{name.rpartition('.')[2]}{plain}"
        if out in runs:
            raise ValueError(f"grid: {settings} and {runs[out][0]} would share the folder {out}; leave one out")
        runs[out] = settings, changed.model_copy(update={"out": out})
    points = []
    for out, (settings, changed) in runs.items():
        best = best_record(read_log(train(changed, progress=progress), "validation"))
        points.append(SweepPoint(settings, Path(out), best["epoch"], best["total"], best.get("mrr")))
    return Sweep(tuple(points))


def _yaml_value(value: Any) -> str:
    return value if isinstance(value, str) else to_yaml({"": value}, flow=True).partition(":")[2].strip()
