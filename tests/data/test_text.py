import pytest

from confu.data.readers.text import WordVocabulary


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
