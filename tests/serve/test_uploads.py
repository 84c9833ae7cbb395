"""What is not what it says, or too much of it: refused with what to send instead, before it costs anything."""

import base64
import io
import struct
import zlib

import numpy as np
import pytest
import soundfile
from PIL import Image

from .sending import npy, png, refused, wav

TARGET = {"target": "text"}


def png_bomb(side: int) -> bytes:
    """A picture of one colour whose few bytes would fill the memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def silence(seconds: int) -> bytes:
    """Few bytes that are many samples."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(8000 * seconds, np.int16), 8000, format="FLAC")
    return file.getvalue()


def npy_header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue() + b"\0" * 32


FILES = [
    ("image", b"", 422, "empty", "the file is empty; send a picture file"),
    ("image", b"not a picture", 422, "not_an_image", "none, or it is damaged; send a picture file"),
    ("image", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "not_an_image", "JPEG, PNG"),
    ("image", b"%!PS-Adobe-3.0 EPSF-3.0\n", 422, "not_an_image", "JPEG, PNG"),
    ("image", png()[:60], 422, None, "damaged"),
    ("image", png_bomb(1100), 413, "image_too_large", "1100 x 1100 pixels; send 1,000,000 at most"),
    ("image", png_bomb(60000), 413, "image_too_large", "send 1,000,000 at most"),
    ("image", wav(), 422, "not_an_image", "send a picture file"),
    ("audio", png(), 422, "not_a_sound", "send a sound file"),
    ("audio", b"", 422, "empty", "send a sound file"),
    ("audio", wav()[:30], 422, "not_a_sound", "send a sound file"),
    ("audio", wav(seconds=6), 413, "audio_too_long", "6 s of sound; send 5 s at most"),
    ("audio", silence(3600), 413, "audio_too_long", "60 minutes of sound; send 5 s at most"),
    ("audio", wav(seconds=0.01), 422, "bad_audio", "expected 0.1 s or more"),
    ("text", b"\xff\xfe", 422, "not_a_text", "the bytes are not UTF-8"),
    ("text", b" \n ", 422, "empty", "the text is empty; send a text"),
    ("text", b"a" * 501, 413, "text_too_long", "send 500 characters at most"),
    ("text", b"a" * 5000, 413, "text_too_long", "send 500 characters at most"),
    ("sensor", b"", 422, "not_numbers", "send numbers as JSON"),
    ("sensor", b"[1, 2, 3]", 422, "bad_vector", "expected a vector of 4 numbers"),
    ("sensor", b"[1, 2, 3, NaN]", 422, "not_finite", "NaN, infinity"),
    ("sensor", b"[1, 2, 3, 1e999]", 422, "not_finite", "NaN, infinity"),
    ("sensor", b"[1, 2, 3, " + b"9" * 400 + b"]", 422, "not_finite", "too large for float32"),
    ("sensor", b'[1, 2, 3, "4"]', 422, "not_numbers", "not all of it are numbers"),
    ("sensor", b"[[[1]]]", 422, "not_numbers", "not all of it are numbers"),
    ("sensor", b"[" * 20000, 422, "not_numbers", "neither JSON nor a .npy file"),
    ("sensor", b"{}", 422, "not_numbers", "dict came"),
    ("sensor", b"[" + b"1," * 20000 + b"1]", 413, "too_many_numbers", "send 4 at most"),
    ("sensor", b"[]", 422, "empty", "there is none"),
    ("sensor", npy(np.array([1.0, np.nan, 0, 0])), 422, "not_finite", "NaN or infinity"),
    ("sensor", npy(np.array([{}, 1, 2, 3], dtype=object)), 422, "not_numbers", "not numbers"),
    ("sensor", npy(np.array(["a"] * 4)), 422, "not_numbers", "not numbers"),
    ("sensor", npy(np.zeros(4))[:70], 422, "not_numbers", ".npy file is damaged"),
    ("sensor", npy_header((10**12,)), 413, "too_many_numbers", "send 1000 at most"),
    ("sensor", npy_header((900,)), 422, "not_numbers", "cut short"),
    ("sensor", npy_header((-4,)), 422, "not_numbers", "empty or cut short"),
    ("sensor", b"PK\x03\x04 an archive", 422, "not_numbers", "neither JSON nor a .npy file"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "status", "code", "message"), FILES)
