"""WAV files as mono waveforms at one rate; a damaged or silent file is an error, never a shorter sound."""

from pathlib import Path

import numpy as np

from confu.data.readers.audio import decode_sound


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
    """(samples,) float32 of a WAV file, full scale at 1: channels averaged, resampled to a rate in Hz.

    Raises:
        ValueError: no such file, no WAV, cut short, empty, silent, or with NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with path.open("rb") as file:
        return decode_sound(file, str(path), rate, silent=False)
