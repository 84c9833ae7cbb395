"""Videos through PyAV: some of their frames as images, and their sound tracks for any reader of sounds."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from confu.data.media import format_of_name
from confu.data.readers.audio import MelReader, WaveformReader
from confu.data.readers.image import ImageReader, pixels_of
from confu.data.readers.source import Source, is_file, name_of, opened
from confu.data.readers.video import (
    announced_frames,
    check_frame_count,
    decoded_frames,
    image_of,
    open_container,
    unreadable,
    video_stream,
)

_SLACK = 1e-3  # s; times in a file are rounded to its clock


class FramesReader:
    """Videos as some of their frames; each is an input of its own for an encoder of images.

    Args:
        image: what each frame is made to be.
        frames: the middle frames of so many equal segments.
        seconds: the frames that are seen at these times instead; a time after the last frame means the last frame.

    >>> FramesReader(ImageReader(8), frames=2).count
    2
    """

    stackable = True
    modality_kind = "video"

    def __init__(self, image: ImageReader, frames: int = 8, seconds: Sequence[float] | None = None) -> None:
        if frames < 1:
            raise ValueError(f"frames: expected 1 or more; got {frames}")
        if seconds is not None and (not len(seconds) or not all(0 <= second < float("inf") for second in seconds)):
            raise ValueError(f"seconds: expected times of 0 or more; got {list(seconds)}")
        self.frames, self.picture, self.collate = frames, image.picture, image.collate
        self.seconds = None if seconds is None else [float(second) for second in seconds]
        self.count = frames if self.seconds is None else len(self.seconds)  # frames of each video
        chosen = {"frames": frames} if self.seconds is None else {"seconds": self.seconds}
        self.settings: dict[str, Any] = {"kind": "frames", **chosen, **asdict(self.picture)}

    def read(self, source: Source) -> UInt8[Tensor, "frames channels size size"]:
        """The chosen frames of one video.

        Raises:
            ImportError: PyAV is not installed.
            ValueError: no such file, no video, cut short, or without a frame.
        """
        name = name_of(source)
        if not is_file(source):
            raise ValueError(f"{name}: expected a video's file or its bytes; got {type(source).__name__}")
        images = decoded_frames(source, self.frames) if self.seconds is None else frames_at(source, self.seconds)
        return torch.stack([pixels_of(image, self.picture, name) for image in images])


def frames_at(source: Source, seconds: Sequence[float]) -> list[Image.Image]:
    """The frames that are seen at these times: of each the last frame that begins no later.

    Times count from the first frame. Decoding ends with the last time, so that a fault after it is not noticed.

    Args:
        source: the file or its bytes.
        seconds: in any order.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: no such file, no video, cut short, or without a frame.
    """
    name = name_of(source)
    order = sorted(range(len(seconds)), key=lambda position: seconds[position])
    found: dict[int, Image.Image] = {}
    with opened(source) as file, open_container(file, name) as container:
        stream = video_stream(container, name)
        rate, times = float(stream.average_rate or 0), []
        shown, begin, count = None, 0.0, 0
        try:
            for count, frame in enumerate(container.decode(stream), start=1):
                if frame.time is None and not rate:
                    raise ValueError("its frames have no times")
                time = float(frame.time) if frame.time is not None else (count - 1) / rate
                begin = time if count == 1 else begin
                times.append(frame.pts)
                while shown is not None and order and seconds[order[0]] < time - begin - _SLACK:
                    found[order.pop(0)] = image_of(shown)
                if not order:
                    break
                shown = frame
        except Exception as error:
            raise unreadable(name, error) from error
        if order or shown is None:
            check_frame_count(name, count, announced_frames(container, stream, times))
        last = image_of(shown) if order else None
    return [found.get(position) or last for position in range(len(seconds))]  # pyright: ignore[reportReturnType]


class NoSoundError(ValueError):
    """A video has no sound track: nothing is wrong with the file, its row lacks the modality."""


class VideoSoundReader:
    """Sounds, and the sound tracks of videos, as another reader makes them.

    A file with the ending of a sound is given to that reader as it is; any other is taken for a video.

    Args:
        sound: what a waveform is made to be.
    """

    modality_kind = "audio"

    def __init__(self, sound: MelReader | WaveformReader) -> None:
        self.sound = sound
        self.stackable = sound.stackable
        self.settings: dict[str, Any] = {"kind": "video-sound", "sound": sound.settings}

    def read(self, source: Source) -> Tensor:
        """The sound of one file.

        Raises:
            NoSoundError: a video without a sound track.
            ValueError: no such file, neither sound nor video, damaged, or shorter than 0.1 s.
            ImportError: a video, and PyAV is not installed.
        """
        name = name_of(source)
        known = format_of_name(name)
        if not is_file(source) or (known is not None and known.kind == "audio" and not known.help):
            return self.sound.read(source)
        samples, rate = sound_track(source, self.sound.seconds)
        try:
            return self.sound.read((samples, rate))
        except ValueError as error:
            raise ValueError(f"{name}: its sound cannot be used: {error}") from error

    def collate(self, items: Sequence[Tensor] | Tensor) -> Tensor | dict[str, Tensor]:
        """What the encoder gets."""
        return self.sound.collate(items)


def sound_track(source: Source, seconds: float | None = None) -> tuple[np.ndarray, int]:
    """The first sound track of a video.

    Args:
        source: the file or its bytes.
        seconds: decode little more than that from the start; None is all.

    Returns:
        (samples, channels) float32, full scale at 1, and their rate in Hz.

    Raises:
        NoSoundError: no sound track.
        ValueError: no such file, or damaged.
        ImportError: PyAV is not installed.
    """
    name = name_of(source)
    with opened(source) as file, open_container(file, name) as container:
        import av

        if not container.streams.audio:
            raise NoSoundError(f"{name}: has no sound track")
        stream = container.streams.audio[0]
        most = math.inf if seconds is None else math.ceil((seconds + 0.1) * (stream.rate or 0))
        planar = av.AudioResampler(format="fltp")
        blocks: list[np.ndarray] = []
        length = 0
        try:
            for frame in container.decode(stream):
                blocks += [part.to_ndarray() for part in planar.resample(frame)]
                length += frame.samples
                if length >= most:
                    break
            else:
                blocks += [part.to_ndarray() for part in planar.resample(None)]
        except Exception as error:
            raise ValueError(f"{name}: its sound is damaged or cut short ({type(error).__name__}: {error})") from error
    if not blocks:
        raise ValueError(f"{name}: its sound track is empty")
    return np.concatenate(blocks, axis=1).T, int(stream.rate)
