"""Rows of pictures, sounds, texts and videos, decoded once into a cache; a file that cannot be read is named.

The cache's keys are hashes of what the files hold, so that files may be renamed, moved and reordered. A video is one
row a frame; the sound of a clip is shared by its frames.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from rich.console import Console
from torch import Tensor, nn

from confu.checks import check_known
from confu.data.cache import CachedColumn, PartStore, keyed_folder
from confu.data.columns import CaptionColumn, Column, Indices, first_rows
from confu.data.dataset import ArrayDataset
from confu.data.parallel import in_threads, tracked
from confu.data.readers import ImageReader, MelReader, Reader, WaveformReader
from confu.data.readers.source import Source, fingerprint
from confu.nn.encoders import features_fingerprint, frozen_features
from confu.types import Inputs
from confu_paper.datasets.birds import BirdRows
from confu_paper.datasets.video import FramesReader, NoSoundError, VideoSoundReader

SECONDS = tuple(0.5 * step for step in range(1, 20))  # 0.5, 1, ... 9.5: the single frames of the paper's Table 5
_FEATURE_BATCH = 64
_MAX_SHOWN = 5


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

    def column(self, rows: Sequence[int]) -> CachedColumn:
        """The items of these sources, all of a source one after another; a source without any is one row."""
        keys = [key for row in rows for key in (self.keys[row] or [None])]
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
        hashes: what files hold by their path, where that is known; it is added to. Files that are decoded for several
            modalities are so read no more often than needed.

    Raises:
        OSError: no room for the cache. What was written before stays.
    """
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
                keys_of = [known] if pieces is None else [_piece_key(known, piece) for piece in range(pieces)]
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
    of_source = [keys.get(first[row]) if row in first else None for row in range(len(sources))]
    return Decoded(store, of_source, {row: errors[one] for row, one in first.items() if one in errors}, reader)


def _piece_key(key: str, piece: int) -> str:
    return hashlib.blake2b(f"{key} {piece}".encode(), digest_size=16).hexdigest()


def caption_column(texts: Sequence[str | None], reader: Reader) -> CaptionColumn:
    """The column of texts that were read; those that repeat are stored once."""
    numbers: dict[str, int] = {}
    index = [-1 if text is None else numbers.setdefault(text, len(numbers)) for text in texts]
    return CaptionColumn(list(numbers), torch.tensor(index, dtype=torch.long), reader)  # pyright: ignore[reportArgumentType]


def with_features(
    columns: Mapping[str, Column], encoders: Mapping[str, nn.Module], cache: Path, progress: bool
) -> dict[str, Column]:
    """The columns, with features in place of what frozen encoders read; computed once for the same content.

    Args:
        columns: by modality, captions or with the keys of the cache; `reader` or `tokenizer` says how they were read.
        encoders: by modality; they stay where and as they are.
        cache: as for `decode`.

    Raises:
        ValueError: NaN among the features, with the row.
    """
    return {
        name: _features(column, encoders[name], name, cache, progress)
        if getattr(encoders[name], "frozen", False) and getattr(encoders[name], "feature_dim", None) is not None
        else column
        for name, column in columns.items()
    }


def _features(column: Column, encoder: nn.Module, name: str, cache: Path, progress: bool) -> CachedColumn:
    """{"features": (n, width)} of every row."""
    reader: Any
    if isinstance(column, CaptionColumn):
        reader, of_caption = column.tokenizer, [fingerprint(text.encode())[0] for text in column.captions]
        keys = [None if caption < 0 else of_caption[caption] for caption in column.index.tolist()]
    else:
        reader, keys = column.reader, column.keys  # type: ignore[attr-defined]
    settings = {"reader": reader.settings, "encoder": features_fingerprint(encoder)}
    with (
        PartStore(keyed_folder(cache, "features", settings), ragged=False) as store,
        frozen_features(encoder) as embed,
    ):
        first = {key: row for row, key in reversed(list(enumerate(keys))) if key is not None and key not in store}
        batches = torch.tensor(sorted(first.values()), dtype=torch.long).split(_FEATURE_BATCH) if first else ()
        taken = in_threads(lambda batch: column.take(batch, name), batches, workers=1)
        for batch, inputs in zip(batches, tracked(taken, "computing features", batches, progress)):
            with torch.inference_mode():
                features = embed(inputs.values).float().cpu()[inputs.rows]
            for row, vector in zip(batch.tolist(), features):
                if not vector.isfinite().all():
                    raise ValueError(f"row {row}: its features are NaN or infinite; check the encoder's weights")
                store.add(keys[row], vector)
    return CachedColumn(store, keys, _feature_batch)


def _feature_batch(items: Tensor | list[Tensor]) -> dict[str, Tensor]:
    return {"features": items if isinstance(items, Tensor) else torch.zeros(0, 0)}


