import sys

import pytest
import torch

from confu.data.readers import TokensReader, WordsReader, tokens_reader, words_reader_from_texts
from confu.data.readers.text import Tokenizer, WordVocabulary

from .fixtures import word_tokenizer


def test_words_are_those_of_the_vocabulary():
    texts = ["A bird, singing!", None, "a loud bird"]
    reader = words_reader_from_texts(texts)
    assert reader.settings["vocabulary"] == ["a", "bird", "loud", "singing"]
    given = [text for text in texts if text]
    expected = WordVocabulary.from_texts(given).encode(given)
    assert all(torch.equal(reader.encode(given)[name], expected[name]) for name in expected)
    assert isinstance(reader, Tokenizer)


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
        tokenizer_file=str(file), pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        model_max_length=7,
    )  # fmt: skip
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


def test_without_transformers_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"contrastive-fusion\[hf\]"):
        TokensReader("{}")
    with pytest.raises(ImportError, match=r"contrastive-fusion\[hf\]"):
        tokens_reader("some/model")
