"""What is said of a digit: captions to train on, and prompts to classify with."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from confu.data.columns import CaptionColumn
from confu.data.dataset import ArrayDataset
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
