"""Text: words by a vocabulary of whole words, or tokens: those of a pretrained network, or learned from the texts."""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from confu.data.readers.source import Source, name_of

PAD, CLS, UNK = "[PAD]", "[CLS]", "[UNK]"
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_LEAVE_EMPTY = "leave the cell empty if the text is missing"
_INSTALL = 'tokens of pretrained networks need transformers: pip install "contrastive-fusion[hf]"'
_MOST_CHARACTERS = 2**20  # tokenised at a time
_MOST_OF_A_TOKEN = 100  # characters, on average; what stands behind so many for each token is cut before tokenising
_LEARNED_FROM = 2000  # characters of each text; what stands behind them is mostly cut
_MOST_TEXTS = 500_000  # that a tokenizer is learned from


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
    """Words by number: 0 is [PAD], 1 is [CLS], 2 is [UNK], then the words in the order given. It needs no download.

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

    def to_list(self) -> list[str]:
        """Every token in its order, the three special ones first."""
        return list(self._tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def encode(self, texts: Sequence[str], /, max_length: int | None = None) -> dict[str, Int[Tensor, "texts length"]]:
        """Number the words of each text, [CLS] first, padded to the longest.

        Args:
            texts: at least one, each with at least one word.
            max_length: numbers of a text at most, [CLS] among them; the words behind them are cut.

        Returns:
            `input_ids` and `attention_mask` (1 at a token, 0 at padding).

        Raises:
            ValueError: no text, or a text without a word.
        """
        if not len(texts):
            raise ValueError("texts: expected at least one text to encode; got none")
        rows = [[1, *(self._number.get(word, 2) for word in words(text))] for text in texts]
        for position, numbers in enumerate(rows):
            if len(numbers) == 1:
                raise ValueError(
                    f"texts: text {position} holds no word ({texts[position]!r}); drop the row or mark its text as "
                    "missing"
                )
        return _token_tensors([row[:max_length] for row in rows], pad=0)


class WordsReader:
    """Texts as numbers of whole words, [CLS] first; see `WordVocabulary`.

    Args:
        vocabulary: the words, lower-cased, each once.

    Attributes:
        max_length: tokens of a text at most, [CLS] among them; None until `limit_length` says what the encoder takes.

    >>> reader = words_reader_from_texts(["a photo of a one", "a photo of a two"])
    >>> reader.collate([reader.read("a two"), reader.read("three")])["input_ids"].tolist()
    [[1, 3, 7], [1, 2, 0]]
    """

    stackable = False
    modality_kind = "text"

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = WordVocabulary(vocabulary)
        self.settings: dict[str, Any] = {"kind": "words", "vocabulary": list(vocabulary)}
        self.max_length: int | None = None

    @property
    def vocab_size(self) -> int:
        """Tokens in all, the special ones among them."""
        return len(self.vocabulary)

    def read(self, source: Source) -> str:
        """The text itself.

        Raises:
            ValueError: no text, or one without a word.
        """
        text = _checked_text(source)
        if not words(text):
            raise ValueError(f"{name_of(text)!r}: holds no word; {_LEAVE_EMPTY}")
        return text

    def encode(self, texts: Sequence[str], /) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, both (texts, longest)."""
        return self.vocabulary.encode(texts, self.max_length) if len(texts) else _token_tensors([], pad=0)

    def collate(self, items: Sequence[str]) -> dict[str, Tensor]:
        """What the encoder gets: as `encode`."""
        return self.encode(items)

    def is_cut(self, text: str) -> bool:
        """Whether a text has more tokens than `max_length`."""
        return self.max_length is not None and len(words(text)) >= self.max_length

    def limit(self, max_length: int) -> None:
        """Cut texts to so many tokens."""
        self.max_length = max_length


