"""Text: words by a vocabulary of whole words, or a pretrained network's tokens."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from confu.data.readers.source import Source, name_of
from confu.data.text import WordVocabulary, words


class WordsReader:
    """Texts as numbers of whole words, [CLS] first; see `WordVocabulary`.

    Args:
        vocabulary: the words, lower-cased, each once.

    >>> reader = words_reader_from_texts(["a photo of a one", "a photo of a two"])
    >>> reader.collate([reader.read("a two"), reader.read("three")])["input_ids"].tolist()
    [[1, 3, 7], [1, 2, 0]]
    """

    stackable = False
    modality_kind = "text"

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = WordVocabulary(vocabulary)
        self.settings: dict[str, Any] = {"kind": "words", "vocabulary": list(vocabulary)}

    def read(self, source: Source) -> str:
        """The text itself.

        Raises:
            ValueError: no text, or one without a word.
        """
        text = checked_text(source)
        if not words(text):
            raise ValueError(f"{name_of(text)!r}: holds no word; {_LEAVE_EMPTY}")
        return text

    def encode(self, texts: Sequence[str], /) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, both (texts, longest)."""
        return self.vocabulary.encode(texts) if len(texts) else _no_tokens()

    def collate(self, items: Sequence[str]) -> dict[str, Tensor]:
        """What the encoder gets: as `encode`."""
        return self.encode(items)


class TokensReader:
    """Texts as the tokens of a pretrained network.

    Args:
        tokenizer: the JSON text of a `tokenizers.Tokenizer`, so that the settings need no other file.
        max_length: tokens; longer texts are cut.
        pad: the token that fills up shorter texts; None takes number 0, which the attention mask hides anyway.

    Raises:
        ImportError: if tokenizers, which comes with transformers, is not installed.
        ValueError: no such JSON or token, or no room for the special tokens.
    """

    stackable = False
    modality_kind = "text"

    def __init__(self, tokenizer: str, max_length: int = 128, pad: str | None = None) -> None:
        self.settings: dict[str, Any] = {
            "kind": "tokens", "tokenizer": tokenizer, "max_length": max_length, "pad": pad,
        }  # fmt: skip
        pad_id = 0 if pad is None else self._tokenizer.token_to_id(pad)
        if pad_id is None:
            raise ValueError(f"pad: the tokenizer has no token {pad!r}")
        special = self._tokenizer.num_special_tokens_to_add(False)
        if max_length <= special:
            raise ValueError(f"max_length: expected more than the {special} special tokens; got {max_length}")
        self.max_length = max_length
        self.pad_id: int = pad_id

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ImportError(_INSTALL) from error
        try:
            tokenizer = Tokenizer.from_str(self.settings["tokenizer"])
        except Exception as error:  # the Rust library raises nothing more specific
            raise ValueError(f"tokenizer: expected the JSON text of a tokenizers.Tokenizer ({error})") from error
        tokenizer.no_padding()  # the stored tokenizer may have its own
        tokenizer.enable_truncation(self.settings["max_length"])
        return tokenizer

    def read(self, source: Source) -> str:
        """The text itself.

        Raises:
            ValueError: no text, or a blank one.
        """
        return checked_text(source)

    def encode(self, texts: Sequence[str], /) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, both (texts, longest), int64.

        Raises:
            ValueError: a text that gives no token.
        """
        if not len(texts):
            return _no_tokens()
        encoded = [one.ids for one in self._tokenizer.encode_batch_fast(list(texts))]
        for position, ids in enumerate(encoded):
            if not ids:
                raise ValueError(f"texts: text {position} gives no token ({texts[position]!r}); {_LEAVE_EMPTY}")
        longest = max(map(len, encoded))
        input_ids = torch.tensor([[*ids, *[self.pad_id] * (longest - len(ids))] for ids in encoded])
        lengths = torch.tensor([len(ids) for ids in encoded])
        return {"input_ids": input_ids, "attention_mask": (torch.arange(longest) < lengths[:, None]).long()}

    def collate(self, items: Sequence[str]) -> dict[str, Tensor]:
        """What the encoder gets: as `encode`."""
        return self.encode(items)


def words_reader_from_texts(texts: Iterable[str | None]) -> WordsReader:
    """A reader whose vocabulary is the words of these texts, in alphabetical order; None is passed over."""
    return WordsReader(sorted({word for text in texts if text is not None for word in words(text)}))


def tokens_reader(pretrained: str, max_length: int | None = None) -> TokensReader:
    """The reader of a pretrained network's texts.

    Args:
        pretrained: a hub id or a local folder with a tokenizer.
        max_length: tokens; None is what the tokenizer says, at most 512.

    Raises:
        ImportError: if transformers is not installed.
        ValueError: no tokenizer there, or none that the `tokenizers` library can hold.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(pretrained)
    except (OSError, ValueError) as error:
        raise ValueError(f"pretrained: no tokenizer found for {pretrained!r} ({error})") from error
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"pretrained: the tokenizer of {pretrained!r} has no tokenizer.json; convert it to a fast one")
    length = min(512, tokenizer.model_max_length) if max_length is None else max_length
    pad = tokenizer.pad_token or tokenizer.eos_token
    return TokensReader(tokenizer.backend_tokenizer.to_str(), length, pad)


def checked_text(source: Source) -> str:
    """The text of a cell.

    Raises:
        ValueError: not a text, or a blank one.

    >>> checked_text("a bird")
    'a bird'
    """
    if not isinstance(source, str):
        raise ValueError(f"{name_of(source)}: expected a text; got {type(source).__name__}")
    if not source.strip():
        raise ValueError(f"{source!r}: an empty text; {_LEAVE_EMPTY}")
    return str(source)


_LEAVE_EMPTY = "leave the cell empty if the text is missing"
_INSTALL = 'tokens of pretrained networks need transformers: pip install "contrastive-fusion[hf]"'


def _no_tokens() -> dict[str, Tensor]:
    return {name: torch.zeros(0, 0, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