def test_a_file_is_judged_by_what_it_holds(client, name, content, status, code, message):
    response = client.post("/v1/search", files={name: ("innocent.png", content)}, data=TARGET)
    code = code or response.json()["error"]["code"]
    assert message in refused(response, status, code, name)


@pytest.mark.parametrize(
    ("body", "status", "code", "field", "message"),
    [
        ({"image": "/etc/passwd"}, 422, "bad_image", "image", "str came; send a picture file"),
        ({"image": "https://example.org/a.png"}, 422, "bad_image", "image", "base64"),
        ({"audio": [1, 2]}, 422, "bad_audio", "audio", "list came"),
        ({"image": {"base64": "?"}}, 422, "bad_base64", "image", "not readable as base64"),
        ({"image": {"base64": 1}}, 422, "bad_base64", "image", "an object must be"),
        ({"image": {"path": "/etc/passwd"}}, 422, "bad_base64", "image", "an object must be"),
        ({"image": {"base64": "A" * 1_500_000}}, 413, "too_large", "image", "more than 1 MiB"),
        ({"text": 5}, 422, "not_a_text", "text", "int came"),
        ({"text": {"base64": base64.b64encode(b" ").decode()}}, 422, "empty", "text", "the text is empty"),
        ({"sensor": True}, 422, "not_numbers", "sensor", "bool came"),
        ({"sensor": 1.0}, 422, "bad_vector", "sensor", "expected a vector of 4 numbers"),
        ({"sensor": [0.0] * 1001}, 413, "too_many_numbers", "sensor", "send 4 at most"),
        ({"txet": "a"}, 422, "unknown_field", "txet", "did you mean 'text'"),
        ({"text": "a", "k": 0}, 422, "bad_k", "k", "a whole number from 1 to 200; got '0'"),
        ({"text": "a", "k": 201}, 422, "bad_k", "k", "from 1 to 200"),
        ({"text": "a", "k": "²"}, 422, "bad_k", "k", "whole number"),
        ({"text": "a", "k": True}, 422, "bad_k", "k", "whole number"),
        ({"text": "a", "singles": "perhaps"}, 422, "bad_singles", "singles", "true or false"),
        ({"text": "a", "target": ["image"]}, 422, "bad_target", "target", "expected a text"),
        ({"text": "a", "target": "image+"}, 422, "bad_subset", "target", "non-empty"),
        ({"text": "a", "where": [1]}, 422, "bad_where", "where", "texts"),
        ({"text": "a", "target": "image", "where": "x"}, 422, "bad_where", "where", "COLUMN OPERATOR VALUE"),
        ({"text": "a", "target": "image", "where": ["a == 1"] * 33}, 422, "bad_where", "where", "at most 32"),
        ({"text": "a", "target": "image", "where": ["year > 1.5e300"]}, 422, "bad_where", "where", "64 bits"),
        ({"text": "a", "target": "image", "where": ["nope == 1"]}, 422, "bad_where", "where", "Known: 'label'"),
        ({"text": "a", "weights": "{"}, 422, "bad_weights", "weights", "an object or its JSON"),
        ({"text": "a", "weights": [1]}, 422, "bad_weights", "weights", "expected an object"),
        ({"text": "a", "weights": {"text": "1"}}, 422, "bad_weights", "weights", "expected an object"),
    ],
)  # fmt: skip
def test_json_is_judged_by_its_kind(client, body, status, code, field, message):
    assert message in refused(client.post("/v1/search", json=body), status, code, field)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "bad_json"),
        (b"{", 400, "bad_json"),
        (b"\xff", 400, "bad_json"),
        (b'{"text": NaN}', 400, "bad_json"),
        (b"[" * 100_000, 400, "bad_json"),
        (b'{"text": "\\ud800", "target": "image"}', 400, "bad_json"),
        (b'{"text": "a", "target": "\\uDFFF"}', 400, "bad_json"),
        (b"[1]", 422, "bad_json"),
        (b'"text"', 422, "bad_json"),
        (b'{"sensor": [' + b"9" * 10_000 + b"]}", 400, "bad_json"),
    ],
)
def test_what_is_no_json_is_refused(client, content, status, code):
    refused(client.post("/v1/search", content=content, headers={"Content-Type": "application/json"}), status, code)


