"""What a run shows while it trains: a progress bar and the loss of every term."""

from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from confu.training.settings import TrainSettings


class Display:
    """On a terminal a bar above a table of terms; elsewhere one line an epoch; with `shown=False` nothing."""

    def __init__(self, settings: TrainSettings, steps_per_epoch: int, shown: bool) -> None:
        self._console = Console(stderr=True)
        self._shown = shown
        self._steps = steps_per_epoch
        self._epochs = settings.epochs
        self._train: dict[str, Any] = {}
        self._validation: dict[str, Any] = {}
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task(
            "train", total=settings.epochs * steps_per_epoch, epoch=1, epochs=settings.epochs
        )
        on_terminal = shown and self._console.is_terminal
        self._live = Live(console=self._console, transient=True, refresh_per_second=4) if on_terminal else None

    def step(self, epoch: int, step: int, record: dict[str, Any]) -> None:
        """Show the losses of a training step."""
        self._train = record
        self._bar.update(self._task, completed=epoch * self._steps + step, epoch=epoch + 1)
        self._refresh()

    def validation(self, epoch: int, record: dict[str, Any], seconds: float) -> None:
        """Show the losses of a validation; without a terminal, print a line."""
        self._validation = record
        self._refresh()
        if self._shown and self._live is None:
            metrics = "".join(f"  {name} {value:.3f}" for name, value in record["metrics"].items())
            self._console.print(
                f"epoch {epoch + 1}/{self._epochs}  train {self._train.get('total', float('nan')):.3f}  "
                f"validation {record['total']:.3f}{metrics}  {seconds:.0f} s",
                soft_wrap=True, highlight=False,
            )  # fmt: skip

    def _refresh(self) -> None:
        if self._live is None:
            return
        table = Table("loss (nats)", "train", "validation", box=None, pad_edge=False)
        rows = {"total": (self._train.get("total"), self._validation.get("total"))}
        for kind in ("terms", "metrics"):
            names = dict.fromkeys([*self._train.get(kind, {}), *self._validation.get(kind, {})])
            rows |= {
                name: (self._train.get(kind, {}).get(name), self._validation.get(kind, {}).get(name)) for name in names
            }
        for name, values in rows.items():
            table.add_row(name, *("" if value is None else f"{value:.3f}" for value in values))
        self._live.update(Group(self._bar, table))

    def __enter__(self) -> "Display":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