class TokensReader:
    """Texts as the tokens of a pretrained network, or of a tokenizer that `train_tokens_reader` has learned.

    Args:
        tokenizer: the JSON text of a `tokenizers.Tokenizer`, so that the settings need no other file.
        max_length: tokens; longer texts are cut.
        pad: the token that fills up shorter texts; None takes number 0, which the attention mask hides anyway.

    Raises:
        ValueError: no such JSON or token, or no room for the special tokens.
    """

    stackable = False
    modality_kind = "text"

    def __init__(self, tokenizer: str, max_length: int = 128, pad: str | None = None) -> None:
        self.settings: dict[str, Any] = {"kind": "tokens", "tokenizer": tokenizer, "max_length": max_length, "pad": pad}
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
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(self.settings["tokenizer"])
        except Exception as error:  # the Rust library raises nothing more specific
            raise ValueError(f"tokenizer: expected the JSON text of a tokenizers.Tokenizer ({error})") from error
        tokenizer.no_padding()  # the stored tokenizer may have its own
        tokenizer.enable_truncation(self.settings["max_length"])
        return tokenizer

    @property
    def vocab_size(self) -> int:
        """Tokens in all, the special ones among them."""
        return self._tokenizer.get_vocab_size()

    def read(self, source: Source) -> str:
        """The text itself.

        Raises:
            ValueError: no text, a blank one, or one that is not Unicode.
        """
        text = _checked_text(source)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError(f"{name_of(text)!r}: half of a surrogate pair, which is no character; repair the text")
        return text

    def encode(self, texts: Sequence[str], /) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, both (texts, longest), int64.

        Raises:
            ValueError: a text that gives no token.
        """
        rows = [encoding.ids for encoding in self._encodings(texts)]
        for position, ids in enumerate(rows):
            if not ids:
                raise ValueError(f"texts: text {position} gives no token ({texts[position]!r}); {_LEAVE_EMPTY}")
        return _token_tensors(rows, self.pad_id)

    def collate(self, items: Sequence[str]) -> dict[str, Tensor]:
        """What the encoder gets: as `encode`."""
        return self.encode(items)

    def is_cut(self, text: str) -> bool:
        """Whether a text has more tokens than `max_length`."""
        if len(text) > _MOST_OF_A_TOKEN * self.max_length:
            return True
        return any(encoding.overflowing for encoding in self._encodings([text]))

    def limit(self, max_length: int) -> None:
        """Cut texts to so many tokens, if `max_length` is more."""
        self.max_length = min(self.max_length, max_length)
        self._tokenizer.enable_truncation(self.max_length)

    def _encodings(self, texts: Sequence[str]) -> Iterator[Any]:
        """The encoding of each text; time and memory grow with `max_length`, not with the longest text."""
        part: list[str] = []
        size = 0
        for text in texts:
            part.append(text[: _MOST_OF_A_TOKEN * self.max_length])
            size += len(part[-1])
            if size > _MOST_CHARACTERS:
                yield from self._tokenizer.encode_batch_fast(part)
                part, size = [], 0
        yield from self._tokenizer.encode_batch_fast(part)


def train_tokens_reader(
    texts: Iterable[str | None],
    lowercase: bool = False,
    vocab_size: int = 16_384,
    min_frequency: int = 4,
    max_length: int | None = None,
) -> TokensReader:
    """A reader whose tokens are the bytes of UTF-8, and those sequences of them that stand in the texts often.

    So every text can be written in them, of whatever script; few texts give few tokens. The same texts give the same
    tokens, in whatever order they come.

    Args:
        texts: to learn from, e.g. those of the training rows; None is passed over.
        lowercase: whether "Bird" and "bird" are the same.
        vocab_size: tokens at most, the 256 bytes among them.
        min_frequency: how often a sequence has to stand in the texts to be a token.
        max_length: tokens; longer texts are cut. None is the longest of these texts, 64 at least and 256 at most.

    >>> reader = train_tokens_reader(["a photo of a bird", "a photo of a cat"], min_frequency=2)
    >>> reader.encode(["a photo of 鳥"])["input_ids"].shape
    torch.Size([1, 7])
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    given = [text for text in texts if text is not None]
    given = given[:: -(-len(given) // _MOST_TEXTS)] if given else []
    tokenizer: Any = Tokenizer(models.BPE())
    # The space before the first word makes it the same token as in the middle.
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else []), normalizers.Prepend(" ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text[:_LEARNED_FROM] for text in given), trainer)
    if max_length is None:
        reader = TokensReader(tokenizer.to_str(), 256)
        max_length = max([64, *(len(encoding.ids) for encoding in reader._encodings(given))])
    return TokensReader(tokenizer.to_str(), max_length)


def limit_lengths(readers: Mapping[str, Any], encoders: Mapping[str, Any]) -> None:
    """Have readers of texts cut what their encoder has no positions for, by the encoder's `max_length`."""
    for name, reader in readers.items():
        longest = getattr(encoders.get(name), "max_length", None)
        if longest is not None and isinstance(reader, WordsReader | TokensReader):
            reader.limit(longest)


def count_cut(readers: Mapping[str, Any], sources: Mapping[str, Iterable[Any]]) -> dict[str, int]:
    """By modality, how many of the texts are longer than their reader's `max_length`; none where no text is."""
    counts: dict[str, int] = {}
    for name, reader in readers.items():
        if isinstance(reader, WordsReader | TokensReader):
            count = sum(isinstance(source, str) and reader.is_cut(source) for source in sources.get(name, ()))
            counts |= {name: count} if count else {}
    return counts


def cut_message(name: str, count: int, max_length: int | None) -> str:
    """How users are told of texts that are longer than `max_length`.

    >>> cut_message("caption", 1, 64)
    'caption: 1 text is longer than 64 tokens and was cut to them'
    """
    texts = "1 text is" if count == 1 else f"{count:,} texts are"
    return f"{name}: {texts} longer than {max_length} tokens and {'was' if count == 1 else 'were'} cut to them"


def warn_of_cut(readers: Mapping[str, Any], counts: Mapping[str, int], stacklevel: int = 3) -> None:
    """Warn of the texts that `count_cut` has counted."""
    for name, count in counts.items():
        warnings.warn(cut_message(name, count, readers[name].max_length), stacklevel=stacklevel)


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


def _checked_text(source: Source) -> str:
    if not isinstance(source, str):
        raise ValueError(f"{name_of(source)}: expected a text; got {type(source).__name__}")
    if not source.strip():
        raise ValueError(f"{source!r}: an empty text; {_LEAVE_EMPTY}")
    return str(source)


def _token_tensors(rows: Sequence[Sequence[int]], pad: int) -> dict[str, Tensor]:
    """Token numbers of each text, padded to the longest."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    longest = max(map(len, rows), default=0)
    input_ids = torch.full((len(rows), longest), pad)
    for position, row in enumerate(rows):
        input_ids[position, : len(row)] = torch.tensor(row)
    return {"input_ids": input_ids, "attention_mask": (torch.arange(longest) < lengths[:, None]).long()}
