"""Sources decoded or encoded once: what is read again, what shares an item, and what cannot be read."""

import pytest
import torch

from confu.data.readers import ImageReader, words_reader_from_texts
from confu_paper.datasets.media import caption_column, decode, with_features
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
    assert taken(decoded.column(range(10)), list(range(10))) == sources


def test_equal_content_is_stored_once_wherever_it_lies(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(image_bytes(blocks()))
    sources = [tmp_path / "a.png", str(tmp_path / "b.png"), image_bytes(blocks()), image_bytes(blocks(seed=1))]
    column = decode(sources, ImageReader(8), tmp_path / "cache", **QUIET).column(range(4))
    (part,) = column.store.parts
    assert part.shape == (2, 3, 8, 8)
    assert column.take(torch.tensor([3, 0, 1, 2]), "image").rows.tolist() == [1, 0, 0, 0]
    (tmp_path / "a.png").write_bytes(image_bytes(blocks(seed=2)))  # the same name, another picture
    column = decode(sources, ImageReader(8), tmp_path / "cache", **QUIET).column(range(4))
    values = column.take(torch.tensor([0]), "image").values
    assert torch.equal(values[0], ImageReader(8).collate([ImageReader(8).read(blocks(seed=2))])[0])


def test_a_broken_source_is_named_and_the_others_are_kept(tmp_path):
    decoded = decode([*vectors(2), [9.0], "nowhere.npy", *vectors(1, 2)], CountingReader(), tmp_path, **QUIET)
    assert sorted(decoded.errors) == [2, 3]
    assert "expected a vector of 3 numbers" in str(decoded.errors[2])
    assert "nowhere.npy: cannot be read" in str(decoded.errors[3])
    assert taken(decoded.column(range(5)), [0, 2, 3, 4]) == [vectors(1)[0], None, None, vectors(1, 2)[0]]


def test_texts_become_a_column_of_distinct_captions():
    texts = ["a bird", None, "a cat", "a bird"]
    column = caption_column(texts, words_reader_from_texts(texts))
    assert (column.captions, column.index.tolist()) == (["a bird", "a cat"], [0, -1, 1, 0])
    empty = caption_column([None, None], words_reader_from_texts(["a"]))
    assert empty.take(torch.tensor([0, 1]), "text").rows.tolist() == [-1, -1]


class Doubling(torch.nn.Module):
    """A frozen network for vectors, or tokens, that counts the rows it was given."""

    frozen, feature_dim = True, 2

    def __init__(self, bad: float = -1.0, name: str = "double") -> None:
        super().__init__()
        self.settings = {"name": name}
        self.rows, self.bad = 0, bad
        self.weight = torch.nn.Parameter(torch.ones(1))

    def features(self, values: torch.Tensor | None = None, **tokens: torch.Tensor) -> torch.Tensor:
        values = tokens["input_ids"] if values is None else values
        assert not (values * self.weight).requires_grad
        self.rows += len(values)
        return torch.where(values[:, :1] == self.bad, torch.nan, 2 * values[:, :2]).to(torch.bfloat16)


def features_of(column, encoder, cache):
    return with_features({"x": column}, {"x": encoder}, cache, progress=False)["x"]


def test_features_are_computed_once_for_each_content(tmp_path):
    def column(sources):
        return decode(sources, CountingReader(), tmp_path / "decoded", **QUIET).column(range(len(sources)))

    sources = [*vectors(5), None, *vectors(2)]
    for rows in (5, 0):
        encoder = Doubling()
        features = features_of(column(sources), encoder, tmp_path)
        assert encoder.rows == rows
        assert taken(features, [6, 5, 4]) == [[0.0, 2.0], None, [8.0, 2.0]]
    assert features.present.tolist() == column(sources).present.tolist()
    inputs = features.take(torch.tensor([0, 6, 5]), "x")
    assert inputs.values["features"].dtype == torch.float32
    assert inputs.rows.tolist() == [0, 0, -1]
    new, other, tuned = Doubling(), Doubling(name="another"), Doubling()
    features_of(column([*sources, *vectors(1, 9)]), new, tmp_path)
    features_of(column(sources), other, tmp_path)
    assert (new.rows, other.rows) == (1, 5)
    tuned.frozen = False
    assert features_of(plain := column(sources), tuned, tmp_path) is plain


def test_features_of_texts(tmp_path):
    texts, encoder = ["a bird", None, "a cat", "a bird"], Doubling()
    features = features_of(caption_column(texts, words_reader_from_texts(texts)), encoder, tmp_path)
    assert encoder.rows == 2
    assert taken(features, [3, 1, 0, 2]) == [[2.0, 6.0], None, [2.0, 6.0], [2.0, 6.0]]


def test_features_that_are_not_finite_are_named(tmp_path):
    column = decode(vectors(3), CountingReader(), tmp_path, **QUIET).column(range(3))
    with pytest.raises(ValueError, match=r"^row 1: its features are NaN or infinite"):
        features_of(column, Doubling(bad=1.0), tmp_path)
