"""A vocabulary of whole words: enough for captions from templates, and needs no download."""

import re
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

PAD, CLS, UNK = "[PAD]", "[CLS]", "[UNK]"
_WORD = re.compile(r"\w+(?:['’]\w+)*")


@runtime_checkable
class Tokenizer(Protocol):
    """Whatever turns texts into the tensors that a text encoder takes as keywords."""

    def encode(self, texts: Sequence[str], /) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, both (len(texts), longest)."""
        ...


def words(text: str) -> list[str]:
    """The lower-cased words of a text, without punctuation.

    >>> words("A photo of a Three!")
    ['a', 'photo', 'of', 'a', 'three']
    """
    return _WORD.findall(text.lower())


class WordVocabulary:
    """Words by number: 0 is [PAD], 1 is [CLS], 2 is [UNK], then the words in the order given.

    Args:
        vocabulary: the words, lower-cased, each once.

    Raises:
        ValueError: a word twice, or one that `words` would cut or change, so that no text could ever reach it.

    >>> vocabulary = WordVocabulary.from_texts(["a photo of a one", "a photo of a two"])
    >>> vocabulary.to_list()
    ['[PAD]', '[CLS]', '[UNK]', 'a', 'of', 'one', 'photo', 'two']
    >>> vocabulary.encode(["a two", "three"])["input_ids"].tolist()
    [[1, 3, 7], [1, 2, 0]]
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._tokens = [PAD, CLS, UNK, *vocabulary]
        self._number = {token: number for number, token in enumerate(self._tokens)}
        if len(self._number) != len(self._tokens):
            twice = next(token for token in self._tokens if self._tokens.count(token) > 1)
            raise ValueError(f"vocabulary: each word may stand once; {twice!r} stands there several times")
        for word in vocabulary:
            if words(word) != [word]:
                raise ValueError(f"vocabulary: expected single lower-cased words; got {word!r}")

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> "WordVocabulary":
        """The vocabulary of these texts, in alphabetical order, whatever the order of the texts."""
        return cls(sorted({word for text in texts for word in words(text)}))

    @classmethod
    def from_list(cls, tokens: Sequence[str]) -> "WordVocabulary":
        """The vocabulary that `to_list` wrote."""
        if list(tokens[:3]) != [PAD, CLS, UNK]:
            raise ValueError(f"tokens: expected a list that starts with [PAD], [CLS], [UNK]; got {list(tokens[:3])}")
        return cls(tokens[3:])

    def to_list(self) -> list[str]:
        """Every token in its order, the three special ones first."""
        return list(self._tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def encode(self, texts: Sequence[str], /) -> dict[str, Int[Tensor, "texts length"]]:
        """Number the words of each text, [CLS] first, padded to the longest.

        Args:
            texts: at least one, each with at least one word.

        Returns:
            `input_ids` and `attention_mask` (1 at a token, 0 at padding).

        Raises:
            ValueError: no text, or a text without a word.
        """
        if not len(texts):
            raise ValueError("texts: expected at least one text to encode; got none")
        rows = []
        for position, text in enumerate(texts):
            found = words(text)
            if not found:
                raise ValueError(
                    f"texts: text {position} holds no word ({text!r}); drop the row or mark its text as missing"
                )
            rows.append([1, *(self._number.get(word, 2) for word in found)])
        input_ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for row, numbers in enumerate(rows):
            input_ids[row, : len(numbers)] = torch.tensor(numbers)
        return {"input_ids": input_ids, "attention_mask": (input_ids != 0).long()}
