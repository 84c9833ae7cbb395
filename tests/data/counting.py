"""A reader that counts, so that tests see what was read."""

import threading
from typing import Any

import torch
from torch import Tensor

from confu.data.readers import VectorReader


class CountingReader:
    """Vectors of three numbers; remembers every source it read, and may wait until several threads read at once."""

    stackable = True
    modality_kind = "vector"

    def __init__(self, threads: int = 1) -> None:
        self.settings: dict[str, Any] = {"kind": "vector", "dim": 3}
        self.read_sources: list[Any] = []
        self.threads: set[int] = set()
        self._barrier = threading.Barrier(threads)

    def read(self, source: Any) -> Tensor:
        self._barrier.wait(60)
        self.threads.add(threading.get_ident())
        self.read_sources.append(source)
        return VectorReader(3).read(source)

    def collate(self, items: Any) -> Tensor:
        return VectorReader(3).collate(items)


def vectors(count: int, start: int = 0) -> list[list[float]]:
    return [[float(number), 1.0, 2.0] for number in range(start, start + count)]


def taken(column: Any, rows: list[int]) -> list[Any]:
    """The values of each row, None where it has none."""
    inputs = column.take(torch.tensor(rows, dtype=torch.long), "sensor")
    values = inputs.values["features"] if isinstance(inputs.values, dict) else inputs.values
    return [None if row < 0 else values[row].tolist() for row in inputs.rows.tolist()]
