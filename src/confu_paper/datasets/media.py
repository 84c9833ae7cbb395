"""Data sets of listed pictures, sounds, texts and videos, in which a file that cannot be read is named.

A video is one row a frame, decoded once; the sound of a clip is shared by its frames.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from rich.console import Console
from torch import Tensor

from confu.data.columns import Column, Indices
from confu.data.dataset import ArrayDataset, DatasetView
from confu.data.readers import ImageReader, MelReader, Reader, WaveformReader
from confu.types import Inputs
from confu_paper.datasets.birds import BirdRows
from confu_paper.datasets.decoding import caption_column, decode
from confu_paper.datasets.video import FramesReader, NoSoundError, VideoSoundReader


def media_dataset(
    rows: BirdRows,
    readers: Mapping[str, Reader],
    cache: Path | str,
    workers: int = 0,
    progress: bool = True,
) -> tuple[ArrayDataset, list[str]]:
    """Still images, sounds and texts of listed rows, decoded once into the cache.

    Args:
        rows: with a source for each of the readers.
        readers: by modality, in the order that the data set shall have, e.g. {"image": ..., "audio": ..., "text": ...}.
        cache: as for `decode`.
        workers: threads that read.
        progress: whether to draw a progress bar; the problems found are summed up beside it.

    Returns:
        The data set, and one line for each file that could not be read. Its row lacks that modality; a row of which
        nothing is left is not in the data set.

    Raises:
        ValueError: a modality without a source, or nothing that can be read.
    """
    lacking = [name for name in readers if name not in rows.sources]
    if lacking:
        raise ValueError(f"readers: the rows have no {', '.join(lacking)}; they have {', '.join(rows.sources)}")
    problems: list[str] = []
    present: dict[str, torch.Tensor] = {}
    contents = {}
    for name, reader in readers.items():
        if reader.modality_kind == "text":
            texts = [
                _text(reader, source, f"row {row}, {name}", problems)
                for row, source in zip(rows.ids, rows.sources[name])
            ]
            present[name] = torch.tensor([text is not None for text in texts])
            contents[name] = texts
        else:
            decoded = decode(rows.sources[name], reader, cache, None, workers, progress)
            problems += [f"row {rows.ids[row]} has no {name}: {error}" for row, error in decoded.errors.items()]
            present[name] = torch.tensor([keys is not None for keys in decoded.keys])
            contents[name] = decoded
    kept = torch.stack(list(present.values())).any(0).nonzero()[:, 0].tolist()
    if not kept:
        first = f"; the first: {problems[0]}" if problems else ""
        raise ValueError(f"not one of {len(rows)} rows can be read{first}")
    columns: dict[str, Column] = {}
    for name, reader in readers.items():
        if reader.modality_kind == "text":
            columns[name] = caption_column([contents[name][row] for row in kept], reader)
        else:
            contents[name].keys[:] = [contents[name].keys[row] for row in kept]
            columns[name] = contents[name].column()
    if progress:
        show_problems("files", problems)
    left = rows.select(kept)
    return ArrayDataset(columns, torch.from_numpy(left.labels), left.ids, left.class_names), problems


def _text(reader: Reader, source: str | None, where: str, problems: list[str]) -> str | None:
    if source is None:
        return None
    try:
        return str(reader.read(source))
    except ValueError as error:
        problems.append(f"{where}: {error}")
        return None


SECONDS = tuple(0.5 * step for step in range(1, 20))  # 0.5, 1, ... 9.5: the single frames of the paper's Table 5


class FrameDataset(DatasetView):
    """One row for each frame of each video, `CLIP#k` for frame k of a clip; its sound is shared within a batch.

    Args:
        columns: "image", and "audio" if sounds are read; each has videos x frames rows, a video's frames one after
            another.
        videos: the rows of the videos that can be read.
        frames: of each video.
        sources: by column, what each row is made of, as `feature_column` asks for it; distinct for
            distinct frames.
        problems: videos that are left out, and sounds that could not be read, one line each.
        silent: how many of the videos have no sound track.

    Attributes:
        columns: by modality, as given; "audio" only with a reader for sound.
        videos: (n) ids and labels of the videos, e.g. for a table of their mean embeddings.
        frames_of: (videos, frames) the row numbers of each video's frames.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        videos: BirdRows,
        frames: int,
        sources: Mapping[str, list[str | None]],
        problems: Sequence[str] = (),
        silent: int = 0,
    ) -> None:
        self.videos = videos
        self.sources = dict(sources)
        self.problems = list(problems)
        self.silent = silent
        self.frames_of: Int[Tensor, "videos frames"] = torch.arange(len(videos) * frames).reshape(-1, frames)
        ids = [f"{clip}#{frame}" for clip in videos.ids for frame in range(frames)]
        labels = torch.from_numpy(videos.labels).repeat_interleave(frames)
        rows = ArrayDataset(columns, labels, ids, videos.class_names)
        super().__init__(rows)
        self.columns = rows.columns

    def with_columns(self, columns: Mapping[str, Column]) -> "FrameDataset":
        """The same rows with other columns, e.g. features in place of pixels."""
        frames = self.frames_of.shape[1]
        return FrameDataset(columns, self.videos, frames, self.sources, self.problems, self.silent)

    def at_frame(self, frame: int) -> ArrayDataset:
        """One row for each video: its frame of this number, with the clip's sound; ids are those of the videos."""
        if not 0 <= frame < self.frames_of.shape[1]:
            raise ValueError(f"frame: expected 0 to {self.frames_of.shape[1] - 1}; got {frame}")
        rows = self.frames_of[:, frame]
        columns = {name: _Picked(column, rows) for name, column in self.columns.items()}
        labels = torch.from_numpy(self.videos.labels)
        return ArrayDataset(columns, labels, self.videos.ids, self.videos.class_names)