def media_dataset(
    rows: BirdRows, readers: Mapping[str, Reader], cache: Path | str, workers: int = 0, progress: bool = True
) -> tuple[ArrayDataset, list[str]]:
    """Still images, sounds and texts of listed rows, decoded once into the cache.

    Args:
        rows: with a source for each of the readers.
        readers: by modality, in the order that the data set shall have, e.g. {"image": ..., "audio": ..., "text": ...}.
        cache, workers: as for `decode`.

    Returns:
        The data set, and one line for each file that could not be read. Its row lacks that modality; a row of which
        nothing is left is not in the data set.

    Raises:
        ValueError: a modality without a source, or nothing that can be read.
    """
    if lacking := [name for name in readers if name not in rows.sources]:
        raise ValueError(f"readers: the rows have no {', '.join(lacking)}; they have {', '.join(rows.sources)}")
    problems: list[str] = []
    contents: dict[str, Decoded | list[str | None]] = {}
    present = torch.zeros(len(rows), dtype=torch.bool)
    for name, reader in readers.items():
        if reader.modality_kind == "text":
            where = (f"row {row}, {name}" for row in rows.ids)
            texts = [_text(reader, *pair, problems) for pair in zip(rows.sources[name], where)]
            contents[name] = texts
            present |= torch.tensor([text is not None for text in texts])
        else:
            decoded = contents[name] = decode(rows.sources[name], reader, cache, None, workers, progress)
            problems += [f"row {rows.ids[row]} has no {name}: {error}" for row, error in decoded.errors.items()]
            present |= torch.tensor([keys is not None for keys in decoded.keys])
    kept = present.nonzero()[:, 0].tolist()
    check_any_left(kept, f"{len(rows)} rows", problems)
    columns = {
        name: content.column(kept)
        if isinstance(content, Decoded)
        else caption_column([content[row] for row in kept], readers[name])
        for name, content in contents.items()
    }
    if progress:
        show_problems("files", problems)
    left = rows.select(kept)
    return ArrayDataset(columns, torch.from_numpy(left.labels), left.ids, left.class_names), problems


def _text(reader: Reader, source: str | None, where: str, problems: list[str]) -> str | None:
    try:
        return None if source is None else str(reader.read(source))
    except ValueError as error:
        problems.append(f"{where}: {error}")
        return None


@dataclass(frozen=True)
class Views:
    """Pictures with their sounds, a row a picture, and which of them are views of one clip.

    Attributes:
        data: all rows; of frames `CLIP#k` is frame k of a clip.
        of_clip: (clips, views) row numbers.
        clips: the ids of the clips.
        labels: (clips,) their classes.
        problems: videos that are left out, and sounds that could not be read, one line each.
        silent: how many of the videos have no sound track.
    """

    data: ArrayDataset
    of_clip: Int[Tensor, "clips views"]
    clips: Sequence[str]
    labels: Int[Tensor, " clips"]
    problems: Sequence[str] = ()
    silent: int = 0

    def changed(self, columns: Mapping[str, Column]) -> "Views":
        """The same rows with other columns, e.g. features in place of pixels."""
        data = self.data
        return replace(self, data=ArrayDataset(columns, data.labels, data.ids, data.class_names))


def frame_dataset(
    rows: BirdRows,
    image_reader: ImageReader,
    audio_reader: MelReader | WaveformReader | None,
    cache: Path | str,
    frames: int = 8,
    seconds: Sequence[float] | None = None,
    workers: int = 0,
    progress: bool = True,
) -> Views:
    """Decode the frames and the sounds of videos, each once, into the cache.

    Args:
        rows: with the source "video", and "audio" for sounds.
        image_reader: what a frame is made to be: its size and normalisation.
        audio_reader: of the sounds, e.g. a `MelReader`; None leaves sounds out.
        frames: the middle frames of so many equal segments.
        seconds: the frames at these times instead; a time after the last frame means the last frame.
        cache, workers, progress: as for `media_dataset`.

    Returns:
        The frames of all videos that can be read. A broken video, or one without a frame, is left out and named in
        `problems`; a clip without a sound track lacks the modality audio; one whose sound is broken or shorter than
        0.1 s lacks it too, and is named.

    Raises:
        ValueError: rows without videos, or no video at all can be read.
        ImportError: PyAV is not installed.
    """
    if lacking := {"video", *(["audio"] if audio_reader is not None else [])} - set(rows.sources):
        raise ValueError(f"rows: expected the sources {sorted(lacking)} too; got {', '.join(rows.sources)}")
    hashes: dict[str, str] = {}
    reader = FramesReader(image_reader, frames, seconds)
    pictures = decode(rows.sources["video"], reader, cache, reader.count, workers, progress, hashes)
    problems = [f"clip {rows.ids[row]} is left out: {error}" for row, error in pictures.errors.items()]
    kept = [row for row, keys in enumerate(pictures.keys) if keys is not None]
    check_any_left(kept, f"{len(rows)} videos", problems)
    videos = rows.select(kept)
    columns: dict[str, Column] = {"image": pictures.column(kept)}
    silent = 0
    if audio_reader is not None:
        sounds = decode(videos.sources["audio"], VideoSoundReader(audio_reader), cache, None, workers, progress, hashes)
        broken = {row: error for row, error in sounds.errors.items() if not isinstance(error, NoSoundError)}
        silent = len(sounds.errors) - len(broken)
        problems += [f"clip {videos.ids[row]} has no sound: {error}" for row, error in broken.items()]
        columns["audio"] = sounds.column(torch.arange(len(videos)).repeat_interleave(reader.count).tolist())
    if progress:
        show_problems("videos", problems)
    labels = torch.from_numpy(videos.labels)
    ids = [f"{clip}#{frame}" for clip in videos.ids for frame in range(reader.count)]
    data = ArrayDataset(columns, labels.repeat_interleave(reader.count), ids, videos.class_names)
    return Views(data, torch.arange(len(data)).view(-1, reader.count), videos.ids, labels, problems, silent)


