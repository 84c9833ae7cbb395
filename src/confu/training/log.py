"""The record of a run: JSON lines always, TensorBoard where it is installed."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any


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
            for tag, value in _flatten(values, kind):
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(folder: Path | str, kind: str | None = None) -> list[dict[str, Any]]:
    """The records of a run, all or those of one kind (`"train"`, `"validation"`)."""
    lines = (Path(folder) / "log.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [record for record in records if kind is None or record["kind"] == kind]


def _flatten(values: dict[str, Any], prefix: str) -> list[tuple[str, float]]:
    found = []
    for name, value in values.items():
        tag = f"{prefix}/{name}"
        if isinstance(value, dict):
            found += _flatten(value, tag)
        elif isinstance(value, int | float):
            found.append((tag, float(value)))
    return found
