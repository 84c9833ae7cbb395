"""From sources (files, bytes, arrays, texts) to batches, each modality by its reader, in threads.

A source that cannot be read does not end the work here: the caller is told where it stands and what is wrong with it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from confu.checks import check_known
from confu.data.columns import numbered
from confu.data.readers import Reader
from confu.data.readers.source import is_missing
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
    # No encoder is given an empty batch, and no reader needs to know what one looks like.
    return Inputs(reader.collate(present) if present else torch.zeros(0), numbered(mask))


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


def columns_of(sources: Any, by_name: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, list[Any]]:
    """The sources as lists, one a modality, all of one length; None where an item lacks the modality.

    Args:
        sources: modality -> column; or a table: records, one dict an item, or a data frame of pandas, Polars, Arrow or
            datasets, of which the columns named as modalities are read. NaN, NaT and NA are missing. None is nothing.
        by_name: further columns.
        kinds: modality -> what it holds, one of `KINDS`.

    Raises:
        ValueError: something else, an unknown modality, one item in place of a list, or lists of differing lengths.
    """
    if sources is not None and not isinstance(sources, Mapping):
        sources = _columns_of_table(sources, kinds)
    columns = {**(sources or {}), **by_name}
    if not columns:
        raise ValueError(f"there is nothing to encode; give a list for one or more of {', '.join(kinds)}")
    lists: dict[str, list[Any]] = {}
    for name, column in columns.items():
        check_known("modality", name, kinds)
        _check_column(name, column, kinds[name])
        values = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
        lists[name] = [None if is_missing(value) else value for value in values]
    if len(set(map(len, lists.values()))) != 1:
        lengths = ", ".join(f"{name} has {len(column)}" for name, column in lists.items())
        raise ValueError(
            f"the lists must be of one length, an entry an item; {lengths}. Put None where an item lacks a modality"
        )
    return lists


def _columns_of_table(table: Any, kinds: Mapping[str, str]) -> dict[str, Any]:
    if isinstance(table, list | tuple) and all(isinstance(record, Mapping) for record in table):
        names = list(dict.fromkeys(name for record in table for name in record))
        columns = {name: [record.get(name) for record in table] for name in kinds if name in names}
    else:
        names = getattr(table, "column_names", getattr(table, "columns", None))
        if names is None or isinstance(table, Tensor | np.ndarray):
            raise ValueError(
                f"expected modality -> list of sources, a list of records such as {{{next(iter(kinds))!r}: ...}}, or a "
                f"data frame; got {type(table).__name__}"
            )
        names, frame = list(names), cast(Any, table)
        columns = {name: frame[name] for name in kinds if name in names}
    if not columns and len(table):
        raise ValueError(
            f"none of the columns {', '.join(map(str, names))} is a modality of this model, which has "
            f"{', '.join(kinds)}; rename them"
        )
    return columns or {name: [] for name in kinds}


_ITEM_AXES = {"image": (2, 3), "video": (3, 4), "vector": (1,), "sequence": (1, 2)}


def _check_column(name: str, column: Any, kind: str) -> None:
    """ValueError for one item where a list of them belongs, and for what has no order."""
    advice = f"For one item write {name}=[...]"
    got = type(column).__name__
    if isinstance(column, np.ndarray | Tensor):
        if _is_list_of_items(name, column, kind):
            return
        got = f"one array of shape {tuple(column.shape)}"
    elif isinstance(column, Mapping):
        got, advice = f"{got}, which is no list", f"{advice}, for its values {name}=list(values.values())"
    elif isinstance(column, set | frozenset):
        got = f"{got}, which has no order"
    elif kind == "audio" and isinstance(column, tuple) and any(isinstance(part, int | float) for part in column):
        got, advice = "one sound with its rate", f"Write {name}=[(samples, rate)]"
    elif kind in ("vector", "sequence") and isinstance(column, list | tuple) and column:
        if not all(isinstance(part, int | float) and not is_missing(part) for part in column):
            return
        got, advice = "numbers", f"For one item write {name}=[[...]]"
    elif not (isinstance(column, str | bytes | bytearray | memoryview | PurePath) or hasattr(column, "read")) and (
        hasattr(column, "__len__") or isinstance(column, Iterator)
    ):
        return
    raise ValueError(f"{name} must be a list with one source an item, None where it has none; got {got}. {advice}")


def _is_list_of_items(name: str, array: np.ndarray | Tensor, kind: str) -> bool:
    """Whether an array's first axis is the items: all others are those of one of its kind.

    Raises:
        ValueError: where it may also be one item.
    """
    if (isinstance(array, np.ndarray) and array.dtype.kind in "OUST") or (kind not in _ITEM_AXES and kind != "audio"):
        return array.ndim > 0
    if kind == "audio":
        raise ValueError(f"{name}: samples need their rate in Hz. Write {name}=[(samples, rate), ...]")
    shape, axes = tuple(array.shape), _ITEM_AXES[kind]
    channels = {"image": (0, 2), "video": (1, 3)}.get(kind, ())
    if array.ndim == max(axes) and any(shape[axis] in (1, 3, 4) for axis in channels):
        raise ValueError(
            f"{name}: an array of shape {shape} is one {kind} in colour, or {shape[0]} in grey. Write {name}=[array] "
            f"for one, {name}=list(array) for {shape[0]}"
        )
    return array.ndim - 1 in axes


def choose_subsets(
    columns: Mapping[str, Sequence[Any]],
    modalities: Sequence[str],
    supported: Sequence[Subset],
    use: Subset | str | Sequence[Subset | str] | None = None,
    score: str = "cosine",
) -> list[Subset]:
    """The subset to embed of each item: all that it has, or the first of `use` that it has in full.

    Subsets that `is_mean` says can be embedded too.

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
            if subset not in supported and not is_mean(subset, supported, score):
                unsupported.setdefault(subset, []).append(position)
        if unsupported:
            listed = "; ".join(f"{_items(positions)} {subset}" for subset, positions in unsupported.items())
            raise ValueError(f"{listed}, but {embeds}. {_advice(next(iter(unsupported)), supported, score)}")
        return present
    requested = [Subset.parse(one) for one in ([use] if isinstance(use, str | Subset) else use)]
    if not requested:
        raise ValueError(f"use must name a subset or several; got none. Leave it out, or choose: {embeds}")
    if unknown := [one for one in requested if one not in supported and not is_mean(one, supported, score)]:
        raise ValueError(f"use names {unknown[0]}, but {embeds}")
    requested = [next((one for one in supported if one == subset), subset) for subset in requested]  # in its order
    chosen = [next((subset for subset in requested if subset <= row), None) for row in present]
    if short := [position for position, subset in enumerate(chosen) if subset is None]:
        raise ValueError(
            f"{_items(short)} not all of {' or '.join(map(str, requested))}, which use asks for; item {short[0]} has "
            f"{present[short[0]]}. Add a subset that it has, e.g. use=['image+audio', 'image'], or leave the item out"
        )
    return [subset for subset in chosen if subset is not None]


def is_mean(subset: Subset, supported: Sequence[Subset], score: str = "cosine") -> bool:
    """Whether a subset that no term trains can be embedded as the mean of its modalities' embeddings.

    >>> image, audio, both = Subset("image"), Subset("audio"), Subset("image", "audio")
    >>> is_mean(both, [image, audio]), is_mean(both, [image, audio, both]), is_mean(both, [image])
    (True, False, False)
    """
    return score == "cosine" and subset not in supported and all(Subset(name) in supported for name in subset)


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
