from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from confu.data.manifest import Manifest, read_manifest

from .stand_ins import tar_of, write


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


def test_paths_are_relative_to_the_manifest(tmp_path, monkeypatch):
    write(tmp_path / "data" / "clips.csv", "photo\na/1.png\n")
    monkeypatch.chdir(tmp_path)
    clips = read_manifest("data/clips.csv")
    assert clips.address == str(tmp_path / "data" / "clips.csv")
    assert clips.base == str(tmp_path / "data")
    assert clips.sources("photo", "image") == [str(tmp_path / "data" / "a" / "1.png")]


@pytest.mark.parametrize("name", ["clips.csv", "clips.jsonl", "clips.tar"])
def test_any_file_system_is_read(memory, name):
    content = {
        "clips.csv": b"photo\na/1.png\n",
        "clips.jsonl": b'{"photo": "a/1.png"}',
        "clips.tar": tar_of({"1.json": b'{"photo": "a/1.png"}'}),
    }
    memory.pipe(f"/data/{name}", content[name])
    clips = read_manifest(f"memory://data/{name}")
    assert clips.sources("photo", "image") == ["memory://data/a/1.png"]
    memory.pipe("/data/a/1.png", b"x")
    assert fsspec.open(clips.sources("photo", "image")[0]).open().read() == b"x"


def test_a_remote_folder_of_class_folders_is_read(memory):
    for name in ("cat/1.png", "dog/2.png", "dog/.hidden.png"):
        memory.pipe(f"/data/{name}", b"x")
    clips = read_manifest("memory://data")
    assert clips.labels == ["cat", "dog"]
    assert clips.sources("image", "image") == ["memory://data/cat/1.png", "memory://data/dog/2.png"]


def test_a_folder_that_holds_one_manifest_is_that_manifest(tmp_path):
    write(tmp_path / "clips.csv", "say\nhello\n")
    write(tmp_path / "photos" / "1.png")
    assert read_manifest(tmp_path).address == str(tmp_path / "clips.csv")
    write(tmp_path / "more.jsonl", "{}")
    with pytest.raises(ValueError, match=r"several manifests, clips.csv, more.jsonl; name the one"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.csv", "no such file or folder"),
        ("notes.txt", "expected a manifest, .parquet.*got '.txt'"),
        ("empty", "no image, audio or video file"),
        ("nonsense://a.csv", "cannot be reached.*nonsense"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        read_manifest(name)


def test_a_path_outside_names_row_id_and_column(tmp_path):
    write(tmp_path / "clips.csv", "id,photo\na,1.png\nb,../2.png\n")
    with pytest.raises(ValueError, match=r"row 1 \(id b\), column 'photo': the path leaves .*'../2.png'"):
        read_manifest(tmp_path / "clips.csv").sources("photo", "image")
    clips = read_manifest(tmp_path / "clips.csv", allow_outside=True)
    assert Path(clips.take([1]).sources("photo", "image")[0]).resolve() == tmp_path.parent / "2.png"


def test_text_is_never_a_path(tmp_path):
    write(tmp_path / "clips.csv", "say\n../up\n")
    assert read_manifest(tmp_path / "clips.csv").sources("say", "text") == ["../up"]


def manifest(**columns):
    return Manifest("/data/clips.csv", "/data", pa.table(columns))


def test_rows_that_are_taken_keep_their_names():
    clips = manifest(say=["a", "b", "c"])
    assert clips.ids == ["0", "1", "2"]
    assert clips.take([2, 0]).ids == ["2", "0"]
    assert clips.take([2, 0]).take([1]).sources("say", "text") == ["a"]
    assert clips.take([2, 0]).columns == ("say",)
    assert len(clips.take([])) == 0


def test_an_unknown_column_or_kind_says_the_nearest():
    with pytest.raises(ValueError, match="'sya' is not known; did you mean 'say'"):
        manifest(say=["a"]).sources("sya", "text")
    with pytest.raises(ValueError, match="kind 'txt' is not known; did you mean 'text'"):
        manifest(say=["a"]).sources("say", "txt")


def test_without_roles_there_are_none():
    clips = manifest(say=["a"])
    assert clips.labels is clips.splits is clips.groups is None


@pytest.mark.parametrize(
    ("cell", "kind", "message"),
    [
        ("three", "number", "expected a number; got 'three'"),
        (float("inf"), "number", "finite"),
        (b"\xff", "text", "no text in UTF-8"),
        ([1.0], "text", "expected a text; got a list"),
    ],
)
def test_a_cell_of_another_kind_is_named(cell, kind, message):
    with pytest.raises(ValueError, match=rf"row 0 \(id 0\), column 'x': .*{message}"):
        manifest(x=[cell]).sources("x", kind)
