"""Sources decoded once into the cache, where some of them cannot be read: those are named and the others kept."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from confu.data.cache import keyed_folder, tracked
from confu.data.cached_column import CachedColumn
from confu.data.parallel import in_threads
from confu.data.part_store import PartStore
from confu.data.readers import Reader
from confu.data.readers.source import Source, fingerprint
from confu.data.sources import first_rows


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
        keys = [key for found in self.keys for key in (found or [None])]
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
    """Read every source that can be read once, and keep what was read, as `confu.data.cache.decoded_column` does.

    Args:
        sources: None where there is none.
        reader: reads them.
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
                found = [known] if pieces is None else [piece_key(known, piece) for piece in range(pieces)]
                if all(key in store for key in found):
                    return found, []
                item = reader.read(content)
            except ValueError as error:
                return error
            assert isinstance(item, Tensor)
            return found, [item] if pieces is None else list(item)

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
