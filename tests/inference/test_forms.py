"""What `encode` and `zero_shot` take: lists, tables, arrays; one item where a list belongs is refused with the call."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from confu.inference.reading import columns_of

from .parts import SENTENCES, embedder, items

KINDS = {"image": "image", "audio": "audio", "film": "video", "text": "text", "vector": "vector", "steps": "sequence"}


class Frame:
    """As a data frame of pandas or Polars: columns by name."""

    def __init__(self, columns):
        self.columns, self._columns = list(columns), columns

    def __getitem__(self, name):
        return pa.chunked_array([self._columns[name]]) if name == "text" else self._columns[name]

    def __len__(self):
        return len(next(iter(self._columns.values())))


def test_tables_of_any_kind_are_encoded_alike():
    made, sources = embedder(), items(5)
    sources = {"sensor": sources["sensor"], "text": [*sources["text"][:3], None, None]}
    expected = made.encode(sources)
    more = {"id": list("abcde"), **sources}
    records = [{name: column[row] for name, column in more.items()} for row in range(5)]
    short = [{name: value for name, value in record.items() if value is not None} for record in records]
    for table in (Frame(more), pa.table(more), records, tuple(short)):
        found = made.encode(table)
        assert torch.equal(found.vectors, expected.vectors) and found.subsets == expected.subsets
    assert len(made.encode([])) == 0
    with pytest.raises(ValueError, match="none of the columns id, txt is a modality of this model, which has sensor"):
        made.encode([{"id": 1, "txt": "a"}])
    for wrong in ("a bird", ["a bird"], np.zeros((2, 6)), 5):
        with pytest.raises(ValueError, match="expected modality -> list of sources, a list of records"):
            made.encode(wrong)


def test_what_data_frames_call_missing_is_missing():
    class NAType:
        def __bool__(self):
            raise TypeError("boolean value of NA is ambiguous")

    missing = [None, float("nan"), np.float32("nan"), NAType()]
    columns = columns_of({"text": [*missing, "a"], "image": ["b"] * 5}, {}, KINDS)
    assert columns["text"] == [None] * 4 + ["a"]


@pytest.mark.parametrize(
    "column", [iter(SENTENCES), map(str, SENTENCES), tuple(SENTENCES), np.array(SENTENCES), pa.array(SENTENCES)]
)
def test_any_row_of_items_is_a_column(column):
    assert torch.equal(embedder().encode(text=column).vectors, embedder().encode(text=SENTENCES).vectors)


PICTURES, FILMS = np.zeros((5, 8, 9, 3)), np.zeros((5, 7, 8, 9, 3))


@pytest.mark.parametrize(
    ("name", "array", "items"),
    [
        ("image", PICTURES, 5),
        ("image", torch.zeros(5, 3, 8, 9), 5),
        ("image", np.zeros((50, 28, 28)), 50),
        ("film", FILMS, 5),
        ("film", np.zeros((5, 7, 8, 9)), 5),
        ("vector", np.zeros((5, 6)), 5),
        ("steps", np.zeros((5, 4, 6)), 5),
    ],
)
def test_the_first_axis_of_an_array_is_the_items(name, array, items):
    assert len(columns_of({name: array}, {}, KINDS)[name]) == items


ONE = "must be a list with one source an item, None where it has none; got"


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("image", PICTURES[0], r"image in colour, or 8 in grey. Write image=\[array\] for one, image=list\(array\)"),
        ("image", torch.zeros(3, 8, 9), "image in colour, or 3 in grey"),
        ("image", np.zeros((28, 28)), rf"{ONE} one array of shape \(28, 28\). For one item write image=\[...\]"),
        ("film", FILMS[0], "video in colour, or 7 in grey"),
        ("vector", np.zeros(6), rf"{ONE} one array of shape \(6,\)"),
        ("vector", [0.0] * 6, rf"{ONE} numbers. For one item write vector=\[\[...\]\]"),
        ("audio", np.zeros(8000), r"samples need their rate in Hz. Write audio=\[\(samples, rate\), ...\]"),
        ("audio", (np.zeros(8000), 8000), rf"{ONE} one sound with its rate. Write audio=\[\(samples, rate\)\]"),
        ("audio", {"array": [0.0], "sampling_rate": 8000}, rf"{ONE} dict.*audio=\[...\]"),
        ("image", Image.new("L", (2, 2)), rf"{ONE} Image. For one item write image=\[...\]"),
        ("image", Path("a.png"), rf"{ONE} (Posix|Windows)?Path"),
        ("image", b"123", rf"{ONE} bytes"),
        ("image", io.BytesIO(b"123"), rf"{ONE} BytesIO"),
        ("text", "a bird", rf"{ONE} str. For one item write text=\[...\]"),
        ("text", {"a bird"}, rf"{ONE} set, which has no order"),
        ("text", {"a": "a bird"}, rf"{ONE} dict, which is no list.*text=list\(values.values\(\)\)"),
        ("text", 5, rf"{ONE} int"),
    ],
)
def test_one_item_is_no_list_of_its_parts(name, column, message):
    with pytest.raises(ValueError, match=f"^{name}:? .*{message}"):
        columns_of({name: column}, {}, KINDS)


def test_a_text_is_one_prompt_and_names_are_prompts():
    made = embedder()
    query = made.encode(text=["a red bird"])
    expected = made.zero_shot(query, {"bird": ["a red bird"], "fish": ["two blue fish"]})
    names, scores = made.zero_shot(query, {"bird": "a red bird", "fish": "two blue fish"})
    assert names == expected[0] == ["bird"] and torch.equal(scores, expected[1])
    assert torch.equal(made.zero_shot([{"text": "a red bird"}], ["a red bird", "two blue fish"])[1], expected[1])
    for classes in ("bird", ["bird", "bird"], [], {"bird": ""}):
        with pytest.raises(ValueError):
            made.zero_shot(query, classes)


def test_vectors_are_taken_by_numpy_and_lists():
    made = embedder()
    found = made.encode(text=SENTENCES)
    assert np.array_equal(np.asarray(found), found.vectors.numpy())
    expected = made.similarity(found, found)
    for other in (found.vectors.numpy(), found.vectors.tolist(), np.asarray(found)):
        assert torch.allclose(made.similarity(found, other), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_of_other_precision_is_used_as_it_is(dtype):
    made, sources = embedder(), items(4)
    expected = made.encode(sources, use="sensor").vectors
    made.model.to(dtype)
    found = made.encode(sources, use="sensor").vectors
    assert found.dtype == torch.float32 and (found - expected).abs().max() < 0.05
