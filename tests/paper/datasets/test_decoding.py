"""Sources decoded or encoded once: what is read again, what shares an item, and what cannot be read."""

import numpy as np
import pytest
import torch

from confu.data import CaptionColumn, TensorColumn, WordVocabulary
from confu.data.columns import SourceColumn
from confu.data.readers import ImageReader, words_reader_from_texts
from confu_paper.datasets.decoding import caption_column, decode, feature_column
from data.counting import CountingReader, taken, vectors
from data.readers.fixtures import blocks, image_bytes

QUIET = {"progress": False}


def test_cached_items_are_not_read_again_and_new_ones_are(tmp_path):
    first, second = CountingReader(), CountingReader()
    decode(vectors(5), first, tmp_path, **QUIET)
    assert len(first.read_sources) == 5
    sources = [*vectors(7), None, *vectors(2)]
    decoded = decode(sources, second, tmp_path, workers=2, **QUIET)
    assert sorted(second.read_sources) == vectors(2, 5)
    assert taken(decoded.column(), list(range(10))) == sources


def test_equal_content_is_stored_once_wherever_it_lies(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(image_bytes(blocks()))
    sources = [tmp_path / "a.png", str(tmp_path / "b.png"), image_bytes(blocks()), image_bytes(blocks(seed=1))]
    column = decode(sources, ImageReader(8), tmp_path / "cache", **QUIET).column()
    (part,) = column.store.parts
    assert part.shape == (2, 3, 8, 8)
    assert column.take(torch.tensor([3, 0, 1, 2]), "image").rows.tolist() == [1, 0, 0, 0]
    (tmp_path / "a.png").write_bytes(image_bytes(blocks(seed=2)))  # the same name, another picture
    column = decode(sources, ImageReader(8), tmp_path / "cache", **QUIET).column()
    values = column.take(torch.tensor([0]), "image").values
    assert torch.equal(values[0], ImageReader(8).collate([ImageReader(8).read(blocks(seed=2))])[0])


def test_a_broken_source_is_named_and_the_others_are_kept(tmp_path):
    decoded = decode([*vectors(2), [9.0], "nowhere.npy", *vectors(1, 2)], CountingReader(), tmp_path, **QUIET)
    assert sorted(decoded.errors) == [2, 3]
    assert "expected a vector of 3 numbers" in str(decoded.errors[2])
    assert "nowhere.npy: cannot be read" in str(decoded.errors[3])
    assert taken(decoded.column(), [0, 2, 3, 4]) == [vectors(1)[0], None, None, vectors(1, 2)[0]]


def test_texts_become_a_column_of_distinct_captions():
    texts = ["a bird", None, "a cat", "a bird"]
    column = caption_column(texts, words_reader_from_texts(texts))
    assert (column.captions, column.index.tolist()) == (["a bird", "a cat"], [0, -1, 1, 0])
    empty = caption_column([None, None], words_reader_from_texts(["a"]))
    assert empty.take(torch.tensor([0, 1]), "text").rows.tolist() == [-1, -1]


class Doubling:
    """An encoder of vectors, or of tokens, that counts the rows it was given."""

    def __init__(self) -> None:
        self.rows = 0
        self.weight = torch.ones(1, requires_grad=True)

    def __call__(self, values: torch.Tensor | dict[str, torch.Tensor]) -> torch.Tensor:
        values = values["input_ids"] if isinstance(values, dict) else values
        assert not (values * self.weight).requires_grad
        self.rows += len(values)
        return 2 * values[:, :2].to(torch.bfloat16)


@pytest.mark.parametrize("cached", [False, True])
def test_features_are_computed_once_for_each_content(tmp_path, cached):
    sources = [*vectors(5), None, *vectors(2)]
    column = SourceColumn(sources, CountingReader())
    if cached:
        column = decode(sources, CountingReader(), tmp_path / "decoded", **QUIET).column()
    for encoder, rows in ((Doubling(), 5), (Doubling(), 0)):
        features = feature_column(column, sources, encoder, "double", tmp_path, batch_size=2, **QUIET)
        assert encoder.rows == rows
        assert taken(features, [6, 5, 4]) == [[0.0, 2.0], None, [8.0, 2.0]]
    assert features.present.tolist() == column.present.tolist()
    inputs = features.take(torch.tensor([0, 6, 5]), "x")
    assert inputs.values["features"].dtype == torch.float32
    assert inputs.rows.tolist() == [0, 0, -1]
    new, other = Doubling(), Doubling()
    more = [*sources, *vectors(1, 9)]
    feature_column(SourceColumn(more, CountingReader()), more, new, "double", tmp_path, **QUIET)
    feature_column(column, sources, other, "another encoder", tmp_path, **QUIET)
    assert (new.rows, other.rows) == (1, 5)


def test_a_cached_column_needs_no_second_look_at_the_sources(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3.0))
    sources = [tmp_path / "a.npy"]
    column = decode(sources, CountingReader(), tmp_path / "cache", **QUIET).column()
    (tmp_path / "a.npy").unlink()
    features = feature_column(column, sources, Doubling(), "double", tmp_path / "cache", **QUIET)
    assert taken(features, [0]) == [[0.0, 2.0]]


def test_features_of_texts(tmp_path):
    texts = ["a bird", None, "a cat", "a bird"]
    reader = words_reader_from_texts(texts)
    for column in (caption_column(texts, reader), SourceColumn(texts, reader)):
        encoder = Doubling()
        features = feature_column(column, texts, encoder, type(column).__name__, tmp_path, **QUIET)
        assert encoder.rows == 2
        assert taken(features, [3, 1, 0, 2]) == [[2.0, 6.0], None, [2.0, 6.0], [2.0, 6.0]]


def test_features_that_cannot_be_computed_are_named(tmp_path):
    sources = vectors(3)
    column = SourceColumn(sources, CountingReader())

    def broken(values):
        return torch.where(values[:, :1] == 1, torch.nan, values)

    with pytest.raises(ValueError, match=r"^row 1: its features are NaN or infinite"):
        feature_column(column, sources, broken, "broken", tmp_path, **QUIET)
    with pytest.raises(ValueError, match="sources: expected one for each of 3 rows"):
        feature_column(column, [*sources[:2], None], Doubling(), "x", tmp_path, **QUIET)
    with pytest.raises(ValueError, match="a TensorColumn does not say how its values were read; give settings"):
        feature_column(TensorColumn(torch.rand(3, 2)), sources, Doubling(), "x", tmp_path, **QUIET)
    captions = CaptionColumn(["a"], torch.tensor([0]), WordVocabulary(["a"]))
    with pytest.raises(ValueError, match="a CaptionColumn does not say"):
        feature_column(captions, ["a"], Doubling(), "x", tmp_path, **QUIET)
    settings = {"made": "by hand"}
    features = feature_column(
        TensorColumn(torch.tensor(sources)), sources, Doubling(), "x", tmp_path, **QUIET, settings=settings
    )
    assert taken(features, [2]) == [[4.0, 2.0]]
