"""One modality of a manifest read once: each cell is checked, and what it holds is kept in the cache by its content."""

import json
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from confu.data import Column
from confu.data.cache import CachedColumn, PartStore, keyed_folder
from confu.data.columns import CaptionColumn, SourceColumn
from confu.data.manifest import Manifest, Problem
from confu.data.media import FILE_KINDS
from confu.data.parallel import in_threads, tracked
from confu.data.readers import Reader, TableReader, TokensReader, WordsReader, build_reader
from confu.data.readers.reader import read_checked, reading_settings
from confu.data.readers.scaling import scaling_of
from confu.data.readers.source import fingerprint, remarks
from confu.files import write_json
from confu.nn.encoders import features_fingerprint, frozen_features
from confu.runs.columns import cell_problem, read_sources, some_numbers
from confu.runs.run_file import RunFile

_FEATURE_BATCH = 64
_REMARKED = "remarks.json"
_SAMPLE = 1000  # files that the mean and spread of pictures, sounds and videos are measured on
_GATHERED = 256


@dataclass
class Decoded:
    """One modality of some rows of a manifest.

    Attributes:
        manifest: of the rows.
        name: of the column.
        reader: reads the cells.
        sources: by row, of the cells that are filled.
        problems: the cells that cannot be used.
        store: the cache, or None where cells are decoded at each batch.
        keys: by row, of its item in the cache; the text itself for texts.
        features: whether the cache holds a frozen encoder's features in place of its inputs.
        cut: rows whose text is longer than its encoder takes.
        remarks: what the reader remarked on rows that it could read, e.g. that a sound is silent: text -> rows.
    """

    manifest: Manifest
    name: str
    reader: Reader
    sources: dict[int, Any]
    problems: list[Problem]
    store: PartStore | None = None
    keys: dict[int, str] = field(default_factory=dict)
    features: bool = False
    cut: list[int] = field(default_factory=list)
    remarks: dict[str, list[int]] = field(default_factory=dict)

    def remark_notes(self, name: str) -> list[str]:
        """A line for each remark, with the rows.

        Args:
            name: of the modality.
        """
        total = len(self.keys)
        return [
            f"{name}: {len(rows)} of {total} {self.reader.modality_kind} cells: each {text}; rows {some_numbers(rows)}"
            for text, rows in self.remarks.items()
        ]

    def column(self, rows: Sequence[int], workers: int = 0) -> Column:
        """The column of a data set of these rows."""
        if self.store is not None:
            collate = _feature_batch if self.features else self.reader.collate
            keys = [self.keys.get(row) for row in rows]
            return CachedColumn(self.store, keys, collate, None if self.features else self.reader)
        if self.reader.modality_kind == "text" and not self.features:
            numbers: dict[str, int] = {}
            index = [-1 if row not in self.keys else numbers.setdefault(self.keys[row], len(numbers)) for row in rows]
            tokenizer: Any = self.reader
            return CaptionColumn(list(numbers), torch.tensor(index, dtype=torch.long), tokenizer)
        where = [self.manifest.where(row, self.name) for row in rows]
        return SourceColumn([self.sources.get(row) for row in rows], self.reader, workers, where.__getitem__)

    def fit_scaling(self, name: str, rows: Sequence[int], seed: int) -> list[str]:
        """Fit the mean and spread by which the reader standardises, if it does, and notes on them.

        Args:
            name: of the modality, for the notes.
            rows: the training rows; of files a sample of them is taken.
            seed: of the sample.
        """
        scaling, notes = scaling_of(self.reader), []
        if isinstance(self.reader, TableReader) and self.reader.constant:
            names = ", ".join(self.reader.constant)
            return [f"{name}: the columns {names} have one value in every training row and are left out"]
        usable = [row for row in rows if row in self.keys]
        if scaling is None or not scaling.unfitted or not usable:
            return notes
        if self.reader.modality_kind in FILE_KINDS and len(usable) > _SAMPLE:
            notes = [f"{name}: standardised by {_SAMPLE:,} of {len(usable):,} training rows, drawn by the seed {seed}"]
            usable = np.random.default_rng(seed).permutation(usable)[:_SAMPLE].tolist()
        fitted = scaling.fit(self._items(usable))
        self.reader = build_reader({**self.reader.settings, **fitted.settings})
        if constant := fitted.constant:
            what = "band" if self.reader.modality_kind == "audio" else "feature"
            notes.append(
                f"{name}: {len(constant)} of {fitted.features} {what}s have one value in every training row and are "
                f"left out: {some_numbers(constant)} (counted from 0)"
            )
        return notes

    def _items(self, rows: Sequence[int]) -> Iterator[Tensor]:
        if self.store is None:
            yield from (self.reader.read(self.sources[row]) for row in rows)
            return
        for start in range(0, len(rows), _GATHERED):
            yield from self.store.gather(self.store.places([self.keys[row] for row in rows[start : start + _GATHERED]]))


