"""Tiny stand-ins for MNIST, spoken digits and noise, written as the real files are."""

import gzip
from pathlib import Path

import numpy as np
import soundfile

SOUNDS = ("rain", "sea")


def write_idx(path: Path, values: np.ndarray) -> Path:
    """Write an IDX file, gzipped if its name says so."""
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    content = header + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_mnist(folder: Path, train: int = 36, test: int = 20, suffix: str = ".gz", seed: int = 0) -> Path:
    """Digits 0, 1, ... 9, 0, ... as noisy pictures with one pattern a digit."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    patterns = random.integers(0, 200, size=(10, 28, 28))
    for prefix, size in (("train", train), ("t10k", test)):
        labels = np.arange(size) % 10
        images = patterns[labels] + random.integers(0, 56, size=(size, 28, 28))
        write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels)
    return folder


def write_speech(folder: Path, indices: tuple[int, ...] = (0, 4, 5, 9, 10, 49), seed: int = 1) -> Path:
    """A tone a digit, of differing length, in the naming of the Free Spoken Digit Dataset; 3_ann_10 exceeds 1 s."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for digit in range(10):
        for index in indices:
            samples = 9000 if (digit, index) == (3, 10) else int(random.integers(1500, 4000))
            tone = 0.5 * np.sin(2 * np.pi * (300 + 250 * digit) * np.arange(samples) / 8000)
            soundfile.write(folder / f"{digit}_ann_{index}.wav", tone, 8000, subtype="PCM_16")
    return folder


def write_noise(folder: Path, clips: int = 4, rate: int = 16000, seed: int = 2) -> Path:
    """Two channels of noise at another rate, in the naming `{sound}-{k}.wav`."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for sound in SOUNDS:
        for k in range(clips):
            samples = 0.1 * random.standard_normal((int(1.5 * rate), 2))
            soundfile.write(folder / f"{sound}-{k:02d}.wav", samples, rate, subtype="PCM_16")
    return folder


def write_sources(root: Path) -> dict[str, Path]:
    """All three, as the arguments of `build_av_mnist`."""
    return {
        "mnist": write_mnist(root / "mnist"),
        "speech": write_speech(root / "speech"),
        "noise": write_noise(root / "noise"),
    }
