"""Rows of one class put together afresh."""

import pytest
import torch

from confu.data import ArrayDataset, CaptionColumn, Dataset, TensorColumn, WordVocabulary
from confu_paper.datasets.media import paired_by_class

CAPTIONS = ["a one", "a two", "a three", "a four", "a five", "a six"]
LABELS = torch.tensor([0, 1, 0, 1, 0, 3])


def dataset(missing=None):
    text = CaptionColumn(CAPTIONS, torch.arange(6), WordVocabulary.from_texts(CAPTIONS))
    columns = {
        "image": TensorColumn(torch.arange(6.0)[:, None]),
        "audio": TensorColumn(torch.arange(6.0)[:, None], missing=missing),
        "text": text,
    }
    return ArrayDataset(columns, LABELS, groups=torch.arange(6), class_names=["a", "b", "c", "d"])


def drawn(data, rows, name="audio"):
    inputs = data.batch(rows).inputs[name]
    values = inputs.values["input_ids"] if isinstance(inputs.values, dict) else inputs.values
    return [None if row < 0 else values[row].tolist() for row in inputs.rows.tolist()]


def test_others_come_from_the_class_and_the_anchor_stays():
    torch.manual_seed(0)
    data = paired_by_class(dataset(), "image")
    assert isinstance(data, Dataset) and len(data) == 6
    rows = torch.tensor([5, 2, 1, 0])
    seen = set()
    for _ in range(60):
        batch = data.batch(rows)
        assert batch.inputs["image"].values[batch.inputs["image"].rows, 0].tolist() == [5, 2, 1, 0]
        assert batch.ids == ["5", "2", "1", "0"] and batch.labels.tolist() == [3, 0, 1, 0]
        assert batch.groups.tolist() == [5, 2, 1, 0]
        audio = batch.inputs["audio"].values[batch.inputs["audio"].rows, 0].long()
        assert torch.equal(LABELS[audio], batch.labels)
        seen.add(tuple(audio.tolist()))
    assert {pair[1] for pair in seen} == {0, 2, 4}  # the row's own partner among them
    assert len(seen) > 10


def test_each_modality_is_drawn_on_its_own_and_evenly():
    torch.manual_seed(1)
    data = paired_by_class(dataset(), "image")
    counts = torch.zeros(6, 6)
    vocabulary = WordVocabulary.from_texts(CAPTIONS)
    number = {tuple(vocabulary.encode([one])["input_ids"][0].tolist()): row for row, one in enumerate(CAPTIONS)}
    for _ in range(600):
        batch = data.batch(torch.tensor([0]))
        audio = int(batch.inputs["audio"].values[0, 0])
        counts[audio, number[tuple(batch.inputs["text"].values["input_ids"][0].tolist())]] += 1
    cells = counts[[0, 2, 4]][:, [0, 2, 4]]
    assert cells.sum() == 600
    assert (cells - 600 / 9).abs().max() < 5 * (600 / 9) ** 0.5


def test_an_interrupted_training_goes_on_with_the_same_draws():
    torch.manual_seed(3)
    data, rows = paired_by_class(dataset(), "image"), torch.arange(6)
    data.batch(rows)
    state = torch.get_rng_state()
    first = [drawn(data, rows) for _ in range(3)]
    torch.set_rng_state(state)
    assert [drawn(paired_by_class(dataset(), "image"), rows) for _ in range(3)] == first


def test_rows_without_the_modality_are_never_drawn():
    data = paired_by_class(dataset(torch.tensor([1, 0, 1, 0, 0, 1]).bool()), "image", ["audio"])
    assert data.present["audio"].tolist() == [True, True, True, True, True, False]  # no row of class 3 has a sound
    for _ in range(20):
        found = drawn(data, torch.tensor([0, 2, 4, 5]))
        assert found == [[4.0], [4.0], [4.0], None]
    assert drawn(data, torch.tensor([5])) == [None]
    texts = data.batch(torch.arange(6)).inputs["text"]
    assert texts.rows.tolist() == list(range(6))  # neither anchor nor drawn
    none = paired_by_class(dataset(torch.ones(6).bool()), "image", ["audio"])
    assert drawn(none, torch.arange(6)) == [None] * 6


def test_as_many_numbers_are_drawn_whatever_is_missing():
    states = []
    for missing in (None, torch.ones(6).bool()):
        torch.manual_seed(0)
        paired_by_class(dataset(missing), "image").batch(torch.arange(6))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(ValueError, match="modality 'imgae' is not known; did you mean 'image'"):
        paired_by_class(dataset(), "imgae")
    with pytest.raises(ValueError, match="others: 'image' is the anchor"):
        paired_by_class(dataset(), "image", ["image", "audio"])
    unlabelled = ArrayDataset({"a": TensorColumn(torch.zeros(2, 1)), "b": TensorColumn(torch.zeros(2, 1))})
    with pytest.raises(ValueError, match="without labels there are no rows of the same class"):
        paired_by_class(unlabelled, "a")