def decode(
    run: RunFile,
    manifest: Manifest,
    name: str,
    reader: Reader,
    encoder: nn.Module | None,
    rows: Sequence[int],
    progress: bool = False,
    check: bool = True,
) -> Decoded:
    """Read and check a modality of some rows; what is in the cache already is not decoded again.

    A frozen encoder's features are kept in place of its inputs: they never change.

    Args:
        run: says where the cache is, and how many threads read.
        manifest: of the run.
        name: of the modality.
        reader: of the modality.
        encoder: of the modality, if its features may be kept.
        rows: to read.
        progress: show a progress bar.
        check: read also what is not kept in a cache, to find what is wrong with it.

    Raises:
        OSError: no room for the cache. What was written before stays.
    """
    modality, cache = run.modalities[name], cache_folder(run)
    cells, problems = read_sources(manifest, modality.column, modality.kind, rows)
    sources = {row: source for row, source in zip(rows, cells) if source is not None}
    decoded = Decoded(manifest, modality.column, reader, sources, problems)
    is_text, is_record = reader.modality_kind == "text", reader.modality_kind == "table"
    frozen = getattr(encoder, "frozen", False) and getattr(encoder, "feature_dim", None) is not None
    if cache is not None and frozen and encoder is not None:
        settings = {"reader": reader.settings, "encoder": features_fingerprint(encoder)}
        decoded.store = PartStore(keyed_folder(cache, "features", settings), ragged=False)
        decoded.features = True
    elif cache is not None and not is_text:
        settings = reading_settings(reader)
        decoded.store = PartStore(keyed_folder(cache, settings["kind"], settings), not reader.stackable)
    if decoded.store is None and not is_text and not check:
        return decoded
    # Rows of the same file, text or object are read once.
    seen: dict[Hashable, int] = {}
    first = {row: seen.setdefault(_identity(source), row) for row, source in sources.items()}
    distinct = list(seen.values())
    workers = run.data.workers or min(16, os.cpu_count() or 1)
    errors: dict[int, str] = {}
    keys: dict[int, str] = {}
    cut: set[int] = set()
    store = decoded.store
    remarked = _load_remarks(store)
    before = len(remarked)

    def read(row: int) -> tuple[str, Any] | str:
        """The key and the item of a row, no item if it is stored; or what is wrong with it."""
        source = sources[row]
        try:
            if isinstance(reader, WordsReader | TokensReader) and reader.is_cut(reader.read(source)):
                cut.add(row)
            if is_text and store is None:
                return str(read_checked(reader, source)), None
            key, content = "", source
            if store is not None:
                key, content = fingerprint(_hashed(source) if is_text or is_record else source)
                if key in store:
                    return key, None
            with remarks() as texts:
                item = read_checked(reader, source if is_text or is_record else content)
            if texts:
                remarked[key or str(row)] = list(dict.fromkeys(texts))
            return key, item
        except ImportError:
            raise  # not the row is to blame, but a package that is not installed
        except ValueError as error:
            return str(error)
        except Exception as error:  # whatever a decoder raises on broken bytes concerns this row alone
            return f"cannot be read ({type(error).__name__}: {error})"

    bar = tracked(in_threads(read, distinct, workers), f"reading {reader.modality_kind}", distinct, progress)
    with store or nullcontext(), _features_of(encoder if decoded.features else None) as embed:
        waiting: dict[int, Any] = {}
        for row, result in zip(distinct, bar):
            if isinstance(result, str):
                errors[row] = result
                continue
            keys[row], item = result
            if store is None or item is None:
                continue
            if embed is None:
                store.add(keys[row], item)
                continue
            waiting[row] = item
            if len(waiting) == _FEATURE_BATCH:
                _store_features(decoded, embed, keys, waiting)
        if embed is not None and waiting:
            _store_features(decoded, embed, keys, waiting)
    decoded.keys = {row: keys[first[row]] for row in sources if first[row] in keys}
    decoded.cut = [row for row in decoded.keys if first[row] in cut]
    for row, key in decoded.keys.items():
        for text in remarked.get(key or str(first[row]), ()):
            decoded.remarks.setdefault(text, []).append(row)
    if store is not None and len(remarked) > before:
        write_json(store.folder / _REMARKED, {**_load_remarks(store), **remarked})
    decoded.problems += [
        cell_problem(manifest, row, modality.column, modality.kind, sources[row], errors[first[row]])
        for row in sources
        if first[row] in errors
    ]
    return decoded


def _load_remarks(store: PartStore | None) -> dict[str, list[str]]:
    """What was remarked when the items of a cache were decoded, by key: those are not decoded again."""
    file = None if store is None else store.folder / _REMARKED
    return json.loads(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else {}


def _store_features(
    decoded: Decoded, embed: Callable[[Any], Tensor], keys: dict[int, str], waiting: dict[int, Any]
) -> None:
    """Encode the items that wait, by row, and keep their features."""
    assert decoded.store is not None
    with torch.inference_mode():
        features = embed(decoded.reader.collate(list(waiting.values()))).float().cpu()
    for row, vector in zip(waiting, features):
        if not bool(vector.isfinite().all()):
            place = decoded.manifest.where(row, decoded.name)
            raise ValueError(f"{place}: its features are NaN or infinite; check the encoder's weights")
        decoded.store.add(keys[row], vector)
    waiting.clear()


@contextmanager
def _features_of(encoder: nn.Module | None) -> Iterator[Callable[[Any], Tensor] | None]:
    if encoder is None:
        yield None
        return
    with frozen_features(encoder) as embed:
        yield embed


def _feature_batch(items: Tensor | list[Tensor]) -> dict[str, Tensor]:
    return {"features": items if isinstance(items, Tensor) else torch.zeros(0, 0)}


def _hashed(source: str | dict[str, Any]) -> bytes:
    """The bytes that stand for a text or a record in the cache's key."""
    return source.encode() if isinstance(source, str) else json.dumps(source, sort_keys=True, default=str).encode()


def _identity(source: Any) -> Hashable:
    return str(source) if isinstance(source, str | Path) else id(source)


def cache_folder(run: RunFile) -> Path | None:
    """Where decoded files and features are kept: beside the run folder, unless the run file says otherwise."""
    if run.data.cache is False:
        return None
    return Path(run.out).parent / "cache" if run.data.cache is None else Path(run.data.cache)
