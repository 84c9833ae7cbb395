import base64
import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from confu.data.manifest import Manifest, guess_column, guess_columns

from .stand_ins import npy, png, write


def guess(cells, base="/data", kind=None) -> Any:
    clips = Manifest(f"{base}/clips.csv", str(base), pa.table({"x": pa.array(cells, kind)}))
    return guess_column(clips, "x")


STORED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize(
    ("cells", "kind", "dim", "why"),
    [
        (["a.png", "", "b.JPEG", None], "image", None, "its cells end in .jpeg, .png"),
        (["a/b.wav"], "audio", None, "end in .wav"),
        (["a.mp4"], "video", None, "end in .mp4"),
        (["a cat", "It sat. Then it left."], "text", None, "texts, such as 'a cat'"),
        (["look at a.png", "a dog", "a cat"], "text", None, "though 33% of 3 looked at end like image files"),
        (["captions/1.txt"], "text", None, "its name and not its content"),
        ([None, None], "text", None, "every cell is empty"),
        ([1, None], "number", 1, "numbers, such as 1"),
        ([0.5, float("nan")], "number", 1, "numbers"),
        ([True, False], "number", 1, "numbers"),
        ([[1.0, 2.0], [], [3.0, 4.0]], "vector", 2, "lists of 2 numbers"),
        ([[1.0] * (i + 1) for i in range(9)], "sequence", 1, "differing lengths, 1 to 9"),
        ([[[1, 2]] * 3, [[1, 2]]], "sequence", 2, "sequences of 1 to 3 steps with 2 numbers"),
        ([png(), b""], "image", None, "image files"),
        ([b"RIFF\0\0\0\0WAVE"], "audio", None, "audio files"),
        ([b"\0\0\0\x20ftypisom"], "video", None, "video files"),
        (["Zoë".encode()], "text", None, "hold text"),
        ([npy([1.0, 2.0, 3.0])], "vector", 3, "array files, which hold lists of 3 numbers"),
    ],
)
def test_types_suffixes_and_first_bytes_tell_the_kind(cells, kind, dim, why):
    found = guess(cells)
    assert (found.kind, found.dim) == (kind, dim)
    assert why in found.why


def test_stored_files_are_told_by_bytes_or_path():
    assert guess([{"bytes": png(), "path": None}, {"bytes": None, "path": None}], kind=STORED).kind == "image"
    found = guess([{"bytes": None, "path": "a.flac"}, None], kind=STORED)
    assert (found.kind, found.filled) == ("audio", 1)


def test_lists_of_files_are_of_the_kind_of_the_files():
    for cells in ([["a.png", "b.png"], ["", "c.png"]], [[png(), None]], [[{"bytes": png(), "path": None}] * 2]):
        found = guess(cells)
        assert (found.kind, found.files) == ("image", 2)
        assert found.why.startswith("its cells are lists of up to 2 files; of these its cells")
    assert guess(["a.png"]).files == 1


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([datetime.date(2020, 1, 1)], "date32"),
        ([["a", "b"], ["c"]], "lists of up to 2 texts; a cell holds one text. Write a row for each"),
        ([[b"\x80\x04\x95pickle"]], "lists of up to 1 files of no kind"),
        ([[{"a": 1}]], "something else than numbers"),
        ([b"\x80\x04\x95pickle"], "bytes of no kind"),
        ([{"a": 1}], "struct"),
        ([[[[1]]]], "arrays such as (1, 1, 1)"),
    ],
)
def test_what_fits_no_kind_is_said(cells, why):
    assert why in guess(cells)


def test_array_files_are_opened(tmp_path):
    for i in range(3):
        write(tmp_path / f"v{i}.npy", npy(np.zeros(5)))
        write(tmp_path / f"s{i}.npy", npy(np.zeros((i + 1, 7))))
        np.savez(tmp_path / f"z{i}.npz", only=np.zeros(4))
        np.savez(tmp_path / f"two{i}.npz", one=np.zeros(4), two=np.zeros(4))
    assert (guess(["v0.npy", "v1.npy"], tmp_path).kind, guess(["v0.npy"], tmp_path).dim) == ("vector", 5)
    found = guess(["s0.npy", "s2.npy"], tmp_path)
    assert (found.kind, found.dim) == ("sequence", 7)
    assert found.why == "its cells end in .npy, which hold sequences of 1 to 3 steps with 7 numbers each"
    assert guess(["z0.npz"], tmp_path).dim == 4
    assert "none of 1 could be opened" in guess(["two0.npz"], tmp_path).why
    assert "none of 1 could be opened" in guess(["gone.npy"], tmp_path).why
    assert "none of 1 could be opened" in guess(["../v0.npy"], tmp_path).why


def test_a_pickle_is_not_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "fired"), "w"))

    np.save(tmp_path / "a.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    assert "none of 1 could be opened" in guess(["a.npy"], tmp_path).why
    assert not (tmp_path / "fired").exists()


def test_a_few_broken_cells_do_not_change_what_a_column_is():
    found = guess([f"{i}.png" for i in range(99)] + ["missing"])
    assert found.kind == "image"
    assert found.why.startswith("99% of 100")
    found = guess([[1.0, 2.0]] * 7 + [[1.0]])
    assert (found.kind, found.dim) == ("vector", 2)


def test_every_filled_cell_is_counted():
    assert guess(["a.png", ""] * 1000).filled == 1000
    assert guess([None, None]).filled == 0


def test_content_decides_where_there_is_a_file(tmp_path):
    for i in range(3):
        for name in (f"{i}", f"{i}.dat", f"{i}.wav", f"a::{i}.png"):
            write(tmp_path / name, png(i))
        write(tmp_path / f"{i}.jpg", "<!DOCTYPE html>")  # damaged: the suffix still tells what it should be
        write(tmp_path / f"{i}.mp4", b"\0\0\0 ftypM4A ")  # a sound in a container of films, or not: the suffix tells
    kinds = {
        form: guess([form.format(i) for i in range(3)], tmp_path).kind
        for form in ("{}", "{}.dat", "{}.wav", "a::{}.png", "{}.jpg", "{}.mp4", "thing {}")
    }
    assert kinds == {
        **dict.fromkeys(["{}", "{}.dat", "{}.wav", "a::{}.png", "{}.jpg"], "image"),
        "{}.mp4": "video",
        "thing {}": "text",
    }
    assert guess(["0", *"abcdefgh"], tmp_path).kind == "text"  # one word that happens to be a file's name


def test_files_in_base64_are_no_texts():
    plain = [base64.b64encode(png(i)).decode() for i in range(3)]
    assert guess(plain).kind == guess([f"data:image/png;base64,{one}" for one in plain]).kind == "image"
    assert "in base64 or as data: URIs" in guess(plain).why


def test_addresses_without_a_suffix_are_no_texts():
    assert "no suffix tells what they hold" in guess([f"https://a.org/{i}" for i in range(3)])
    assert guess([f"https://a.org/{i}.jpg?w=200" for i in range(3)]).kind == "image"


def test_a_format_that_is_not_read_is_said_at_once():
    assert guess(["a.wma", "b.wma"]).why.endswith(".wma is not read: convert it: ffmpeg -i a.wma a.flac")


def test_roles_are_no_modalities():
    table = pa.table({name: ["a"] for name in ("id", "label", "split", "group", "say")})
    assert list(guess_columns(Manifest("/data/clips.csv", "/data", table))) == ["say"]