def check_any_left(kept: Sequence[int], what: str, problems: Sequence[str]) -> None:
    """ValueError with the first problem if no row is left."""
    if not kept:
        first = f"; the first: {problems[0]}" if problems else ""
        raise ValueError(f"not one of {what} can be read{first}")


def show_problems(what: str, problems: Sequence[str]) -> None:
    """Print how many problems there are with e.g. "SSW60's videos", and the first of them, on standard error."""
    if not problems:
        return
    lines = [f"{what}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
    lines += [f"  {problem}" for problem in problems[:_MAX_SHOWN]]
    if len(problems) > _MAX_SHOWN:
        lines.append(f"  and {len(problems) - _MAX_SHOWN} more")
    Console(stderr=True).print("\n".join(lines), style="yellow", highlight=False, markup=False, soft_wrap=True)


def paired_by_class(dataset: ArrayDataset, anchor: str, others: Sequence[str] | None = None) -> ArrayDataset:
    """A data set whose batches take the other modalities from other rows of the same class, drawn anew each time.

    Each other modality is drawn on its own, uniformly among the rows of the class that have it, from torch's random
    state, so that an interrupted training goes on with the draws it would have made. A class in which no row has a
    modality is a class whose rows lack it.

    Args:
        dataset: with labels.
        anchor: the modality that stays with its row; so do id, label and group.
        others: those that are drawn; None is all but the anchor. Modalities that are neither stay with their row.

    Raises:
        ValueError: no labels, an unknown modality, or the anchor among the others.
    """
    others = [name for name in dataset.modalities if name != anchor] if others is None else others
    for name in (anchor, *others):
        check_known("modality", name, dataset.modalities)
    if anchor in others:
        raise ValueError(f"others: {anchor!r} is the anchor, which stays with its row; leave it out")
    if dataset.labels is None:
        raise ValueError("dataset: without labels there are no rows of the same class; keep the pairs as they are")
    drawn = {name: PairedColumn(dataset.columns[name], dataset.labels) for name in others}
    columns = {name: drawn.get(name, column) for name, column in dataset.columns.items()}
    return ArrayDataset(columns, dataset.labels, dataset.ids, dataset.class_names, dataset.groups)


class PairedColumn:
    """A column that gives for each row a row of its class; see `paired_by_class`.

    Args:
        column: drawn from.
        labels: (n,) the class of each row.
    """

    def __init__(self, column: Column, labels: Int[Tensor, " n"]) -> None:
        self.column, self.labels = column, labels
        rows = column.present.nonzero()[:, 0]
        self._order = rows[labels[rows].argsort(stable=True)]  # of class c those from starts[c] on, counts[c] of them
        self._counts = labels[rows].bincount(minlength=int(labels.max()) + 1 if len(labels) else 0)
        self._starts = self._counts.cumsum(0) - self._counts

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """(n,) the rows of whose class any row has a value."""
        return self._counts[self.labels] > 0

    def check(self, modality: str) -> None:
        """See `Column`; the column was checked."""

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`. As many numbers are drawn whichever rows lack a value."""
        labels = self.labels[indices]
        counts, share = self._counts[labels], torch.rand(len(indices), dtype=torch.float64)
        places = self._starts[labels] + (share * counts).long().clamp_max(counts - 1)
        inputs = self.column.take(self._order[places[counts > 0]], modality)
        positions = torch.full_like(indices, -1)
        positions[counts > 0] = inputs.rows
        return Inputs(inputs.values, positions)
