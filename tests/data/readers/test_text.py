import unicodedata
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import confu.data.readers.text as text_module
from confu.data.readers import (
    TokensReader,
    WordsReader,
    build_reader,
    tokens_reader,
    train_tokens_reader,
    words_reader_from_texts,
)
from confu.data.readers.text import Tokenizer, WordVocabulary, count_cut, limit_lengths

from .fixtures import word_tokenizer


def test_words_are_those_of_the_vocabulary():
    texts = ["A bird, singing!", None, "a loud bird"]
    reader = words_reader_from_texts(texts)
    assert reader.settings["vocabulary"] == ["a", "bird", "loud", "singing"]
    given = [text for text in texts if text]
    expected = WordVocabulary.from_texts(given).encode(given)
    assert all(torch.equal(reader.encode(given)[name], expected[name]) for name in expected)
    assert isinstance(reader, Tokenizer)


def test_order_does_not_depend_on_the_order_of_the_texts():
    texts = ["the digit is a two", "A photo of a ONE"]
    assert WordVocabulary.from_texts(texts).to_list() == WordVocabulary.from_texts(texts[::-1]).to_list()


def test_encoding_pads_and_masks():
    tokens = WordVocabulary(["one", "two"]).encode(["One, two!", "nine"])
    assert tokens["input_ids"].tolist() == [[1, 3, 4], [1, 2, 0]]
    assert tokens["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize("text", ["", "  ", "?!"])
def test_a_text_without_a_word_is_refused(text):
    with pytest.raises(ValueError, match="text 1 holds no word"):
        WordVocabulary(["one"]).encode(["one", text])


def test_bad_vocabularies_are_refused():
    with pytest.raises(ValueError, match="'one' stands there several times"):
        WordVocabulary(["one", "one"])
    with pytest.raises(ValueError, match="single lower-cased words; got 'One'"):
        WordVocabulary(["One"])
    with pytest.raises(ValueError, match="at least one text"):
        WordVocabulary(["one"]).encode([])


@pytest.mark.parametrize("reader", [WordsReader(["a"]), TokensReader(word_tokenizer())], ids=["words", "tokens"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'': an empty text; leave the cell empty"),
        (" \n", "an empty text"),
        (3.5, "3.5: expected a text; got float"),
        (b"a", "expected a text; got bytes"),
    ],
)
def test_what_is_no_text_is_named(reader, text, message):
    with pytest.raises(ValueError, match=message):
        reader.read(text)


def test_a_text_without_a_word_is_named():
    with pytest.raises(ValueError, match=r"'\?!': holds no word"):
        WordsReader(["a"]).read("?!")


def test_tokens_are_cut_and_padded_by_the_reader():
    reader = TokensReader(word_tokenizer(), max_length=5, pad="[PAD]")
    inputs = reader.encode(["a bird sings loud a bird", "bird", "dinosaur"])
    assert inputs["input_ids"].tolist() == [[1, 4, 5, 6, 2], [1, 5, 2, 3, 3], [1, 0, 2, 3, 3]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]
    assert isinstance(reader, Tokenizer)
    assert TokensReader(word_tokenizer("[FILL]"), pad=None).encode(["a", "a a"])["input_ids"][0, -1] == 0


def test_a_text_without_a_token_is_named():
    from tokenizers import Tokenizer, models, pre_tokenizers

    bare = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    bare.pre_tokenizer = pre_tokenizers.CharDelimiterSplit("?")
    with pytest.raises(ValueError, match=r"text 1 gives no token \('\?'\)"):
        TokensReader(bare.to_str()).encode(["a", "?"])


def test_settings_that_make_no_sense_are_named():
    with pytest.raises(ValueError, match=r"tokenizer: expected the JSON text of a tokenizers\.Tokenizer"):
        TokensReader("{}")
    with pytest.raises(ValueError, match=r"no token '<pad>'"):
        TokensReader(word_tokenizer(), pad="<pad>")
    with pytest.raises(ValueError, match="more than the 2 special tokens; got 2"):
        TokensReader(word_tokenizer(), max_length=2)


def test_a_pretrained_tokenizer_becomes_settings_of_its_own(tmp_path):
    transformers = pytest.importorskip("transformers")
    file = tmp_path / "source.json"
    file.write_text(word_tokenizer())
    original = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(file),
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        model_max_length=7,
    )
    original.save_pretrained(tmp_path / "model")
    reader = tokens_reader(str(tmp_path / "model"))
    assert (reader.max_length, reader.settings["pad"]) == (7, "[PAD]")
    texts = ["a bird sings loud a bird sings", "loud"]
    expected = original(texts, padding=True, truncation=True, max_length=7, return_tensors="pt")
    inputs = reader.encode(texts)
    assert all(torch.equal(inputs[name], expected[name]) for name in inputs)
    assert tokens_reader(str(tmp_path / "model"), max_length=4).encode(texts)["input_ids"].shape == (2, 4)


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="pretrained: no tokenizer found for"):
        tokens_reader(str(tmp_path))