def form(client, content: bytes, boundary: str = "; boundary=x"):
    return client.post("/v1/search", content=content, headers={"Content-Type": "multipart/form-data" + boundary})


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


END = b"--x--\r\n"


def test_a_form_that_is_none_is_refused(client):
    good = part("text", b"a bird") + part("target", b"image")
    assert form(client, good + END).status_code == 200
    for content, boundary in [
        (good + END, ""),
        (good + END, "; boundary=y"),
        (good + END, "; boundary=" + "x" * 300),
        (good, "; boundary=x"),
        (b"", "; boundary=x"),
        (b"\r\n\r\n", "; boundary=x"),
        (b"--x\r\n\r\na\r\n" + END, "; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n" + END, "; boundary=x"),
        (b"--x\r\nBad\0Header: a\r\n\r\na\r\n" + END, "; boundary=x"),
    ]:
        refused(form(client, content, boundary), 400, "bad_form")
    refused(form(client, part("text", b"a", "; x=" + "y" * 5000) + END), 400, "bad_form")
    refused(form(client, part("where", b"year > 1") * 201 + END), 413, "too_many_parts")
    refused(form(client, part("text", b"a") + part("text", b"b") + END), 422, "twice", "text")
    refused(form(client, part("target", b"a") + part("target", b"b") + END), 422, "twice", "target")
    refused(form(client, part("target", b"\xff") + END), 422, "not_a_text", "target")
    refused(form(client, part("\xe4", b"a") + END), 422, "unknown_field", "\xe4")
    refused(client.post("/v1/search", content=b"a=1", headers={"Content-Type": "text/plain"}), 415, "wrong_type")
    refused(client.post("/v1/search"), 415, "wrong_type")


def test_too_many_bytes_are_not_taken_in(client):
    refused(client.post("/v1/search", files={"image": b"\0" * (2**20 + 1)}), 413, "too_large", "image")
    refused(client.post("/v1/search", files={"image": b"\0" * 2**21}), 413, "too_large")
    refused(client.post("/v1/search", files={"text": (None, b"a")}, data={"target": "a" * 200_001}), 413, "too_large",
            "target")  # fmt: skip

    json_of_more = {"Content-Type": "application/json", "Content-Length": "9" * 30}
    refused(client.post("/v1/search", content=b"{}", headers=json_of_more), 413, "too_large")


def test_pictures_of_many_forms_are_taken(client):
    for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        file = io.BytesIO()
        Image.new("RGB", (40, 30), (220, 40, 40)).save(file, form)
        response = client.post("/v1/search", files={"image": ("picture.exe", file.getvalue())}, data=TARGET)
        assert response.status_code == 200, (form, response.text)
    for form in ("WAV", "FLAC", "OGG"):
        response = client.post("/v1/search", files={"audio": ("sound.txt", wav(form=form))}, data=TARGET)
        assert response.status_code == 200, (form, response.text)


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({}, "bad_labels", "labels"),
        ({"labels": ""}, "bad_labels", "labels"),
        ({"labels": "[1]"}, "bad_labels", "labels"),
        ({"labels": "["}, "bad_labels", "labels"),
        ({"labels": '["a", "a"]'}, "bad_labels", "labels"),
        ({"labels": '{"a": []}'}, "bad_labels", "labels"),
        ({"labels": "\n".join(map(str, range(1001)))}, "bad_labels", "labels"),
        ({"labels": '["a"]', "template": "no place"}, "bad_template", "template"),
        ({"labels": '["' + "a" * 501 + '"]'}, "text_too_long", "labels"),
        ({"labels": '["a"]', "k": "1"}, "unknown_field", "k"),
    ],
)
def test_labels_that_are_none_are_refused(client, fields, code, field):
    refused(client.post("/v1/classify", files={"image": png()}, data=fields), 422, code, field)
