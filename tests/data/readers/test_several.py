import numpy as np
import pytest
import torch
from torch import nn

from confu.data.readers import build_reader
from confu.data.readers.reader import read_checked
from confu.data.readers.source import Content, fingerprint
from confu.nn.encoders.wrappers import ListEncoder

from .fixtures import image_bytes

COLOURS = [np.full((6, 6, 3), value, np.uint8) + np.arange(6, dtype=np.uint8)[:, None] for value in (10, 60, 200)]
FILES = [image_bytes(colour, "PNG") for colour in COLOURS]
IMAGE = {"kind": "image", "size": 6}


def test_the_first_file_is_read_as_if_it_were_alone():
    reader, one = build_reader({**IMAGE, "list": "first"}), build_reader(IMAGE)
    for source in ([FILES[0], b"no picture"], [None, FILES[0]], np.array([FILES[0], FILES[1]], object), FILES[0]):
        assert torch.equal(reader.read(source), one.read(FILES[0]))
    items = [reader.read(FILES)] * 2
    assert torch.equal(reader.collate(items), one.collate(items))
    assert reader.stackable


def test_all_files_are_read_for_their_mean():
    reader, one = build_reader({**IMAGE, "list": "mean"}), build_reader(IMAGE)
    assert build_reader(reader.settings).settings == reader.settings
    assert reader.settings == {**one.settings, "list": "mean"}
    items = [reader.read(FILES), reader.read(FILES[1]), reader.read([FILES[2], None, FILES[0]])]
    assert [len(item) for item in items] == [3, 1, 2]
    assert not reader.stackable
    batch = reader.collate(items)
    assert batch["mask"].tolist() == [[True, True, True], [True, False, False], [True, True, False]]
    alone = one.collate([one.read(file) for file in FILES])
    assert torch.equal(batch["values"][batch["mask"]], alone[[0, 1, 2, 1, 2, 0]])
    assert not batch["values"][~batch["mask"]].any()


@pytest.mark.parametrize("training", [False, True])
def test_an_encoder_of_lists_takes_the_mean_of_each(training):
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 4))
    inner.out_dim = 4
    encoder = ListEncoder(inner).train(training)
    values, mask = torch.randn(3, 4, 2, 6), torch.arange(4) < torch.tensor([[4], [1], [2]])
    expected = torch.stack([inner(row[real]).mean(0) for row, real in zip(values, mask)])
    assert torch.allclose(encoder(values=values, mask=mask), expected, atol=1e-6)
    padding = torch.where(mask[..., None, None], values, torch.nan)  # nothing is made of it
    assert torch.equal(encoder(values=padding, mask=mask), encoder(values=values, mask=mask))


@pytest.mark.parametrize(
    ("settings", "source", "message"),
    [
        ({**IMAGE, "list": "mean"}, [FILES[0], b"x"], "file 2 of 2: 1 bytes: not an image"),
        ({**IMAGE, "list": "first"}, [b"x", FILES[0]], "file 1 of 2: 1 bytes: not an image"),
        ({**IMAGE, "list": "mean"}, [b"x"], "^1 bytes: not an image"),
        ({**IMAGE, "list": "mean"}, [None], "an empty list"),
        (IMAGE, FILES, r"holds a list of 3 files; in the run file, reader: \{list: first\}.*\{list: mean\}"),
        ({**IMAGE, "list": "last"}, FILES, "list 'last' is not known"),
        ({"kind": "vector", "dim": 2, "list": "mean"}, FILES, "list: goes with readers of image, audio, video files"),
    ],
)
def test_lists_that_cannot_be_read_are_named(settings, source, message):
    with pytest.raises(ValueError, match=message):
        read_checked(build_reader(settings), source)


def test_a_list_has_the_fingerprint_of_its_files_in_order():
    key, contents = fingerprint(FILES[:2])
    assert contents == [Content(f"{len(file)} bytes", file) for file in FILES[:2]]
    keys = [fingerprint(one)[0] for one in (FILES[:2], FILES[1::-1], FILES[:1], FILES[0])]
    assert keys[0] == key and len(set(keys)) == 4