CAPTIONS = ["a bird sings", "A bird, loud!", "鳥が鳴く", "นกร้อง", "C1=CC=CC=C1", "🐦‍⬛ sings"] * 4
LEARNED = train_tokens_reader(CAPTIONS, max_length=1000)
SCRIPTS = ["⺀", "漢字かな交じり文。", "สวัสดี", "👩🏽‍🚀🇪🇺", "naïve", "naı\u0308ve", "\x00\u200b", "  two  spaces "]


@settings(max_examples=100)
@given(st.one_of(st.sampled_from(SCRIPTS), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)))
def test_every_text_is_written_in_learned_tokens(text):
    ids = next(LEARNED._encodings([text])).ids
    assert LEARNED._tokenizer.decode(ids, skip_special_tokens=False) == unicodedata.normalize("NFC", text)
    assert all(0 <= number < LEARNED.vocab_size for number in ids) and ids


def test_learned_tokens_do_not_depend_on_the_order_of_texts():
    again = train_tokens_reader([*reversed(CAPTIONS), None], max_length=1000)
    assert again.settings == LEARNED.settings
    rebuilt = build_reader(LEARNED.settings)
    assert all(torch.equal(rebuilt.encode(SCRIPTS)[name], value) for name, value in LEARNED.encode(SCRIPTS).items())


def test_few_texts_give_few_tokens_and_frequent_words_are_one():
    assert train_tokens_reader(["each word once"]).vocab_size == 256
    assert 256 < LEARNED.vocab_size < 320
    assert LEARNED.encode(["bird bird"])["input_ids"].tolist() == [[LEARNED._tokenizer.token_to_id("Ġbird")] * 2]
    upper, lower = (
        train_tokens_reader(CAPTIONS, lowercase=lowercase).encode(["Bird", "bird"])["input_ids"]
        for lowercase in (False, True)
    )
    assert not torch.equal(upper[0], upper[1]) and torch.equal(lower[0], lower[1])


def test_half_a_surrogate_pair_is_named():
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        LEARNED.read("a \ud800")


@pytest.mark.parametrize(
    "reader", [words_reader_from_texts(["a bird"]), TokensReader(word_tokenizer(), 9), train_tokens_reader(CAPTIONS)]
)
def test_texts_are_cut_to_what_the_encoder_takes_and_counted(reader):
    texts = ["a bird " * 40, "a", None, "a bird a bird " * 40]
    limit_lengths({"text": reader}, {"text": SimpleNamespace(max_length=7)})
    assert reader.encode([text for text in texts if text])["input_ids"].shape == (3, 7)
    assert count_cut({"text": reader}, {"text": texts}) == {"text": 2}
    assert count_cut({"text": reader}, {"text": ["a"]}) == {}


def test_long_texts_are_tokenised_few_at_a_time(monkeypatch):
    reader = train_tokens_reader(CAPTIONS)
    characters: list[int] = []

    class Watched:
        def encode_batch_fast(self, texts):
            characters.append(sum(map(len, texts)))
            return reader.__dict__["_tokenizer_before"].encode_batch_fast(texts)

    reader.__dict__["_tokenizer_before"] = reader._tokenizer
    monkeypatch.setitem(reader.__dict__, "_tokenizer", Watched())
    monkeypatch.setattr(text_module, "_MOST_CHARACTERS", 1000)
    tokens = reader.encode([*["a bird sings " * 50] * 10, "a" * 1_000_000])["input_ids"]
    assert tokens.shape == (11, 64)
    assert sum(characters) == 6500 + 6400 and max(characters) <= 1000 + 6400
