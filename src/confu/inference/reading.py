"""From sources (files, bytes, arrays, texts) to the inputs of an encoder, by the reader of each modality.

A source that cannot be read does not end the work here: what is wrong with it is handed back, and whoever asked says
where the source stands.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from confu.data.readers import Reader
from confu.types import Inputs

Item = Tensor | str
Sources = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Broken:
    """A source that could not be read.

    Attributes:
        position: of its row among those given.
        modality: whose source it is.
        what: what is wrong with it.
    """

    position: int
    modality: str
    what: str


@dataclass(frozen=True)
class ReadRows:
    """The items of some rows by modality, as far as they could be read.

    Attributes:
        items: modality -> one a row; None where the row has none, or where it is broken.
        broken: what could not be read, by row and then by modality.
    """

    items: dict[str, list[Item | None]]
    broken: list[Broken]


class SourceReading:
    """Reads sources in threads, so that files are opened while the model computes.

    Use it as a context: the threads end with it.

    Args:
        readers: by modality.
        workers: threads.

    Raises:
        ValueError: for fewer than one thread.
    """

    def __init__(self, readers: Mapping[str, Reader], workers: int = 1) -> None:
        if workers < 1:
            raise ValueError(f"workers is the number of threads that read files, at least 1; got {workers}")
        self._readers = dict(readers)
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="confu-read")

    def begin(self, sources: Sources) -> "PendingRows":
        """Start to read these rows; None is a missing source."""
        return PendingRows(
            {
                name: [
                    None if source is None else self._pool.submit(_read, self._readers[name], source)
                    for source in column
                ]
                for name, column in sources.items()
            }
        )

    def ahead(self, parts: Iterable[Sources]) -> Iterator[ReadRows]:
        """Read part after part; the next one is begun before one is handed out."""
        pending: PendingRows | None = None
        for part in parts:
            begun, pending = pending, self.begin(part)
            if begun is not None:
                yield begun.result()
        if pending is not None:
            yield pending.result()

    def __enter__(self) -> "SourceReading":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class PendingRows:
    """Rows that are being read."""

    def __init__(self, futures: dict[str, list[Future[Item | ValueError] | None]]) -> None:
        self._futures = futures

    def result(self) -> ReadRows:
        """Wait for all of them."""
        read = {
            name: [None if future is None else future.result() for future in column]
            for name, column in self._futures.items()
        }
        broken = [
            Broken(position, name, str(one))
            for name, column in read.items()
            for position, one in enumerate(column)
            if isinstance(one, ValueError)
        ]
        order = {name: place for place, name in enumerate(read)}
        items = {
            name: [None if isinstance(one, ValueError) else one for one in column] for name, column in read.items()
        }
        return ReadRows(items, sorted(broken, key=lambda one: (one.position, order[one.modality])))


def collate(reader: Reader, items: Sequence[Item | None]) -> Inputs:
    """What the encoder gets for these rows; a row without an item lacks the modality."""
    there = [item for item in items if item is not None]
    found = torch.tensor([item is not None for item in items], dtype=torch.bool)
    rows = torch.where(found, found.cumsum(0) - 1, -1)
    # No encoder is asked for an empty batch, and no reader needs to know what one looks like.
    return Inputs(reader.collate(there) if there else torch.zeros(0), rows)


def _read(reader: Reader, source: Any) -> Item | ValueError:
    try:
        return reader.read(source)
    except ValueError as error:
        return error
