"""WAV and other sound files as mono waveforms at one rate; a damaged file is an error, never a shorter sound."""

import math
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
import soundfile
import soxr

_SILENCE = 2 / 32768  # two steps of 16 bit: dither at most
_RATES = (1_000, 1_000_000)  # Hz
_UNKNOWN_SIZE = (0, 0xFFFFFFFF)  # written by programs that stream and cannot know the length


def wav_files(folder: Path | str, what: str) -> list[Path]:
    """The WAV files of a folder, by name.

    Args:
        folder: the folder itself, not one above it.
        what: what they are, for the message.

    Raises:
        ValueError: no such folder, or no WAV file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{what}: no such folder: {folder}")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav")
    if not files:
        raise ValueError(f"{what}: no .wav file in {folder}; give the folder that holds the files themselves")
    return files


def read_wav(path: Path | str, rate: int) -> np.ndarray:
    """Read a WAV file as one channel at a given rate.

    Args:
        path: the file; several channels are averaged.
        rate: in Hz; another rate is resampled.

    Returns:
        (samples,) float32, full scale at 1.

    Raises:
        ValueError: no such file, no WAV, cut short, empty, silent, or with NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with path.open("rb") as file:
        return decode_sound(file, str(path), rate, silent=False)


def decode_sound(
    file: BufferedReader | BytesIO, name: str, rate: int, seconds: float | None = None, silent: bool = True
) -> np.ndarray:
    """Decode a file that libsndfile reads (WAV, FLAC, OGG, MP3 and others) as one channel at a given rate.

    Args:
        file: at its start; it can seek.
        name: for messages.
        rate: in Hz; another rate is resampled.
        seconds: read no more than that from the start.
        silent: whether silence is allowed.

    Returns:
        (samples,) float32, full scale at 1.

    Raises:
        ValueError: no sound, cut short, empty, with NaN, of an absurd rate, or silent.
    """
    check_complete(file, name)
    try:
        with soundfile.SoundFile(file) as sound:
            found_rate, announced = sound.samplerate, sound.frames
            # A little more than asked for, so that resampling does not hear the cut.
            most = announced if seconds is None else min(announced, math.ceil((seconds + 0.1) * found_rate))
            samples = sound.read(most, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(
            f"{name}: not readable as sound ({error}); WAV, FLAC, OGG and MP3 are, convert other files"
        ) from error
    if len(samples) < most:
        raise ValueError(f"{name}: cut short: {most} samples expected, found {len(samples)}; fetch the file again")
    return mono(samples, found_rate, name, rate, seconds, silent)


def mono(
    samples: np.ndarray, found_rate: float, name: str, rate: int, seconds: float | None = None, silent: bool = True
) -> np.ndarray:
    """Average the channels, resample, cut.

    Args:
        samples: (samples, channels) float32.
        found_rate: of the samples, in Hz.
        name: for messages; the other arguments and what is returned are as for `decode_sound`.

    Raises:
        ValueError: empty, with NaN, of an absurd rate, or silent.

    >>> mono(np.ones((8, 2), np.float32), 8000, "tone", 8000).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    if not len(samples):
        raise ValueError(f"{name}: holds no samples; remove the file")
    if not _RATES[0] <= found_rate <= _RATES[1]:  # a damaged header; resampling could fill the memory
        raise ValueError(f"{name}: expected a rate of {_RATES[0]} to {_RATES[1]} Hz; got {found_rate}")
    if not np.isfinite(samples).all():
        raise ValueError(f"{name}: holds NaN or infinity; remove or repair the file")
    waveform = samples.mean(axis=1)
    if not silent and np.abs(waveform).max() < _SILENCE:
        raise ValueError(f"{name}: is silent; remove the file")
    if found_rate != rate:
        waveform = soxr.resample(waveform, found_rate, rate)
    waveform = waveform if seconds is None else waveform[: round(seconds * rate)]
    return np.ascontiguousarray(waveform, dtype=np.float32)


def check_complete(file: BufferedReader | BytesIO, name: str) -> None:
    """Compare a WAV file's size with its header: libsndfile reads a file that was cut short without a word.

    Args:
        file: at its start, and left there.
        name: for the message.

    Raises:
        ValueError: a WAV file that was cut short. Other files pass.
    """
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":  # RF64 and the like: left to soundfile
        _check_chunks(file, name, size)
    file.seek(0)


def _check_chunks(file: BufferedReader | BytesIO, name: str, size: int) -> None:
    position = 12
    while position + 8 <= size:
        file.seek(position)
        chunk, length = file.read(4), int.from_bytes(file.read(4), "little")
        position += 8
        if chunk == b"data":
            if length not in _UNKNOWN_SIZE and position + length > size:
                raise ValueError(
                    f"{name}: cut short: its header announces {length} bytes of sound, found {size - position}; "
                    "fetch the file again"
                )
            return
        position += length + length % 2
    raise ValueError(f"{name}: cut short: {size} bytes and no sound in them; fetch the file again")
