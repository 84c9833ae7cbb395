"""WAV files as mono waveforms at one rate; a damaged file is an error, never a shorter sound."""

from pathlib import Path

import numpy as np
import soundfile
import soxr

_SILENCE = 2 / 32768  # two steps of 16 bit: dither at most
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
    _check_complete(path)
    try:
        samples, found_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path}: not readable as sound ({error})") from error
    if not len(samples):
        raise ValueError(f"{path}: holds no samples; remove the file")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path}: holds NaN or infinity; remove or repair the file")
    waveform = samples.mean(axis=1)
    if np.abs(waveform).max() < _SILENCE:
        raise ValueError(f"{path}: is silent; remove the file")
    if found_rate != rate:
        waveform = soxr.resample(waveform, found_rate, rate)
    return np.ascontiguousarray(waveform, dtype=np.float32)


def _check_complete(path: Path) -> None:
    """Compare the data chunk's size with the file's: libsndfile reads a file that was cut short without a word."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return  # RF64 and the like: left to soundfile
        position = 12
        while position + 8 <= size:
            file.seek(position)
            name, length = file.read(4), int.from_bytes(file.read(4), "little")
            position += 8
            if name == b"data":
                if length not in _UNKNOWN_SIZE and position + length > size:
                    raise ValueError(
                        f"{path}: cut short: its header announces {length} bytes of sound, found {size - position}; "
                        "fetch the file again"
                    )
                return
            position += length + length % 2
    raise ValueError(f"{path}: cut short: {size} bytes and no sound in them; fetch the file again")
