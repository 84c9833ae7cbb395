"""What was decoded or encoded once is kept, by its content: a folder of memory-mapped parts, and columns over it.

An item's key is the hash of what its source holds, so that files may be renamed, moved and reordered; its folder is
named by the hash of the reader's settings, and for features of the encoder too.
"""

import errno
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from confu.data.columns import Indices, distinct
from confu.data.readers.reader import Reader
from confu.files import write_json, written_whole
from confu.types import Inputs

FORMAT = 2  # raise it when what readers make of the same settings changes: older caches are then passed over
PART_BYTES = 128 * 2**20
PART_SECONDS = 60.0  # what a process that is killed can lose
_LEFT_SECONDS = 3600.0  # no part takes so long to write: what is unfinished then was left by a killed process
_KEYS = ".keys.npy"
_ENTRY = np.dtype([("key", "S32"), ("length", "<i8")])


class CachedColumn:
    """Rows whose items lie in a `PartStore`. Rows of equal content share one input.

    Args:
        store: holds the items.
        keys: one a row; None where a row lacks this modality.
        collate: what the encoder gets for some items: one tensor of them, or a list from a ragged store; it may be
            empty.
        reader: read the items, if a reader did.
    """

    def __init__(
        self,
        store: "PartStore",
        keys: Sequence[str | None],
        collate: Callable[[Any], Tensor | dict[str, Tensor]],
        reader: Reader | None = None,
    ) -> None:
        self.store = store
        self.keys = list(keys)
        self.reader = reader
        self._collate = collate
        numbers = {key: number for number, key in enumerate(dict.fromkeys(key for key in self.keys if key is not None))}
        self._places: Int[Tensor, "items 3"] = store.places(list(numbers))
        self._item = torch.tensor([-1 if key is None else numbers[key] for key in self.keys], dtype=torch.long)

    def __len__(self) -> int:
        return len(self._item)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """(n,) the rows that have an item."""
        return self._item >= 0

    @property
    def contents(self) -> Int[Tensor, " n"]:
        """The item of each row: equal for equal content of its file, text or vector."""
        return self._item

    def check(self, modality: str) -> None:
        """See `Column`; items were checked before they were stored."""

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`."""
        items, rows = distinct(self._item[indices])
        return Inputs(self._collate(self.store.gather(self._places[items]) if len(items) else []), rows)


class PartStore:
    """A folder of parts; each holds some items, one after another along the first axis.

        <name>.npy        the items; those that differ in length lie end to end
        <name>.keys.npy   the key and the length of each; written last, so that without it there is no part

    A part's name is drawn at random: processes that fill one folder at once never write the same file. Items are
    added in a `with` block; whatever ends it, the items so far are written.

    Args:
        folder: made if there is none.
        ragged: whether the items differ in length along their first axis; otherwise all have one shape.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as place:
    ...     with PartStore(Path(place), ragged=False) as store:
    ...         store.add("a", torch.tensor([1.0, 2.0]))
    ...     store.gather(store.places(["a", "a"])).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """

    def __init__(self, folder: Path, ragged: bool) -> None:
        self.folder = folder
        self.ragged = ragged
        self.parts: list[Tensor] = []
        self._known: set[str] = set()
        self._place: dict[str, tuple[int, int, int]] = {}
        self._pending: dict[str, Tensor] = {}
        self._pending_bytes = 0
        self._begun = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self._place or key in self._pending

    def __enter__(self) -> "PartStore":
        return self

    def __exit__(self, *error: Any) -> None:
        self.flush()

    def refresh(self) -> None:
        """Map the parts that were written since, by this process or another."""
        for keys in sorted(self.folder.glob(f"*{_KEYS}")):
            name = keys.name.removesuffix(_KEYS)
            if name in self._known:
                continue
            entries, part = _read_part(self.folder / f"{name}.npy", keys)
            self._known.add(name)
            self.parts.append(part)
            lengths = entries["length"]
            starts = (np.cumsum(lengths) - lengths).tolist()
            for key, start, length in zip(entries["key"].tolist(), starts, lengths.tolist()):
                self._place.setdefault(key.decode(), (len(self.parts) - 1, start, length))

    def add(self, key: str, item: Tensor) -> None:
        """Store an item under a key of at most 32 characters; one whose key is there already is left out.

        Raises:
            OSError: no room on the disk, or another reason why nothing can be written. The parts so far stay.
        """
        if key in self:
            return
        self._pending[key] = item
        self._pending_bytes += item.nbytes
        if self._pending_bytes >= PART_BYTES or time.monotonic() - self._begun >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added as one part."""
        pending, self._pending, self._pending_bytes = self._pending, {}, 0
        self._begun = time.monotonic()
        if not pending:
            return
        items = list(pending.values())
        lengths = [len(item) if self.ragged else 1 for item in items]
        entries = np.array(list(zip([key.encode() for key in pending], lengths)), dtype=_ENTRY)
        name = uuid.uuid4().hex
        try:
            _save(self.folder / f"{name}.npy", (torch.cat(items) if self.ragged else torch.stack(items)).numpy())
            _save(self.folder / f"{name}{_KEYS}", entries)
        except OSError as error:
            (self.folder / f"{name}.npy").unlink(missing_ok=True)
            raise OSError(
                error.errno or errno.EIO,
                f"{self.folder}: cannot write the cache ({error.strerror}). What was written before stays and is used "
                "the next time; make room, or choose another folder",
            ) from error
        self.refresh()

    def places(self, keys: Sequence[str]) -> Int[Tensor, "items 3"]:
        """Where items lie: part, start and length."""
        return torch.tensor([self._place[key] for key in keys], dtype=torch.long).reshape(-1, 3)

    def gather(self, places: Int[Tensor, "items 3"]) -> Shaped[Tensor, "items ..."] | list[Tensor]:
        """Copies of items of one shape as one tensor; of a ragged store, the items. At least one of `places`."""
        if self.ragged:
            return [self.parts[part][start : start + length] for part, start, length in places.tolist()]
        first = self.parts[int(places[0, 0])]
        items = torch.empty(len(places), *first.shape[1:], dtype=first.dtype)
        for part in places[:, 0].unique().tolist():
            chosen = (places[:, 0] == part).nonzero()[:, 0]
            items[chosen] = self.parts[part].index_select(0, places[chosen, 1])
        return items

    def _remove_abandoned(self) -> None:
        """Remove what killed processes left: files half written, items without their keys."""
        for path in [*self.folder.glob(".*.partial"), *self.folder.glob("*.npy")]:
            alone = not path.name.endswith(_KEYS) and not path.with_name(f"{path.stem}{_KEYS}").exists()
            try:
                if alone and time.time() - path.stat().st_mtime > _LEFT_SECONDS:
                    path.unlink()
            except FileNotFoundError:  # another process finished or removed it
                continue


def map_npy(path: Path) -> Tensor:
    """A `.npy` file as a tensor that is read where it is looked at; unlike numpy's maps it keeps no file open."""
    header = np.load(path, mmap_mode="r", allow_pickle=False)
    if not header.nbytes:
        raise ValueError("holds nothing")
    whole = torch.from_file(str(path), shared=False, size=header.offset + header.nbytes, dtype=torch.uint8)
    dtype = torch.from_numpy(np.empty(0, header.dtype)).dtype
    return whole[header.offset :].view(dtype).view(header.shape)


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


def _save(path: Path, array: np.ndarray) -> None:
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _read_part(path: Path, keys: Path) -> tuple[np.ndarray, Tensor]:
    try:
        entries, part = np.load(keys, allow_pickle=False), map_npy(path)
        if entries.dtype != _ENTRY or len(part) != entries["length"].sum():
            raise ValueError(f"{len(part)} entries do not fit to their keys")
    except (ValueError, EOFError, RuntimeError, FileNotFoundError) as error:
        raise ValueError(
            f"{path}: a damaged part of the cache ({error}); delete it and {keys.name}, its items are made again"
        ) from error
    return entries, part
