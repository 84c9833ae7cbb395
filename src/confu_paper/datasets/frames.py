"""Videos as one row a frame, decoded once; the sound of a clip is shared by its frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.data.columns import Column, Indices
from confu.data.dataset import ArrayDataset, DatasetView
from confu.data.readers import ImageReader, MelReader, WaveformReader
from confu.types import Inputs
from confu_paper.datasets.birds import BirdRows
from confu_paper.datasets.decoding import decode
from confu_paper.datasets.problems import show_problems
from confu_paper.datasets.video_frames import FramesReader
from confu_paper.datasets.video_sound import NoSoundError, VideoSoundReader

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
        rows = ArrayDataset(columns, videos.labels.repeat_interleave(frames), ids, videos.class_names)
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
        return ArrayDataset(columns, self.videos.labels, self.videos.ids, self.videos.class_names)


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
    seen = decode(rows.sources["video"], reader, cache, reader.count, workers, progress, hashes)
    problems = [f"clip {rows.ids[row]} is left out: {error}" for row, error in seen.errors.items()]
    kept = [row for row, keys in enumerate(seen.keys) if keys is not None]
    if not kept:
        first = f"; the first: {problems[0]}" if problems else ""
        raise ValueError(f"not one of {len(rows)} videos can be read{first}")
    videos = rows.select(kept)
    seen.keys[:] = [seen.keys[row] for row in kept]
    sources: dict[str, list[str | None]] = {
        "image": [f"{file}#{frame}" for file in videos.sources["video"] for frame in range(reader.count)]
    }
    columns: dict[str, Column] = {"image": seen.column()}
    silent = 0
    if audio_reader is not None:
        heard = decode(videos.sources["audio"], VideoSoundReader(audio_reader), cache, None, workers, progress, hashes)
        silent = sum(isinstance(error, NoSoundError) for error in heard.errors.values())
        problems += [
            f"clip {videos.ids[row]} has no sound: {error}"
            for row, error in heard.errors.items()
            if not isinstance(error, NoSoundError)
        ]
        clips = torch.arange(len(videos)).repeat_interleave(reader.count).tolist()
        sources["audio"] = [videos.sources["audio"][clip] if heard.keys[clip] else None for clip in clips]
        heard.keys[:] = [heard.keys[clip] for clip in clips]
        columns["audio"] = heard.column()
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
