"""The sound of a video, through PyAV, for any reader of sounds."""

import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from torch import Tensor

from confu.data.readers.audio import MelReader, WaveformReader
from confu.data.readers.source import Source, is_file, name_of, opened
from confu.data.readers.video import open_container

SOUND_ENDINGS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au")  # what libsndfile reads


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
        if not is_file(source) or PurePath(name).suffix.lower() in SOUND_ENDINGS:
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
