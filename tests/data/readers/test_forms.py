"""The forms in which other libraries hand files, pictures and sounds around all give what the file gives."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from confu.data.readers import ImageReader, VectorReader, WaveformReader
from confu.data.readers.source import fingerprint

from .fixtures import RATE, blocks, image_bytes, npy_bytes, sound_bytes, tone

PIXELS = blocks(24, 32)
PNG, WAV = image_bytes(PIXELS), sound_bytes(tone(), subtype="FLOAT")
SAMPLES = tone().astype(np.float32)


def forms_of_file(content, path):
    path.write_bytes(content)
    return [
        bytearray(content),
        memoryview(content),
        io.BytesIO(content),
        path.open("rb"),
        {"bytes": content, "path": None},
        {"bytes": None, "path": str(path)},
        {"bytes": content, "path": "elsewhere"},
        SimpleNamespace(__fspath__=None, read=io.BytesIO(content).read, seekable=lambda: False),  # a download
    ]


def test_files_in_every_form_are_read(tmp_path):
    vector = npy_bytes(np.array([1.0, 2.0, 3.0]))
    for reader, content in ((ImageReader(24), PNG), (WaveformReader(RATE), WAV), (VectorReader(3), vector)):
        expected = reader.read(content)
        for form in forms_of_file(content, tmp_path / "a"):
            assert torch.equal(reader.read(form), expected)
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")  # and the file stands at its end
    assert torch.equal(ImageReader(24).read(file), ImageReader(24).read(PNG))
    assert fingerprint(io.BytesIO(PNG))[0] == fingerprint({"bytes": PNG, "path": None})[0] == fingerprint(PNG)[0]


def test_pictures_in_every_form_are_read():
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    forms = [
        *(tensor, tensor / 255, tensor.float(), tensor.double() / 255, tensor.long()),
        *(PIXELS, PIXELS / 255, PIXELS.astype(np.float32), PIXELS.astype(np.uint16) * np.uint16(257)),
        *(Image.fromarray(PIXELS), {"array": PIXELS}, SimpleArray(PIXELS)),
    ]
    expected = ImageReader(24).read(PNG)
    for form in forms:
        assert torch.equal(ImageReader(24).read(form), expected)
    dark = PIXELS // 2  # no value above 255 needs 16 bits
    assert torch.equal(ImageReader(24).read(dark.astype(np.uint16)), ImageReader(24).read(dark))
    mask = PIXELS[..., 0] > 100
    assert torch.equal(ImageReader(24).read(mask), ImageReader(24).read(mask.astype(np.uint8) * 255))


class SimpleArray:
    """What numpy makes an array of, as arrays of other libraries."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


def test_sounds_in_every_form_are_read():
    decoder = SimpleNamespace(
        get_all_samples=lambda: SimpleNamespace(data=torch.from_numpy(SAMPLES)[None], sample_rate=RATE)
    )
    forms = [
        {"array": SAMPLES, "sampling_rate": RATE, "path": None},
        {"array": SAMPLES.tolist(), "sampling_rate": np.int64(RATE)},
        *((SAMPLES, torch.tensor(RATE)), (SAMPLES, np.float32(RATE)), (RATE, SAMPLES), [SAMPLES, RATE], decoder),
    ]
    expected = WaveformReader(RATE).read((SAMPLES, RATE))
    for form in forms:
        assert torch.equal(WaveformReader(RATE).read(form), expected)


@pytest.mark.parametrize(
    ("reader", "source", "message"),
    [
        (ImageReader(8), io.StringIO("a"), "is opened as text; open it in binary mode"),
        (ImageReader(8), {"url": "a.png"}, "expected a dict of bytes or path.* got the keys url"),
        (ImageReader(8), {"bytes": b"<html>", "path": "cat.png"}, "cat.png: is a web page"),
        (ImageReader(8), io.BytesIO(b""), "0 bytes: is empty"),
        (WaveformReader(RATE), (SAMPLES, "8000"), "tuple of 2: expected a sound's file"),
        (WaveformReader(RATE), {"array": SAMPLES}, r"expected .* a tuple \(samples, rate in Hz\); got ndarray"),
    ],
)
def test_other_forms_are_named(reader, source, message):
    with pytest.raises(ValueError, match=message):
        reader.read(source)
