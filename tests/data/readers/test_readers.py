"""What every reader must do."""

import json

import pytest
import torch

from confu.data.readers import READERS, Reader, build_reader

from .fixtures import CASES


def built(case: str) -> tuple[Reader, object]:
    settings, source = CASES[case]
    return build_reader({"kind": case, **settings}), source


def test_every_kind_is_tested():
    assert set(READERS) == {CASES[case][0].get("kind", case) for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_a_reader_is_rebuilt_from_its_settings_as_json(case):
    reader, source = built(case)
    again = build_reader(json.loads(json.dumps(reader.settings)))
    assert isinstance(reader, Reader)
    assert again.settings == reader.settings
    first, second = (one.collate([one.read(source)]) for one in (reader, again))
    same_inputs(first, second)


@pytest.mark.parametrize("case", CASES)
def test_items_collate_to_a_batch_of_their_number(case):
    reader, source = built(case)
    item = reader.read(source)
    batches = {count: tensors(reader.collate([item] * count)) for count in (0, 1, 3)}
    for count, batch in batches.items():
        assert all(len(tensor) == count for tensor in batch.values())
    for name, tensor in batches[0].items():
        assert tensor.dtype == batches[3][name].dtype
        assert tensor.ndim == batches[3][name].ndim
        if reader.stackable:
            assert tensor.shape[1:] == batches[3][name].shape[1:]
    assert all(torch.equal(tensor[0], tensor[2]) for tensor in batches[3].values())


@pytest.mark.parametrize("case", [case for case in CASES if built(case)[0].stackable])
def test_items_that_were_stacked_collate_to_the_same(case):
    reader, source = built(case)
    items = [reader.read(source)] * 2
    stacked = torch.stack(items)
    before = stacked.clone()
    same_inputs(reader.collate(items), reader.collate(stacked))
    assert torch.equal(stacked, before)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("source", [{"a": 1}, object(), None, "", b"", "missing.bin"])
def test_what_no_reader_reads_is_named(case, source, as_users_run):
    reader, _ = built(case)
    if reader.modality_kind == "text" and source == "missing.bin":
        return
    with pytest.raises(ValueError, match=r"expected|cannot be read|not readable|not an image|empty|cut short"):
        reader.read(source)


def test_settings_that_make_no_reader_are_named():
    with pytest.raises(ValueError, match="must name its kind, one of image, mel"):
        build_reader({"size": 3})
    with pytest.raises(ValueError, match="reader kind 'imgae' is not known; did you mean 'image'"):
        build_reader({"kind": "imgae"})
    with pytest.raises(ValueError, match="setting of the 'image' reader 'sise' is not known; did you mean 'size'"):
        build_reader({"kind": "image", "sise": 3})
    with pytest.raises(ValueError, match="the 'vector' reader needs the setting 'dim'"):
        build_reader({"kind": "vector"})


def tensors(inputs: torch.Tensor | dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return inputs if isinstance(inputs, dict) else {"values": inputs}


def same_inputs(first, second):
    first, second = tensors(first), tensors(second)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
