"""Sources decoded, or encoded to features, once into a cache; those that cannot be read are named.

The keys are hashes of what the sources hold, so that files may be renamed, moved and reordered.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from confu.data.cache import CachedColumn, PartStore, keyed_folder
from confu.data.columns import CaptionColumn, Column, first_rows
from confu.data.parallel import in_threads, tracked
from confu.data.readers import Reader
from confu.data.readers.source import Source, fingerprint


@dataclass(frozen=True)
class Decoded:
    """What was made of some sources.

    Attributes:
        store: holds the items.
        keys: by source, the keys of its items; None where there is no source, or where it cannot be read.
        errors: by the number of the source, why it cannot be read.
        reader: read them.
    """

    store: PartStore
    keys: list[list[str] | None]
    errors: dict[int, ValueError]
    reader: Reader

    def column(self) -> CachedColumn:
        """The items as a column: all of a source, one after another, a row each. A source without items is one row."""
        keys = [key for items in self.keys for key in (items or [None])]
        return CachedColumn(self.store, keys, self.reader.collate, self.reader)


def decode(
    sources: Sequence[Source | None],
    reader: Reader,
    cache: Path | str,
    pieces: int | None = None,
    workers: int = 0,
    progress: bool = True,
    hashes: dict[str, str] | None = None,
) -> Decoded:
    """Read every source that can be read once, and keep what was read; only what is not in the cache is decoded.

    Args:
        sources: None where there is none.
        reader: reads them; its settings name the folder in the cache.
        cache: a folder, shared by any number of data sets and processes.
        pieces: the first axis of what the reader gives, e.g. frames, each of which is an item; None is one item a
            source.
        workers: threads that read; 0 reads in the caller's.
        progress: whether to draw a progress bar.
        hashes: what files hold by their path, where that is known; it is added to. Files that are decoded for several
            modalities are so read no more often than needed.

    Raises:
        OSError: no room for the cache. What was written before stays.
    """
    sources = list(sources)
    hashes = {} if hashes is None else hashes
    first = first_rows(sources, [row for row, source in enumerate(sources) if source is not None])
    distinct = list(dict.fromkeys(first.values()))
    keys: dict[int, list[str]] = {}
    errors: dict[int, ValueError] = {}
    with PartStore(keyed_folder(Path(cache), reader.settings["kind"], reader.settings), not reader.stackable) as store:

        def read(row: int) -> tuple[list[str], list[Tensor]] | ValueError:
            source = content = sources[row]
            path = str(source) if isinstance(source, str | Path) else None
            try:
                if path is None or (known := hashes.get(path)) is None:
                    known, content = fingerprint(source)
                    if path is not None:
                        hashes[path] = known
                keys_of = [known] if pieces is None else [piece_key(known, piece) for piece in range(pieces)]
                if all(key in store for key in keys_of):
                    return keys_of, []
                item = reader.read(content)
            except ValueError as error:
                return error
            return keys_of, [item] if pieces is None else list(item)

        results = in_threads(read, distinct, workers)
        for row, result in zip(distinct, tracked(results, f"reading {reader.modality_kind}", distinct, progress)):
            if isinstance(result, ValueError):
                errors[row] = result
                continue
            keys[row], items = result
            for key, item in zip(keys[row], items):
                store.add(key, item.clone() if pieces else item)  # a frame alone must not keep the others in memory
    return Decoded(
        store,
        [keys.get(first[row]) if row in first else None for row in range(len(sources))],
        {row: errors[first[row]] for row in first if first[row] in errors},
        reader,
    )


def piece_key(key: str, piece: int) -> str:
    """The key of a part of an item.

    >>> piece_key("17b37822ccfa3c3014b660992049bd6f", 0) == piece_key("17b37822ccfa3c3014b660992049bd6f", 1)
    False
    """
    return hashlib.blake2b(f"{key} {piece}".encode(), digest_size=16).hexdigest()


def caption_column(texts: Sequence[str | None], reader: Any) -> CaptionColumn:
    """The column of texts that were read; those that repeat are stored once."""
    numbers: dict[str, int] = {}
    index = [-1 if text is None else numbers.setdefault(text, len(numbers)) for text in texts]
    return CaptionColumn(list(numbers), torch.tensor(index, dtype=torch.long), reader)


def feature_column(
    column: Column,
    sources: Sequence[Source | None],
    embed: Callable[[Any], Tensor],
    name: str,
    cache: Path,
    batch_size: int = 64,
    progress: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> CachedColumn:
    """A frozen encoder's features of every row, computed once; batches are {"features": (n, width)}.

    Args:
        column: gives the inputs of some rows.
        sources: one a row, what the column is made of; None where a row lacks this modality.
        embed: (n, width) features of a column's `values`; runs without gradients. It moves them to its device.
        name: of the encoder, such that another encoder has another: a hash of its settings and weights.
        cache: as for `decode`.
        batch_size: rows that are encoded at once.
        progress: whether to draw a progress bar.
        settings: what else the features depend on; None is the settings of the column's reader or tokenizer.

    Raises:
        ValueError: a source that cannot be read, or NaN among the features, with the row; a column without settings.
        OSError: no room for the cache. What was written before stays.
    """
    sources = list(sources)
    reader = column.tokenizer if isinstance(column, CaptionColumn) else getattr(column, "reader", None)
    settings = settings or getattr(reader, "settings", None)
    if settings is None:
        raise ValueError(f"settings: a {type(column).__name__} does not say how its values were read; give settings")
    rows = [row for row, source in enumerate(sources) if source is not None]
    if len(sources) != len(column) or not torch.equal(column.present.nonzero()[:, 0], torch.tensor(rows).long()):
        raise ValueError(f"sources: expected one for each of {len(column)} rows, None where the column has no value")
    first = first_rows(sources, rows)
    distinct = list(dict.fromkeys(first.values()))
    text = isinstance(column, CaptionColumn) or getattr(reader, "modality_kind", None) == "text"

    def key_of(row: int) -> str:
        known = column.keys[row] if isinstance(column, CachedColumn) else None
        source: Any = sources[row]
        try:
            return known or fingerprint(source.encode() if text else source)[0]
        except ValueError as error:
            raise ValueError(f"row {row}: {error}") from error

    hashed = in_threads(key_of, distinct, min(8, os.cpu_count() or 1))
    keys = dict(zip(distinct, tracked(hashed, "looking for features", distinct, progress)))
    with PartStore(keyed_folder(cache, "features", {"reader": settings, "encoder": name}), ragged=False) as store:
        new = list({key: row for row, key in reversed(keys.items()) if key not in store}.values())[::-1]
        batches = [new[start : start + batch_size] for start in range(0, len(new), batch_size)]
        taken = in_threads(lambda batch: column.take(torch.tensor(batch), name), batches, workers=1)
        for batch, inputs in zip(batches, tracked(taken, "computing features", batches, progress)):
            with torch.inference_mode():
                features = embed(inputs.values).float().cpu()[inputs.rows]
            for row, vector in zip(batch, features):
                if not vector.isfinite().all():
                    raise ValueError(f"row {row}: its features are NaN or infinite; check the encoder's weights")
                store.add(keys[row], vector)
    return CachedColumn(store, [keys[first[row]] if row in first else None for row in range(len(sources))], _features)


def _features(items: Tensor | list[Tensor]) -> dict[str, Tensor]:
    return {"features": items if isinstance(items, Tensor) else torch.zeros(0, 0)}
