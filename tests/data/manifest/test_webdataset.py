import io
import tarfile

import pytest

from confu.data.manifest import guess_columns, read_manifest

from .stand_ins import npy, png, tar_of, write


def read(tmp_path, members):
    return read_manifest(write(tmp_path / "clips.tar", tar_of(members)))


def test_a_key_is_a_row_and_a_suffix_a_column(tmp_path):
    picture = png()
    members = {
        "./a/1.png": picture,
        "./a/1.txt": "Zoë".encode(),
        "./a/1.cls": b"3\n",
        "./a/2.JPEG": b"jpeg",
        "./a/2.json": b'{"title": "two", "split": "val", "n": 5, "gone": null}',
        "./a/1.depth.png": b"depth",
        "./a/1.npy": npy([1.0, 2.0]),
        "./a/2.npy": npy([3.0, 4.0]),
        "./a/.DS_Store": b"",
        "./README": b"no suffix",
    }
    clips = read(tmp_path, members)
    assert clips.ids == ["a/1", "a/2"]
    assert clips.labels == ["3", None]
    assert clips.splits == [None, "validation"]
    assert clips.sources("image", "image") == [picture, b"jpeg"]
    assert clips.sources("text", "text") == ["Zoë", None]
    assert clips.sources("title", "text") == [None, "two"]
    assert clips.sources("n", "number") == [None, 5]
    assert clips.sources("depth", "image") == [b"depth", None]
    assert guess_columns(clips)["npy"].kind == "vector"
    assert guess_columns(clips)["npy"].dim == 2
    assert guess_columns(clips)["text"].kind == "text"


def test_members_of_a_key_need_not_follow_one_another(tmp_path):
    clips = read(tmp_path, {"1.wav": b"a", "2.wav": b"b", "1.txt": b"one", "2.txt": b"two"})
    assert clips.sources("text", "text") == ["one", "two"]


def test_nothing_is_unpacked(tmp_path):
    read(tmp_path, {"1.wav": b"a"})
    assert [path.name for path in tmp_path.iterdir()] == ["clips.tar"]


def test_a_text_that_is_no_utf8_does_not_stop_the_others(tmp_path):
    clips = read(tmp_path, {"1.txt": b"\xff", "2.txt": b"two"})
    assert clips.take([1]).sources("text", "text") == ["two"]
    with pytest.raises(ValueError, match=r"row 0 \(id 1\), column 'text': no text in UTF-8"):
        clips.sources("text", "text")


@pytest.mark.parametrize("name", ["../1.png", "/etc/1.png", "a/../../1.png", "a\\1.png"])
def test_members_with_unsafe_names_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"clips.tar: member .* has an unsafe name"):
        read(tmp_path, {name: b"x"})


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = kind, "/etc/hostname"
        tar.addfile(link)
    with pytest.raises(ValueError, match=r"'1.png' is a link or a device"):
        read_manifest(write(tmp_path / "clips.tar", content.getvalue()))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"1.png": b"a", "1.jpg": b"b"}, r"member 1.jpg: the row 1 has a 'image' already"),
        ({"1.txt": b"a", "1.json": b'{"text": "b"}'}, r"member 1.json: the row 1 has a 'text' already"),
        ({"1.json": b"[1]"}, r"member 1.json: expected a JSON object"),
        ({"1.json": b"{"}, r"member 1.json: no JSON"),
        ({"1.cls": b"\xff"}, r"member 1.cls: no text in UTF-8"),
        ({"1.json": b'{"n": 1}', "2.json": b'{"n": "x"}'}, "row 1, column 'n': expected a number as in row 0"),
        ({"README": b"x"}, "holds no rows"),
    ],
)
def test_a_broken_tar_is_named(tmp_path, members, message):
    with pytest.raises(ValueError, match=f"clips.tar: {message}"):
        read(tmp_path, members)


@pytest.mark.parametrize("keep", [700, 1500, 100])
def test_a_tar_that_was_cut_short_is_named(tmp_path, keep):
    whole = tar_of({"1.wav": b"a" * 1000, "2.wav": b"b" * 1000})
    with pytest.raises(ValueError, match=r"clips.tar: not readable as an uncompressed tar.*fetch the file again"):
        read_manifest(write(tmp_path / "clips.tar", whole[:keep]))
