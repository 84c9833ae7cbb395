"""One run of a recipe: train, embed the test set once, measure, and keep the report; a finished run is reused."""

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console
from torch import nn

from confu.data import Splits
from confu.evaluation import Report, ReportRow, versions
from confu.training import TrainSettings, fit
from confu.training.state import claim_folder
from confu_paper.experiments.tables import ResultTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Size = Literal["smoke", "small", "paper"]


@dataclass(frozen=True)
class Budget:
    """How much is trained.

    Attributes:
        size: of encoders and training, a key of a recipe's `SCALES`.
        limit: training rows at most; None for the size's.
        epochs: None for the size's.
    """

    size: Size = "small"
    limit: int | None = None
    epochs: int | None = None

    def train(self, settings: TrainSettings, seed: int) -> TrainSettings:
        """The size's settings with the seed, and with these epochs."""
        return settings.model_copy(update={"seed": seed} | ({} if self.epochs is None else {"epochs": self.epochs}))

    @property
    def ending(self) -> str:
        """What tells the folder of such a run from one of the whole size, e.g. `-n500-e2`."""
        given = (("n", self.limit), ("e", self.epochs))
        return "".join(f"-{key}{value}" for key, value in given if value is not None)

    def notes(self, rows: str = "{} rows") -> list[str]:
        """What a table has to say about a smaller training; `rows` says which they are."""
        notes = []
        if self.size == "smoke":
            notes.append("size smoke shows that everything runs: its numbers mean little, and are not comparable")
        if self.limit is not None:
            notes.append(f"trained on {rows.format(self.limit)} only: not comparable")
        return notes


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

    @property
    def settings(self) -> dict[str, Any]:
        """What its folder is claimed with."""
        return {"train": self.train.model_dump(), "run": self.name, **self.description}


class Outcome:
    """The result of a reproduction: its reports, and tables and figures by name.

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
        reports = [execute(run, folder, progress) for run in runs]
        self.reports += reports
        return reports

    def include(self, other: "Outcome") -> None:
        """Add the reports, tables and figures of another outcome."""
        self.reports += other.reports
        self.tables |= other.tables
        self.figures |= other.figures

    def add(self, name: str, table: ResultTable, figure: "Figure | None" = None) -> None:
        """Keep a table and its figure; a note names the precision that auto chose."""
        used = set()
        for report in self.reports:
            requested = report.settings.get("train", {}).get("precision", "float32")
            if requested != "float32":  # older reports have the requested one alone
                used.add(report.settings.get("trained", {}).get("precision", requested))
        if used:
            table = replace(table, notes=(*table.notes, f"trained in {' and '.join(sorted(used))}"))
        self.tables[name] = table
        if figure is not None:
            self.figures[name] = figure

    def save(self, folder: Path) -> list[Path]:
        """Write each table as `NAME.md`, `.tex`, `.csv`, its figure as `.png`, `.svg`; returns what was written."""
        from confu.evaluation.plots import save_figure

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
    settings = claim_folder(folder, run.settings)
    if file.exists():
        return Report.load(file)
    if progress:
        Console(stderr=True).print(f"[bold]{run.name}[/bold]  seed {run.train.seed}", highlight=False)
    trained = train(run, runs, progress)
    started = time.perf_counter()
    rows = run.measure(folder, run.splits())
    trained["measure_seconds"] = round(time.perf_counter() - started, 1)
    report = Report(rows, {**settings, "trained": trained}, versions())
    report.save(file)
    return report


def train(run: Run, runs: Path, progress: bool = True) -> dict[str, Any]:
    """Train a run, or go on with it; returns the facts of the training at once if it is done.

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
    return {
        "parameters": sum(parameter.numel() for parameter in objective.parameters()),
        "steps": result.steps,
        "best_epoch": result.best_epoch,
        "best_validation_loss": result.best_loss,
        "precision": result.precision,
        "train_seconds": round(result.seconds, 1),
        "threads": torch.get_num_threads(),
    }


def measured(
    run: Run,
    runs: Path,
    name: str,
    settings: Mapping[str, Any],
    measure: Callable[[Path], list[ReportRow]],
    progress: bool = True,
) -> Report:
    """A further measurement of a run, kept beside its report as `NAME.json`; trains the run first if it has to.

    Args:
        run: to measure.
        name: of the measurement.
        settings: what decides it; a stored one with other settings is measured again.
        measure: reads the best weights from the run folder.
    """
    execute(run, runs, progress)
    folder = runs / run.name
    file = folder / f"{name}.json"
    stored_settings = claim_folder(folder, run.settings)
    expected = json.loads(json.dumps({**stored_settings, "measurement": {"name": name, **settings}}))
    if file.exists() and (stored := Report.load(file)).settings == expected:
        return stored
    report = Report(measure(folder), expected, versions())
    report.save(file)
    return report
