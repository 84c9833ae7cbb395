"""The record of a run: JSON lines always, TensorBoard where it is installed, and what a terminal shows meanwhile."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from confu.training.settings import TrainSettings


class RunLog:
    """Appends records to `log.jsonl`, and mirrors their numbers to TensorBoard if that is installed.

    A run that goes on after a crash repeats the steps since its last checkpoint; it gives the position that the log
    had then, so that no record stands twice.

    Args:
        folder: of the run; None writes nothing, for all processes but the first.
        position: bytes of the log to keep.
        step: first step that will be logged again; TensorBoard drops what it has from there.

    Raises:
        ValueError: if the log is shorter than `position`.
    """

    def __init__(self, folder: Path | None, position: int = 0, step: int = 0) -> None:
        self._board = None
        self._file = None
        if folder is None:
            return
        self._file = (folder / "log.jsonl").open("ab")
        if (size := self._file.tell()) < position:
            self._file.close()
            raise ValueError(
                f"{folder / 'log.jsonl'} holds {size} bytes, but {position} when the checkpoint was written: part of "
                "it is gone. Put it back, or delete the folder to start the run again."
            )
        self._file.truncate(position)
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            pass  # it mirrors the log, for those who have it
        else:
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append `{"kind": ..., "step": ..., **values}`; nested dictionaries of numbers become TensorBoard tags."""
        if self._file is None:
            return
        self._file.write((json.dumps({"kind": kind, "step": step, **values}) + "\n").encode())
        if self._board is not None:
            for tag, value in _numbers(values, kind):
                self._board.add_scalar(tag, value, step)

    def position(self) -> int:
        """Bytes written so far, all of them on disk."""
        if self._file is None:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(folder: Path | str, kind: str | None = None) -> list[dict[str, Any]]:
    """The records of a run, all or those of one kind (`"train"`, `"validation"`)."""
    lines = (Path(folder) / "log.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [record for record in records if kind is None or record["kind"] == kind]


def best_record(validations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the records of validations, that of the epoch that is the model: the first of those that are best."""
    if "mrr" in validations[0]:
        return max(validations, key=lambda record: record["mrr"])
    return min(validations, key=lambda record: record["total"])


def _numbers(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float):
            yield f"{prefix}/{name}", float(value)


def _shown(record: dict[str, Any]) -> dict[str, float]:
    """The metrics of a record, and the mean reciprocal rank that chooses the epoch."""
    return {**({"mrr": record["mrr"]} if "mrr" in record else {}), **record.get("metrics", {})}


class Display:
    """What standard error shows: on a terminal a bar above a table of losses, elsewhere one line an epoch."""

    def __init__(self, settings: TrainSettings, steps_per_epoch: int, enabled: bool) -> None:
        self._enabled = enabled
        self._epochs, self._steps = settings.epochs, steps_per_epoch
        self._train: dict[str, Any] = {}
        self._validation: dict[str, Any] = {}
        self._live: Any = None
        if enabled and sys.stderr.isatty():
            from rich import progress
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            epoch = progress.TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}")
            elapsed, left = progress.TimeElapsedColumn(), progress.TimeRemainingColumn()
            columns = (
                epoch,
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                elapsed,
                progress.TextColumn("left"),
                left,
            )
            self._bar = progress.Progress(*columns, console=console)
            self._task = self._bar.add_task("", total=self._epochs * self._steps, epoch=1, epochs=self._epochs)
            self._live = Live(console=console, transient=True, refresh_per_second=4)

    def note(self, text: str) -> None:
        """Print a line."""
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False, soft_wrap=True)
        elif self._enabled:
            print(text, file=sys.stderr, flush=True)

    def step(self, epoch: int, step: int, record: dict[str, Any]) -> None:
        """Show the losses of a training step."""
        self._train = record
        if self._live is not None:
            self._bar.update(self._task, completed=epoch * self._steps + step, epoch=epoch + 1)
            self._refresh()

    def validation(self, epoch: int, record: dict[str, Any], seconds: float) -> None:
        """Show the losses of a validation."""
        self._validation = record
        if self._live is not None:
            self._refresh()
            return
        metrics = "".join(f"  {name} {value:.3f}" for name, value in _shown(record).items())
        self.note(
            f"epoch {epoch + 1}/{self._epochs}  train {self._train.get('total', float('nan')):.3f}  "
            f"validation {record['total']:.3f}{metrics}  {seconds:.0f} s"
        )

    def _refresh(self) -> None:
        from rich.console import Group
        from rich.table import Table

        table = Table("loss (nats)", "train", "validation", box=None, pad_edge=False)
        columns = [
            {"total": record.get("total"), **record.get("terms", {}), **_shown(record)}
            for record in (self._train, self._validation)
        ]
        for name in dict.fromkeys(name for column in columns for name in column):
            values = [column.get(name) for column in columns]
            table.add_row(name, *("" if value is None else f"{value:.3f}" for value in values))
        self._live.update(Group(self._bar, table))

    def __enter__(self) -> "Display":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
