"""From sources (files, bytes, arrays, texts) to batches, each modality by its reader, in threads.

A source that cannot be read does not end the work here: the caller is told where it stands and what is wrong with it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from confu.checks import check_known
from confu.data.readers import Reader
from confu.plan import Subset
from confu.types import Batch, Inputs

Item = Tensor | str
Sources = Mapping[str, Sequence[Any]]
"""Modality -> one source a row, None where the row has none."""

_MOST_POSITIONS = 8  # in an error


def collate(reader: Reader, items: Sequence[Item | None]) -> Inputs:
    """The input of an encoder for these rows; a row without an item lacks the modality."""
    present = [item for item in items if item is not None]
    mask = torch.tensor([item is not None for item in items], dtype=torch.bool)
    rows = torch.where(mask, mask.cumsum(0) - 1, -1)
    # No encoder is given an empty batch, and no reader needs to know what one looks like.
    return Inputs(reader.collate(present) if present else torch.zeros(0), rows)


def read_batches(
    readers: Mapping[str, Reader],
    sources: Sources,
    groups: Iterable[tuple[Sequence[str] | Subset, Sequence[int]]],
    on_broken: Callable[[int, str, str], None],
    ids: Sequence[str] | None = None,
    workers: int = 1,
) -> Iterator[Batch]:
    """Read rows of sources into batches; files of the next batch are read while the caller computes.

    Args:
        readers: by modality.
        sources: modality -> one source a row, None where it is missing.
        groups: the modalities and the rows of each batch.
        on_broken: called with row, modality and reason for each source that cannot be read. It raises, or the row is
            left out; a batch of which no row is left is not yielded.
        ids: of the rows; by default their numbers.
        workers: threads that read files.
    """
    if workers < 1:
        raise ValueError(f"workers is the number of threads that read files, at least 1; got {workers}")
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="confu-read")

    def read(name: str, source: Any) -> Item | ValueError | None:
        try:
            return None if source is None else readers[name].read(source)
        except ValueError as error:
            return error

    def finish(rows: Sequence[int], futures: dict[str, list[Any]]) -> Batch | None:
        items = {name: [future.result() for future in column] for name, column in futures.items()}
        good: list[int] = []
        for position, row in enumerate(rows):
            errors = {name: item for name in items if isinstance(item := items[name][position], ValueError)}
            for name, error in errors.items():
                on_broken(row, name, str(error))
            if not errors:
                good.append(position)
        if not good:
            return None
        inputs = {name: collate(readers[name], [column[i] for i in good]) for name, column in items.items()}
        return Batch(inputs, [str(rows[i]) if ids is None else ids[rows[i]] for i in good])

    pending: deque[tuple[Sequence[int], dict[str, list[Any]]]] = deque()
    try:
        for names, rows in groups:
            pending.append((rows, {n: [pool.submit(read, n, sources[n][row]) for row in rows] for n in names}))
            if len(pending) > 1 and (batch := finish(*pending.popleft())) is not None:
                yield batch
        while pending:
            if (batch := finish(*pending.popleft())) is not None:
                yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def check_columns(columns: Mapping[str, Sequence[Any]], modalities: Sequence[str]) -> dict[str, list[Any]]:
    """The sources as lists, one a modality, all of one length."""
    if not columns:
        raise ValueError(f"there is nothing to encode; give a list for one or more of {', '.join(modalities)}")
    for name, column in columns.items():
        check_known("modality", name, modalities)
        if isinstance(column, str | bytes) or not hasattr(column, "__len__"):
            raise ValueError(
                f"{name} must be a list with one source an item, None where it has none; got {type(column).__name__}. "
                f"For one item write {name}=[...]"
            )
    if len({len(column) for column in columns.values()}) != 1:
        lengths = ", ".join(f"{name} has {len(column)}" for name, column in columns.items())
        raise ValueError(
            f"the lists must be of one length, an entry an item; {lengths}. Put None where an item lacks a modality"
        )
    return {name: list(column) for name, column in columns.items()}


def choose_subsets(
    columns: Mapping[str, Sequence[Any]],
    modalities: Sequence[str],
    supported: Sequence[Subset],
    use: Subset | str | Sequence[Subset | str] | None = None,
    score: str = "cosine",
) -> list[Subset]:
    """The subset to embed of each item: all that it has, or the first of `use` that it has in full.

    >>> columns, image, both = {"image": [1, 2], "audio": [3, None]}, Subset("image"), Subset("image", "audio")
    >>> choose_subsets(columns, ["image", "audio"], [image, both])
    [Subset('image+audio'), Subset('image')]
    >>> choose_subsets(columns, ["image", "audio"], [image, both], use="image")
    [Subset('image'), Subset('image')]
    """
    embeds = f"this model embeds {', '.join(map(str, supported))}"
    names = [name for name in modalities if name in columns]
    rows = [
        [name for name, source in zip(names, row) if source is not None] for row in zip(*(columns[n] for n in names))
    ]
    if empty := [position for position, row in enumerate(rows) if not row]:
        raise ValueError(f"{_items(empty)} no modality at all; give each item at least one source. Note that {embeds}")
    present = [Subset(*row) for row in rows]
    if use is None:
        unsupported: dict[Subset, list[int]] = {}
        for position, subset in enumerate(present):
            if subset not in supported:
                unsupported.setdefault(subset, []).append(position)
        if unsupported:
            listed = "; ".join(f"{_items(positions)} {subset}" for subset, positions in unsupported.items())
            raise ValueError(f"{listed}, but {embeds}. {_advice(next(iter(unsupported)), supported, score)}")
        return present
    requested = [Subset.parse(one) for one in ([use] if isinstance(use, str | Subset) else use)]
    if not requested:
        raise ValueError(f"use must name a subset or several; got none. Leave it out, or choose: {embeds}")
    if unknown := [subset for subset in requested if subset not in supported]:
        raise ValueError(f"use names {unknown[0]}, but {embeds}")
    requested = [next(one for one in supported if one == subset) for subset in requested]  # in the plan's order
    chosen = [next((subset for subset in requested if subset <= row), None) for row in present]
    if short := [position for position, subset in enumerate(chosen) if subset is None]:
        raise ValueError(
            f"{_items(short)} not all of {' or '.join(map(str, requested))}, which use asks for; item {short[0]} has "
            f"{present[short[0]]}. Add a subset that it has, e.g. use=['image+audio', 'image'], or leave the item out"
        )
    return [subset for subset in chosen if subset is not None]


def _advice(subset: Subset, supported: Iterable[Subset], score: str) -> str:
    if score != "cosine":
        return (
            f"Its method compares the embeddings of single modalities (by {score}) and fuses none: encode each "
            "modality by itself"
        )
    inside = [str(one) for one in supported if one < subset]
    if not inside:
        return f"No part of it can be embedded; train with a term of {subset}"
    return f"Pass use={inside[-1]!r} to embed that part of it, or train with a term of {subset}"


def _items(positions: Sequence[int]) -> str:
    more = f" and {len(positions) - _MOST_POSITIONS} more" if len(positions) > _MOST_POSITIONS else ""
    item, has = ("items", "have") if len(positions) > 1 else ("item", "has")
    return f"{item} {', '.join(map(str, positions[:_MOST_POSITIONS]))}{more} {has}"
