"""A reader that counts, so that tests see what was read."""

import threading
import time
from typing import Any

import torch
from torch import Tensor

from confu.data.readers import VectorReader


class CountingReader:
    """Vectors of three numbers; remembers every source it read, may be slow, and may be refused a number."""

    stackable = True
    modality_kind = "vector"

    def __init__(self, seconds: float = 0.0, refused: float | None = None) -> None:
        self.settings: dict[str, Any] = {"kind": "vector", "dim": 3}
        self.seconds = seconds
        self.refused = refused
        self.read_sources: list[Any] = []
        self.threads: set[int] = set()

    def read(self, source: Any) -> Tensor:
        time.sleep(self.seconds)
        self.threads.add(threading.get_ident())
        self.read_sources.append(source)
        item = VectorReader(3).read(source)
        if item[0] == self.refused:
            raise ValueError(f"{source}: is refused")
        return item

    def collate(self, items: Any) -> Tensor:
        return VectorReader(3).collate(items)


def vectors(count: int, start: int = 0) -> list[list[float]]:
    return [[float(number), 1.0, 2.0] for number in range(start, start + count)]


def taken(column: Any, rows: list[int]) -> list[Any]:
    """The values of each row, None where it has none."""
    inputs = column.take(torch.tensor(rows, dtype=torch.long), "sensor")
    values = inputs.values["features"] if isinstance(inputs.values, dict) else inputs.values
    return [None if row < 0 else values[row].tolist() for row in inputs.rows.tolist()]