def frame_dataset(
    rows: BirdRows,
    image_reader: ImageReader,
    audio_reader: MelReader | WaveformReader | None,
    cache: Path | str,
    frames: int = 8,
    seconds: Sequence[float] | None = None,
    workers: int = 0,
    progress: bool = True,
) -> FrameDataset:
    """Decode the frames and the sounds of videos, each once, into the cache.

    Args:
        rows: with the source "video", and "audio" for sounds.
        image_reader: what a frame is made to be: its size and normalisation.
        audio_reader: of the sounds, e.g. a `MelReader`; None leaves sounds out.
        cache: a folder, shared by any number of data sets and processes.
        frames: the middle frames of so many equal segments.
        seconds: the frames at these times instead; a time after the last frame means the last frame.
        workers: threads that decode.
        progress: whether to draw a progress bar; the problems found are summed up beside it.

    Returns:
        The frames of all videos that can be read. A broken video, or one without a frame, is left out and named in
        `problems`; a clip without a sound track lacks the modality audio; one whose sound is broken or shorter than
        0.1 s lacks it too, and is named.

    Raises:
        ValueError: rows without videos, or no video at all can be read.
        ImportError: PyAV is not installed.
    """
    lacking = {"video", *(["audio"] if audio_reader is not None else [])} - set(rows.sources)
    if lacking:
        raise ValueError(f"rows: expected the sources {sorted(lacking)} too; got {', '.join(rows.sources)}")
    hashes: dict[str, str] = {}
    reader = FramesReader(image_reader.picture, frames, seconds)
    pictures = decode(rows.sources["video"], reader, cache, reader.count, workers, progress, hashes)
    problems = [f"clip {rows.ids[row]} is left out: {error}" for row, error in pictures.errors.items()]
    kept = [row for row, keys in enumerate(pictures.keys) if keys is not None]
    if not kept:
        first = f"; the first: {problems[0]}" if problems else ""
        raise ValueError(f"not one of {len(rows)} videos can be read{first}")
    videos = rows.select(kept)
    pictures.keys[:] = [pictures.keys[row] for row in kept]
    sources: dict[str, list[str | None]] = {
        "image": [f"{file}#{frame}" for file in videos.sources["video"] for frame in range(reader.count)]
    }
    columns: dict[str, Column] = {"image": pictures.column()}
    silent = 0
    if audio_reader is not None:
        sounds = decode(videos.sources["audio"], VideoSoundReader(audio_reader), cache, None, workers, progress, hashes)
        silent = sum(isinstance(error, NoSoundError) for error in sounds.errors.values())
        problems += [
            f"clip {videos.ids[row]} has no sound: {error}"
            for row, error in sounds.errors.items()
            if not isinstance(error, NoSoundError)
        ]
        clips = torch.arange(len(videos)).repeat_interleave(reader.count).tolist()
        sources["audio"] = [videos.sources["audio"][clip] if sounds.keys[clip] else None for clip in clips]
        sounds.keys[:] = [sounds.keys[clip] for clip in clips]
        columns["audio"] = sounds.column()
    if progress:
        show_problems("videos", problems)
    return FrameDataset(columns, videos, reader.count, sources, problems, silent)


class _Picked:
    """Some rows of a column."""

    def __init__(self, column: Column, rows: Int[Tensor, " n"]) -> None:
        self.column = column
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        return self.column.present[self.rows]

    def check(self, modality: str) -> None:
        """See `Column`; the whole column was checked."""

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`."""
        return self.column.take(self.rows[indices], modality)


_MAX_SHOWN = 5


def show_problems(what: str, problems: Sequence[str]) -> None:
    """Print how many problems there are and the first of them, on standard error.

    Args:
        what: has them, e.g. "SSW60's videos".
        problems: one line each.
    """
    if not problems:
        return
    lines = [f"{what}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
    lines += [f"  {problem}" for problem in problems[:_MAX_SHOWN]]
    if len(problems) > _MAX_SHOWN:
        lines.append(f"  and {len(problems) - _MAX_SHOWN} more")
    Console(stderr=True).print("\n".join(lines), style="yellow", highlight=False, markup=False, soft_wrap=True)
