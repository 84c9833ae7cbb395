"""Videos as one row a frame, decoded once; the sound of a clip is shared by its frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtyping import Bool, Int
from torch import Tensor

from confu._typing import Batch
from confu.data.columns import Column, Indices
from confu.data.dataset import ArrayDataset
from confu.data.datasets.birds import BirdRows
from confu.data.readers import ImageReader, Reader

SECONDS = tuple(0.5 * step for step in range(1, 20))  # 0.5, 1, ... 9.5: the single frames of the paper's Table 5


class FrameDataset:
    """One row for each frame of each video.

    Args:
        columns: "image", and "audio" if sounds are read; each has videos x frames rows, a video's frames one after
            another.
        videos: the rows of the videos that can be read.
        frames: of each video.
        sources: by column, what each row is made of, as `confu.data.cache.feature_column` asks for it; distinct for
            distinct frames.
        problems: videos that are left out, and sounds that could not be read, one line each.
        silent: how many of the videos have no sound track.

    Attributes:
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
        raise NotImplementedError

    columns: dict[str, Column]
    sources: dict[str, list[str | None]]
    videos: BirdRows
    problems: list[str]
    silent: int
    frames_of: Int[Tensor, "videos frames"]

    @property
    def modalities(self) -> tuple[str, ...]:
        """("image", "audio"), or ("image",) without a reader for sound."""
        raise NotImplementedError

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """The class of each frame's video."""
        raise NotImplementedError

    @property
    def ids(self) -> Sequence[str]:
        """`CLIP#k` for frame k of a clip."""
        raise NotImplementedError

    @property
    def class_names(self) -> tuple[str, ...]:
        """What each label means."""
        raise NotImplementedError

    @property
    def present(self) -> dict[str, Bool[Tensor, " n"]]:
        """By modality, which rows have it."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def batch(self, indices: Indices) -> Batch:
        """See `Dataset`; frames of one clip in a batch share its sound."""
        raise NotImplementedError

    def with_columns(self, columns: Mapping[str, Column]) -> "FrameDataset":
        """The same rows with other columns, e.g. features in place of pixels."""
        raise NotImplementedError

    def at_frame(self, frame: int) -> ArrayDataset:
        """One row for each video: its frame of this number, with the clip's sound; ids are those of the videos."""
        raise NotImplementedError


def frame_dataset(
    rows: BirdRows,
    image_reader: ImageReader,
    audio_reader: Reader | None,
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
        ValueError: no video at all can be read.
        ImportError: PyAV is not installed.
    """
    raise NotImplementedError
