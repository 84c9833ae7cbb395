import os

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from confu.data.readers import ImageReader, VectorReader
from confu.data.readers import source as source_module
from confu.data.readers.source import Content, fingerprint, name_of, opened

from .fixtures import blocks, image_bytes, npy_bytes, tone


def test_any_address_of_fsspec_is_read():
    with fsspec.open("memory://photos/a.png", "wb") as file:
        file.write(image_bytes(blocks()))
    reader = ImageReader(16)
    assert torch.equal(reader.read("memory://photos/a.png"), reader.read(blocks()))
    with pytest.raises(ValueError, match=r"memory://photos/b\.png: cannot be read: no such file"):
        reader.read("memory://photos/b.png")
    with pytest.raises(ValueError, match=r"nonsense://a\.png: cannot be read: ValueError: Protocol not known"):
        reader.read("nonsense://a.png")


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path, "not a file"), (tmp_path / "pipe", "not a file"), (tmp_path / "a", "no such file")):
        with pytest.raises(ValueError, match=f"{path}: cannot be read: {why}"):
            VectorReader(3).read(path)
    with pytest.raises(ValueError, match="cannot be read"):
        VectorReader(3).read("null\0character")


def test_equal_content_has_one_fingerprint(tmp_path, monkeypatch):
    content = npy_bytes(np.arange(500.0))
    (tmp_path / "a.npy").write_bytes(content)
    (tmp_path / "b.npy").write_bytes(content)
    key, kept = fingerprint(tmp_path / "a.npy")
    assert kept == Content(str(tmp_path / "a.npy"), content)
    assert {fingerprint(source)[0] for source in (content, str(tmp_path / "b.npy"))} == {key}
    monkeypatch.setattr(source_module, "_IN_MEMORY", 1000)  # a long file is hashed piece by piece
    again, kept = fingerprint(tmp_path / "b.npy")
    assert (again, kept) == (key, tmp_path / "b.npy")


def test_different_content_has_different_fingerprints():
    turned = Image.fromarray(blocks())
    turned.getexif()[0x0112] = 6
    palette = Image.fromarray(blocks()[..., 0]).convert("P")
    other_palette = palette.copy()
    other_palette.putpalette(list(range(255, -1, -1)) * 3)
    sources = [
        b"1", b"2", np.zeros(4, np.float32), np.zeros((2, 2), np.float32), np.zeros(4, np.int32), [0.0, 0.0], [0.0],
        0.0, 1.0, (tone(), 8000), (tone(), 16000), (tone(880), 8000), torch.zeros(4), Image.fromarray(blocks()), turned,
        palette, other_palette, [[1, 2], [3, 4]], [[1, 2], [3, 5]],
    ]  # fmt: skip
    keys = [fingerprint(source)[0] for source in sources]
    assert len(set(keys)) == len(keys)
    assert keys == [fingerprint(source)[0] for source in sources]


def test_names_say_what_a_source_is():
    names = [name_of(one) for one in (torch.zeros(2, 3), Image.new("L", (4, 5)), (1, 2), "x" * 300, Content("a", b""))]
    assert names == ["float32 tensor (2, 3)", "L picture (4, 5)", "tuple of 2", "x" * 200 + "...", "a"]


def test_a_file_is_read_twice_alike():
    with opened(Content("a", b"abc")) as file:
        assert file.read() == b"abc"
