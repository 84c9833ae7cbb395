"""One run of a recipe: train, embed the test set once, measure, and keep the report; a finished run is reused."""

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import nn

from confu.data import Splits
from confu.evaluation import Report, ReportRow, versions
from confu.evaluation.plots import save_figure
from confu.training import FitResult, TrainSettings, fit
from confu.training.state import claim_folder
from confu_paper.experiments.tables import ResultTable


@dataclass(frozen=True)
class Run:
    """A training run and how it is measured.

    Attributes:
        name: of its folder.
        description: with `train`, everything that makes this run what it is; JSON-able.
        train: how to train.
        splits: makes the data.
        objective: makes the model and its loss; called after the seed is set.
        measure: reads the best weights from the run folder, and the data; the only place that looks at the test set.
        monitor: numbers to log after each epoch, from the objective and the data; never from the test set.
        threads: how many torch uses; None leaves it as it is.
    """

    name: str
    description: dict[str, Any]
    train: TrainSettings
    splits: Callable[[], Splits]
    objective: Callable[[], nn.Module]
    measure: Callable[[Path, Splits], list[ReportRow]]
    monitor: Callable[[nn.Module, Splits], dict[str, float]] | None = None
    threads: int | None = None


class Outcome:
    """What a reproduction found: its reports, and a table and a figure by name.

    Args:
        size: of the experiment, for the record.
    """

    def __init__(self, size: str) -> None:
        self.size = size
        self.reports: list[Report] = []
        self.tables: dict[str, ResultTable] = {}
        self.figures: dict[str, Figure] = {}

    def execute(self, runs: Iterable[Run], folder: Path, progress: bool) -> list[Report]:
        """Execute runs, one after the other, and keep their reports."""
        found = []
        for run in runs:
            if progress:
                Console(stderr=True).print(f"[bold]{run.name}[/bold]  seed {run.train.seed}", highlight=False)
            found.append(execute(run, folder, progress))
        self.reports += found
        return found

    def include(self, other: "Outcome") -> None:
        """Take over what another reproduction found."""
        self.reports += other.reports
        self.tables |= other.tables
        self.figures |= other.figures

    def add(self, name: str, table: ResultTable, figure: Figure | None = None) -> None:
        """Keep a table and its figure, if there is one to see; a note names the precision that auto chose."""
        precisions = {_precision(report) for report in self.reports}
        chosen = {precision for requested, precision in precisions if requested != "float32"}
        if chosen:
            table = replace(table, notes=(*table.notes, f"trained in {' and '.join(sorted(chosen))}"))
        self.tables[name] = table
        if figure is not None:
            self.figures[name] = figure

    def save(self, folder: Path) -> list[Path]:
        """Write each table as `NAME.md`, `.tex`, `.csv`, its figure as `.png`, `.svg`; returns what was written."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for name, table in self.tables.items():
            written += table.write(folder, name)
        for name, figure in self.figures.items():
            written += save_figure(figure, folder / name)
        return written

    def to_dict(self) -> dict[str, Any]:
        """Every number with its settings and versions, for JSON."""
        return {
            "size": self.size,
            "tables": {name: table.to_dict() for name, table in self.tables.items()},
            "versions": versions(),
            "cpus": os.cpu_count(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
            "reports": [report.to_dict() for report in self.reports],
        }


def execute(run: Run, runs: Path, progress: bool = True) -> Report:
    """Train and measure a run under `runs`, or read the report of it if it is there with the same settings.

    A run that was interrupted goes on.

    Raises:
        ValueError: as `confu.training.fit`.
    """
    folder = runs / run.name
    file = folder / "report.json"
    claim_folder(folder, _settings(run))
    if file.exists():
        return Report.load(file)
    trained = train(run, runs, progress)
    started = time.perf_counter()
    rows = run.measure(folder, run.splits())
    trained["measure_seconds"] = round(time.perf_counter() - started, 1)
    report = Report(rows, {**_settings(run), "trained": trained}, versions())
    report.save(file)
    return report


def train(run: Run, runs: Path, progress: bool = True) -> dict[str, Any]:
    """Train a run, or go on with it; returns how it went at once if it is done.

    Raises:
        ValueError: as `confu.training.fit`.
    """
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    splits = run.splits()
    torch.manual_seed(run.train.seed)
    objective = run.objective()
    monitor = run.monitor
    result = fit(
        objective,
        splits.train,
        splits.validation,
        run.train,
        runs / run.name,
        {"run": run.name, **run.description},
        monitor=None if monitor is None else lambda: monitor(objective, splits),
        progress=progress,
    )
    return _trained(result, sum(parameter.numel() for parameter in objective.parameters()))


def measured(
    run: Run, runs: Path, name: str, settings: Mapping[str, Any], measure: Callable[[Path], list[ReportRow]],
    progress: bool = True,
) -> Report:  # fmt: skip
    """A further measurement of a run, kept beside its report as `NAME.json`; trains the run first if it has to.

    Args:
        run: what to measure.
        runs: folder of the runs.
        name: of the measurement.
        settings: what decides it; a stored one with other settings is measured again.
        measure: reads the best weights from the run folder.
        progress: whether to draw progress bars.
    """
    execute(run, runs, progress)
    folder = runs / run.name
    file = folder / f"{name}.json"
    wanted = json.loads(json.dumps({**_settings(run), "measurement": {"name": name, **settings}}))
    if file.exists() and (found := Report.load(file)).settings == wanted:
        return found
    report = Report(measure(folder), wanted, versions())
    report.save(file)
    return report


def _settings(run: Run) -> dict[str, Any]:
    return {"train": run.train.model_dump(), "run": run.name, **run.description}


def _precision(report: Report) -> tuple[str, str]:
    """The precision that a run asked for, and the one it was trained in; older reports have the first alone."""
    train: dict[str, Any] = report.settings.get("train", {})
    trained: dict[str, Any] = report.settings.get("trained", {})
    requested = train.get("precision", "float32")
    return requested, trained.get("precision", requested)


def _trained(result: FitResult, parameters: int) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "steps": result.steps,
        "best_epoch": result.best_epoch,
        "best_validation_loss": result.best_loss,
        "train_seconds": round(result.seconds, 1),
        "threads": torch.get_num_threads(),
        "precision": result.precision,
    }
