"""What was decoded or encoded once is kept, by its content: columns over memory-mapped caches.

An item's key is the hash of what its source holds, so that files may be renamed, moved and reordered; its folder is
named by the hash of the reader's settings, and for features of the encoder too.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from torch import Tensor

from confu.data.cached_column import CachedColumn
from confu.data.columns import CaptionColumn, Column
from confu.data.parallel import in_threads
from confu.data.part_store import PartStore
from confu.data.readers import Reader
from confu.data.readers.source import Source, fingerprint
from confu.data.sources import Where, first_rows, read_row, row_number
from confu.files import write_json

FORMAT = 1  # raise it when what readers make of the same settings changes: older caches are then passed over
Item = TypeVar("Item")


def decoded_column(
    sources: Sequence[Source | None],
    reader: Reader,
    cache: Path,
    workers: int = 0,
    progress: bool = True,
    where: Where | None = None,
) -> Column:
    """Read every source once and keep what was read; only what is not in the cache is decoded.

    Texts are not cached: they become a `CaptionColumn` of the distinct ones.

    Args:
        sources: one a row; None where a row lacks this modality.
        reader: reads them; its settings name the folder in the cache.
        cache: a folder, shared by any number of data sets and processes.
        workers: threads that read; 0 reads in the caller's.
        progress: whether to draw a progress bar.
        where: names a row in messages, e.g. "row 17 (id cat-3), column 'photo'".

    Raises:
        ValueError: a source that cannot be read, with its row. What was read before it stays.
        OSError: no room for the cache. What was written before stays.
    """
    sources, where = list(sources), where or row_number
    rows = [row for row, source in enumerate(sources) if source is not None]
    if reader.modality_kind == "text":
        return _caption_column(sources, rows, reader, where)
    first = first_rows(sources, rows)
    distinct = list(dict.fromkeys(first.values()))
    keys: dict[int, str] = {}
    with PartStore(keyed_folder(cache, reader.settings["kind"], reader.settings), ragged=not reader.stackable) as store:

        def read(row: int) -> tuple[str, Tensor | str | None]:
            key, content = _key(sources[row], row, where)
            return key, None if key in store else read_row(reader, content, row, where)

        results = in_threads(read, distinct, workers)
        for row, (key, item) in zip(distinct, tracked(results, f"reading {reader.modality_kind}", distinct, progress)):
            keys[row] = key
            if isinstance(item, Tensor):
                store.add(key, item)
    return CachedColumn(store, _of_rows(keys, first, len(sources)), reader.collate, reader)


def feature_column(
    column: Column,
    sources: Sequence[Source | None],
    embed: Callable[[Any], Tensor],
    name: str,
    cache: Path,
    batch_size: int = 64,
    progress: bool = True,
    where: Where | None = None,
    settings: Mapping[str, Any] | None = None,
) -> CachedColumn:
    """A frozen encoder's features of every row, computed once; batches are {"features": (n, width)}.

    Args:
        column: gives the inputs of some rows.
        sources: one a row, what the column is made of; None where a row lacks this modality.
        embed: (n, width) features of a column's `values`; runs without gradients. It moves them to its device.
        name: of the encoder, such that another encoder has another: a hash of its settings and weights.
        cache: as for `decoded_column`.
        batch_size: rows that are encoded at once.
        progress: whether to draw a progress bar.
        where: as for `decoded_column`.
        settings: what else the features depend on; None is the settings of the column's reader or tokenizer.

    Raises:
        ValueError: a source that cannot be read, or NaN among the features, with the row; a column without settings.
        OSError: no room for the cache. What was written before stays.
    """
    sources, where = list(sources), where or row_number
    reader = column.tokenizer if isinstance(column, CaptionColumn) else getattr(column, "reader", None)
    settings = settings or getattr(reader, "settings", None)
    if settings is None:
        raise ValueError(f"settings: a {type(column).__name__} does not say how its values were read; give settings")
    rows = [row for row, source in enumerate(sources) if source is not None]
    if len(sources) != len(column) or not torch.equal(column.present.nonzero()[:, 0], torch.tensor(rows).long()):
        raise ValueError(f"sources: expected one for each of {len(column)} rows, None where the column has no value")
    first = first_rows(sources, rows)
    distinct = list(dict.fromkeys(first.values()))
    if isinstance(column, CachedColumn):
        keys = {row: key for row in distinct if (key := column.keys[row]) is not None}
    else:
        text = isinstance(column, CaptionColumn) or getattr(reader, "modality_kind", None) == "text"
        found = in_threads(lambda row: _key(sources[row], row, where, text)[0], distinct, min(8, os.cpu_count() or 1))
        keys = dict(zip(distinct, tracked(found, "looking for features", distinct, progress)))
    with PartStore(keyed_folder(cache, "features", {"reader": settings, "encoder": name}), ragged=False) as store:
        new = list({key: row for row, key in reversed(keys.items()) if key not in store}.values())[::-1]
        batches = [new[start : start + batch_size] for start in range(0, len(new), batch_size)]
        taken = in_threads(lambda batch: column.take(torch.tensor(batch), name), batches, workers=1)
        for batch, inputs in zip(batches, tracked(taken, "computing features", batches, progress)):
            with torch.inference_mode():
                features = embed(inputs.values).float().cpu()[inputs.rows]
            for row, vector in zip(batch, features):
                if not vector.isfinite().all():
                    raise ValueError(f"{where(row)}: its features are NaN or infinite; check the encoder's weights")
                store.add(keys[row], vector)
    return CachedColumn(store, _of_rows(keys, first, len(sources)), _features)


def _key(source: Source, row: int, where: Where, text: bool = False) -> tuple[str, Source]:
    try:
        return fingerprint(source.encode() if text else source)
    except ValueError as error:
        raise ValueError(f"{where(row)}: {error}") from error


def _of_rows(keys: Mapping[int, str], first: Mapping[int, int], rows: int) -> list[str | None]:
    """The key of each row, from those of the first rows with the same source."""
    return [keys[first[row]] if row in first else None for row in range(rows)]


def _features(items: Tensor | list[Tensor]) -> dict[str, Float[Tensor, "n width"]]:
    return {"features": items if isinstance(items, Tensor) else torch.zeros(0, 0)}


def _caption_column(sources: list[Source | None], rows: list[int], reader: Any, where: Where) -> CaptionColumn:
    numbers: dict[str, int] = {}
    index = torch.full((len(sources),), -1)
    for row in rows:
        text = read_row(reader, sources[row], row, where)
        index[row] = numbers.setdefault(str(text), len(numbers))
    return CaptionColumn(list(numbers), index, reader)


def keyed_folder(cache: Path, kind: str, settings: Mapping[str, Any]) -> Path:
    """The folder of these settings, with a file that says what they are."""
    named = {"format": FORMAT, **settings}
    digest = hashlib.blake2b(json.dumps(named, sort_keys=True).encode(), digest_size=8).hexdigest()
    folder = Path(cache) / f"{kind}-{digest}"
    if not (folder / "settings.json").exists():
        own = folder / f"{uuid.uuid4().hex}.json"  # several processes may come here at once
        write_json(own, named)
        own.replace(folder / "settings.json")
    return folder


def tracked(items: Iterable[Item], what: str, total: Sequence[Any], progress: bool) -> Iterator[Item]:
    """The items, with a bar on stderr of what is done of `total`."""
    console = Console(stderr=True)
    yield from track(items, what, len(total), console=console, transient=True, disable=not progress or not total)
