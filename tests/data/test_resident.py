"""Data on the device: the same batches as from memory, and a clear word where it cannot be there."""

import numpy as np
import pytest
import torch

from confu.data import ArrayDataset, CaptionColumn, SequenceColumn, TensorColumn, WordVocabulary
from confu.data import resident as module
from confu.data.dataset import DatasetView, RowsOf
from confu.data.gaps import IncompleteDataset
from confu.data.resident import on_device, resident

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
TEXTS = ["a cat", "one black cat sits", "two dogs"]


def columns():
    generator = torch.Generator().manual_seed(0)
    missing = torch.tensor([False, True, False, False, True, False])
    steps = (3, 1, None, 5, 2, 5)
    vocabulary = WordVocabulary.from_texts(TEXTS)
    index = torch.tensor([0, 2, 1, -1, 1, 0])
    pixels = torch.randint(0, 256, (6, 4), generator=generator, dtype=torch.uint8)
    fixed = np.random.default_rng(0).standard_normal((6, 3))
    fixed.flags.writeable = False
    sequences = [None if n is None else torch.randn(n, 2, generator=generator) for n in steps]
    return {
        "image": TensorColumn(pixels, missing, scale=255, shape=(2, 2)),
        "number": TensorColumn(fixed),
        "sound": SequenceColumn(sequences),
        "text": CaptionColumn(TEXTS, index, vocabulary),
        "copies": CaptionColumn(TEXTS, index, vocabulary, deduplicate=False),
    }


def dataset():
    return ArrayDataset(columns(), torch.arange(6), groups=torch.tensor([0, 0, 1, 1, -1, 2]))


def assert_same(found, expected):
    assert found.rows.tolist() == expected.rows.tolist()
    theirs = expected.values if isinstance(expected.values, dict) else {"values": expected.values}
    ours = found.values if isinstance(found.values, dict) else {"values": found.values}
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        assert ours[name].dtype == values.dtype
        assert torch.equal(ours[name].cpu(), values), name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", columns())
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5], [5, 5, 0], [4, 1], [2], []])
def test_a_column_on_the_device_gives_the_same_inputs(device, name, rows):
    column, rows = columns()[name], torch.tensor(rows, dtype=torch.long)
    moved = on_device(name, column, device)
    assert_same(moved.take(rows, name), column.take(rows, name))
    assert len(moved) == len(column) and torch.equal(moved.present, column.present)


@pytest.fixture(params=DEVICES)
def copied(request, monkeypatch):
    """As `resident`, with the copies that a CPU does not need made on the CPU as well."""

    def copy(datasets):
        return resident(datasets, "cuda" if request.param == "cuda" else "meta")

    if request.param == "cpu":  # "meta" stands for a device that is not a CPU, and data goes to the CPU all the same
        monkeypatch.setattr(module, "on_device", lambda name, column, _: on_device(name, column, "cpu"))
    return copy


def test_rows_and_gaps_of_a_data_set_stay_what_they_were(copied):
    whole = dataset()
    some = RowsOf(whole, torch.tensor([5, 2, 0, 1]))
    gaps = IncompleteDataset(some, {"image": torch.tensor([True, False, True, True])})
    moved = copied([gaps, RowsOf(whole, torch.tensor([3, 4])), whole])
    for ours, theirs in zip(moved, (gaps, RowsOf(whole, torch.tensor([3, 4])), whole)):
        assert len(ours) == len(theirs) and ours.ids == theirs.ids
        assert all(torch.equal(mask, theirs.present[name]) for name, mask in ours.present.items())
        found, expected = (one.batch(torch.tensor([1, 0])) for one in (ours, theirs))
        assert found.ids == expected.ids and torch.equal(found.groups, expected.groups)
        for name, inputs in expected.inputs.items():
            assert_same(found.inputs[name], inputs)
    assert moved[0].dataset.dataset.columns["image"] is moved[2].columns["image"] is not whole.columns["image"]


def test_on_a_cpu_nothing_is_copied():
    data = dataset()
    assert resident([data], "cpu") == [data]


def test_data_that_is_not_in_memory_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 2), dtype=np.float32))
    mapped = ArrayDataset({"x": TensorColumn(np.load(tmp_path / "x.npy", mmap_mode="r"))})
    with pytest.raises(ValueError, match=r"modality 'x' \(4 rows\) is memory-mapped\. Read it into memory first"):
        resident([mapped], "cuda")
    with pytest.raises(ValueError, match=r"an ArrayDataset, or rows of one; DatasetView makes its batches"):
        resident([DatasetView(dataset())], "cuda")

    class Elsewhere:
        present = torch.ones(3, dtype=torch.bool)
        check = take = lambda *_: None
        __len__ = lambda _: 3  # noqa: E731

    with pytest.raises(ValueError, match=r"modality 'y' \(3 rows\) is read by Elsewhere"):
        on_device("y", Elsewhere(), "cuda")


def test_data_that_does_not_fit_is_refused_with_its_sizes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**31))
    monkeypatch.setattr(module, "_bytes", lambda name, column: {"image": 2**29, "number": 2**28}.get(name, 2**27))
    some = {name: column for name, column in columns().items() if name != "copies"}
    expected = r"needs 1\.00 GiB \(image 0\.50, number 0\.25, sound 0\.12, text 0\.12\), more than 80% of the 1\.00 GiB"
    with pytest.raises(ValueError, match=expected):
        resident([ArrayDataset(some)], "cuda")
