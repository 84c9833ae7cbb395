"""Rows that lack modalities: who lacks what, what the encoder gets, and what a baseline fills in."""

import pytest
import torch

from confu.data import ArrayDataset, CaptionColumn, TensorColumn, WordVocabulary
from confu.data.dataset import RowsOf, row_contents
from confu.data.gaps import FilledDataset, IncompleteDataset, random_gaps

CAPTIONS = ["a one", "a two words"]
IMAGES = torch.arange(1.0, 7.0).reshape(6, 1)


def dataset():
    text = CaptionColumn(CAPTIONS, torch.tensor([0, 1, 0, 1, 0, 1]), WordVocabulary.from_texts(CAPTIONS))
    return ArrayDataset({"image": TensorColumn(IMAGES), "text": text}, torch.arange(6), groups=torch.arange(6) % 2)


PRESENT = {
    "image": torch.tensor([1, 0, 1, 1, 0, 1]).bool(),
    "text": torch.tensor([0, 1, 1, 0, 1, 1]).bool(),
}


def test_a_row_without_a_modality_has_no_content_of_it():
    data = IncompleteDataset(dataset(), PRESENT)
    assert data.contents["text"].tolist() == [-1, 1, 0, -1, 0, 1]
    assert row_contents(data)["text"].tolist() == [-1, 1, 0, -1, 0, 1]  # of batches, as that of the images is not known


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_rows_lacks_exactly_one_modality(share):
    present = random_gaps(3000, ("a", "b", "c"), share, seed=1)
    lacks = torch.stack([~mask for mask in present.values()])
    assert lacks.sum(0).max() <= 1
    assert int(lacks.sum()) == round(share * 3000)
    assert all(abs(int(one.sum()) - share * 1000) < 100 for one in lacks)


def test_more_gaps_hold_the_gaps_there_were():
    few, many = (random_gaps(500, ("a", "b"), share, seed=4) for share in (0.2, 0.6))
    for name in ("a", "b"):
        assert not (~few[name] & many[name]).any()
    other = random_gaps(500, ("a", "b"), 0.6, seed=5)
    assert not torch.equal(many["a"], other["a"])


def test_hidden_inputs_are_gone_and_the_others_stay():
    holed, whole = IncompleteDataset(dataset(), PRESENT), dataset()
    rows = torch.tensor([5, 0, 1, 2, 3, 4])
    batch, full = holed.batch(rows), whole.batch(rows)
    assert {name: mask.tolist() for name, mask in holed.present.items()} == {n: m.tolist() for n, m in PRESENT.items()}
    assert batch.groups.tolist() == full.groups.tolist() and torch.equal(batch.labels, full.labels)
    for name in ("image", "text"):
        inputs, there = batch.inputs[name], full.inputs[name]
        assert torch.equal(inputs.present, PRESENT[name][rows])
        for row in range(6):
            if not inputs.present[row]:
                continue
            if name == "image":
                assert inputs.values[inputs.rows[row]] == there.values[there.rows[row]]
            else:
                for key in ("input_ids", "attention_mask"):
                    assert torch.equal(inputs.values[key][inputs.rows[row]], there.values[key][there.rows[row]])
    assert len(batch.inputs["image"].values) == 4  # nothing is encoded that no row has


def test_filled_holes_are_zeros_that_count_as_there():
    holed = FilledDataset(IncompleteDataset(dataset(), PRESENT))
    assert all(mask.all() for mask in holed.present.values())
    batch = holed.batch(torch.arange(6))
    assert batch.inputs["image"].present.all()
    assert batch.inputs["image"].values[batch.inputs["image"].rows].squeeze(1).tolist() == [1, 0, 3, 4, 0, 6]
    text = batch.inputs["text"]
    ids, mask = (text.values[key][text.rows] for key in ("input_ids", "attention_mask"))
    assert not ids[0].any() and mask[0].tolist() == [1, 0, 0, 0]
    assert ids[2].tolist()[:3] == dataset().batch(torch.tensor([2])).inputs["text"].values["input_ids"][0].tolist()


def test_a_batch_of_holes_alone_is_filled_too():
    filled = FilledDataset(IncompleteDataset(dataset(), PRESENT))
    image = filled.batch(torch.tensor([4, 1])).inputs["image"]
    assert image.values[image.rows].tolist() == [[0.0], [0.0]]
    with pytest.raises(ValueError, match="'image': every row lacks it"):
        FilledDataset(IncompleteDataset(dataset(), {"image": torch.zeros(6, dtype=torch.bool)}))


def test_rows_of_a_data_set_keep_what_is_known_of_them():
    some = RowsOf(dataset(), torch.tensor([4, 1]))
    assert (len(some), list(some.ids), some.labels.tolist(), some.groups.tolist()) == (2, ["4", "1"], [4, 1], [0, 1])
    assert some.batch(torch.tensor([1, 0])).inputs["image"].values.squeeze(1).tolist() == [2, 5]
    assert some.present["image"].tolist() == [True, True]


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="modality 'imgae' is not known; did you mean 'image'"):
        IncompleteDataset(dataset(), {"imgae": PRESENT["image"]})
    with pytest.raises(ValueError, match=r"present\['image'\]: expected shape \(6,\); got \(3,\)"):
        IncompleteDataset(dataset(), {"image": PRESENT["image"][:3]})
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\]; got 1.5"):
        random_gaps(5, ("a", "b"), 1.5)
    with pytest.raises(ValueError, match="two or more are needed"):
        random_gaps(5, ("a",), 0.5)
