"""What a file is, by its bytes and its name, and what is said of one that no reader decodes."""

import base64
import io
from importlib.util import find_spec

import numpy as np
import pytest
import soundfile
from PIL import Image, features

from confu.data.media import format_of, inline_content, kind_of_bytes, kind_of_name, why_unreadable
from confu.data.readers import ImageReader, MelReader, VideoReader
from confu.data.readers.image import FORMATS

PIXELS = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)


def saved(form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "HEIF"])
def test_pictures_that_are_read_are_known_by_bytes(form):
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    content = saved(form)
    known = format_of(content[:16])
    assert known is not None and known.kind == "image" and not known.help
    assert ImageReader(32).read(content).shape == (3, 32, 32)


@pytest.mark.parametrize("form", ["WAV", "RF64", "W64", "AIFF", "FLAC", "OGG", "MP3", "CAF", "AU"])
def test_sounds_that_are_read_are_known_by_bytes(form):
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(8000) / 3), 8000, format=form)
    known = format_of(file.getvalue()[:16])
    assert known is not None and known.kind == "audio" and not known.help
    MelReader(8000, 0.5, mels=16, window=256).read(file.getvalue())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.avif", "image"),
        ("a.HEIC", "image"),
        ("a.jfif", "image"),
        ("a.jp2", "image"),
        ("a.wma", "audio"),
        ("a.aac", "audio"),
        ("https://a.org/b/c.png?w=200#top", "image"),
        ("https://a.org/play?file=c.txt", None),
        ("https://a.png", None),
        ("zip://in/a.wav::s3://bucket/all.zip", "audio"),
        ("a::b.png", "image"),
        ("Is it a.png?", None),
    ],
)
def test_names_and_addresses_tell_the_kind(name, kind):
    assert kind_of_name(name) == kind


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + b"\0" * 100


@pytest.mark.parametrize(
    ("kind", "content", "advice"),
    [
        ("image", HEIC, "is HEIC, which is not read; pip install pillow-heif, or convert it: magick a.heic a.png"),
        ("image", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is SVG.*magick a.svg a.png"),
        ("image", b"\n<!DOCTYPE html><html>", "is a web page: the download failed"),
        ("image", b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\n", "run git lfs pull"),
        ("image", b"%PDF-1.7", "pdftoppm"),
        ("image", b"", "is empty"),
        ("image", b"RIFF\0\0\0\0WAVEfmt ", "is WAV, a format of audio; expected image"),
        ("audio", b"\0\0\0 ftypM4A " + b"\0" * 99, "is M4A, which is not read; convert it: ffmpeg -i a.m4a a.flac"),
        ("audio", b"\xff\xf1\x50\x80" + b"\0" * 99, "is AAC.*ffmpeg -i a.aac a.flac"),
        ("audio", ASF, "is WMA, which is not read as sound; convert it: ffmpeg -i a.wma a.flac"),
        ("audio", b"\x1aE\xdf\xa3" + b"\0" * 99, "is WEBM, which is not read as sound.*ffmpeg -i a.webm a.flac"),
        ("audio", saved("PNG"), "is PNG, a format of image; expected audio"),
        ("video", b"<html>404</html>", "is a web page"),
    ],
)
def test_what_is_not_read_is_named_with_what_helps(kind, content, advice):
    reader = {"image": ImageReader(8), "audio": MelReader(), "video": VideoReader(size=8)}[kind]
    if content is HEIC and find_spec("pillow_heif"):
        pytest.skip("pillow-heif is installed, which reads it")
    with pytest.raises(ValueError, match=f"bytes: .*{advice}"):
        reader.read(content)


def test_damaged_files_of_read_formats_need_no_other():
    assert why_unreadable("image", saved("PNG")[:40]) == ""
    assert kind_of_bytes(ASF) == "video"  # or a sound: the bytes do not tell


def test_files_may_stand_in_base64():
    content = saved("JPEG")
    plain, lines = base64.b64encode(content).decode(), base64.encodebytes(content).decode()
    forms = [
        plain,
        lines,
        plain.rstrip("="),
        base64.urlsafe_b64encode(content).decode(),
        f"data:image/jpeg;base64,{plain}",
    ]
    expected = ImageReader(8).read(content)
    for form in forms:
        assert inline_content(form) == content
        assert (ImageReader(8).read(form) == expected).all()
    assert inline_content("data:text/plain,a%20cat") == b"a cat"
    for other in ("photos/1.png", "iVBORw0KGgo", "a cat on a mat " * 9, "YQ" * 200, plain[:400] + "~" + plain[400:]):
        assert inline_content(other) is None
    with pytest.raises(ValueError, match=r"data:image/png;base64,%%%.* not readable as base64"):
        inline_content("data:image/png;base64,%%%")
