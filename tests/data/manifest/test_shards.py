"""Tables of several files: shards in a folder, patterns, and folders of `datasets.save_to_disk`."""

import io
import json
import sys
from typing import ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from confu.data.manifest import read_manifest

from .stand_ins import write

CLASSES = {"_type": "ClassLabel", "names": ["cat", "dog"]}


def write_arrow(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def hugging_face(columns, **features):
    info = json.dumps({"info": {"features": features}})
    return pa.table(columns).replace_schema_metadata({"huggingface": info})


def save_to_disk(folder, *tables):
    names = [f"data-{number:05}-of-{len(tables):05}.arrow" for number in range(len(tables))]
    for name, table in zip(names, tables):
        write_arrow(folder / name, table)
    write(folder / "state.json", json.dumps({"_data_files": [{"filename": name} for name in names]}))
    write(folder / "dataset_info.json", "{}")


@pytest.mark.parametrize(
    "names", [["part-0", "part-1"], ["train-00000-of-00002", "train-00001-of-00002"], ["clips_1", "clips_2"]]
)
def test_numbered_files_are_one_table_in_their_order(tmp_path, names):
    for number, name in enumerate(names):
        pq.write_table(
            pa.table({"id": [f"{number}a", f"{number}b"], "n": [number, None]}), tmp_path / f"{name}.parquet"
        )
    clips = read_manifest(tmp_path)
    assert clips.ids == ["0a", "0b", "1a", "1b"]
    assert clips.sources("n", "number") == [0, None, 1, None]
    assert clips.base == str(tmp_path)
    assert clips.splits is None  # one split is none


def test_files_named_by_their_split_say_it(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "val-00000-of-00001", "test"):
        pq.write_table(pa.table({"say": [name]}), tmp_path / f"{name}.parquet")
    clips = read_manifest(tmp_path)
    assert dict(zip(clips.sources("say", "text"), clips.splits)) == {
        "train-00000-of-00002": "train",
        "train-00001-of-00002": "train",
        "val-00000-of-00001": "validation",
        "test": "test",
    }


def test_a_pattern_reads_the_files_it_fits(tmp_path):
    for name in ("a/x.csv", "a/y.csv", "b/z.csv"):
        write(tmp_path / name, f"id,photo\n{name},{name[2]}.png\n")
    assert read_manifest(tmp_path / "a" / "*.csv").ids == ["a/x.csv", "a/y.csv"]
    clips = read_manifest(tmp_path / "*" / "*.csv")
    assert clips.ids == ["a/x.csv", "a/y.csv", "b/z.csv"]
    assert clips.sources("photo", "image")[0] == str(tmp_path / "x.png")
    with pytest.raises(ValueError, match="no file fits this pattern"):
        read_manifest(tmp_path / "*.parquet")


def test_other_tables_of_a_folder_are_not_joined(tmp_path):
    for name in ("clips.csv", "about.csv"):
        write(tmp_path / name, "id,say\n1,a\n")
    with pytest.raises(ValueError, match=r"several manifests, about.csv, clips.csv; name the one.*\*\.csv"):
        read_manifest(tmp_path)


def test_shards_with_other_columns_are_named(tmp_path):
    write(tmp_path / "part-0.csv", "id,say\n1,a\n")
    write(tmp_path / "part-1.csv", "id,tell\n1,a\n")
    with pytest.raises(ValueError, match=r"part-0.csv and part-1.csv .* only one of them has the column 'say'"):
        read_manifest(tmp_path)
    write(tmp_path / "part-1.csv", "id,say\n1,3\n")
    with pytest.raises(ValueError, match=r"part-0.csv, part-1.csv do not make one table"):
        read_manifest(tmp_path)


def test_folders_of_save_to_disk_are_read(tmp_path):
    image = pa.array([{"bytes": None, "path": "a.png"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = hugging_face({"image": image, "label": [1], "tags": [[0, 1]]}, label=CLASSES, tags={"feature": CLASSES})
    save_to_disk(tmp_path / "one", table, table)
    clips = read_manifest(tmp_path / "one")
    assert clips.labels == ["dog", "dog"]
    assert clips.table["tags"].to_pylist() == [["cat", "dog"]] * 2
    assert clips.sources("image", "image") == [str(tmp_path / "one" / "a.png")] * 2
    save_to_disk(tmp_path / "both" / "train", table)
    save_to_disk(tmp_path / "both" / "test", table)
    write(tmp_path / "both" / "dataset_dict.json", json.dumps({"splits": ["train", "test"]}))
    assert read_manifest(tmp_path / "both").splits == ["train", "test"]


def test_saved_folders_may_name_no_file_elsewhere(tmp_path):
    write_arrow(tmp_path / "secret.arrow", pa.table({"say": ["a"]}))
    write(tmp_path / "data" / "state.json", json.dumps({"_data_files": [{"filename": "../secret.arrow"}]}))
    with pytest.raises(ValueError, match=r"expected names of files beside it; got '../secret.arrow'"):
        read_manifest(tmp_path / "data")
    write(tmp_path / "data" / "state.json", "{")
    with pytest.raises(ValueError, match=r"state.json: not what datasets.save_to_disk writes"):
        read_manifest(tmp_path / "data")


class HubFiles(MemoryFileSystem):
    """In place of the Hugging Face hub: files by their addresses there."""

    protocol = "hf"
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("hf://"))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "hf", HubFiles)
    HubFiles.store.clear()
    files = fsspec.filesystem("hf", skip_instance_cache=True)

    def put(*names):
        for number, name in enumerate(names):
            buffer = io.BytesIO()
            cells = {
                "photo": [{"bytes": f"{name} {row}".encode(), "path": None} for row in range(2)],
                "n": [number] * 2,
            }
            pq.write_table(pa.table(cells), buffer)
            files.pipe(f"/datasets/org/name/{name}", buffer.getvalue())
        files.pipe("/datasets/org/name/README.md", b"# A data set")

    yield put
    HubFiles.store.clear()


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["data/test-00000-of-00001.parquet", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
         ["test", "train", "train"]),
        (["default/train/0000.parquet", "default/validation/0000.parquet"], ["train", "validation"]),
        (["plain/0000.parquet", "plain/0001.parquet"], None),
    ],
)  # fmt: skip
def test_a_data_set_of_the_hub_is_read_by_its_name(hub, names, splits):
    hub(*names)
    clips = read_manifest("hf://datasets/org/name")
    assert clips.splits == (None if splits is None else [split for split in splits for _ in range(2)])
    assert clips.sources("photo", "image") == [f"{name} {row}".encode() for name in names for row in range(2)]


def test_several_configurations_of_the_hub_are_named(hub):
    hub("en/train-0.parquet", "en/test-0.parquet", "de/train-0.parquet")
    with pytest.raises(ValueError, match=r"configurations; name one of hf://datasets/org/name/de, hf://.*/name/en"):
        read_manifest("hf://datasets/org/name")
    assert read_manifest("hf://datasets/org/name/en").splits == ["test"] * 2 + ["train"] * 2


def test_what_the_hub_does_not_have_is_said(hub, monkeypatch):
    hub()
    with pytest.raises(
        ValueError, match=r"holds no table \(.parquet, .*name@refs/convert/parquet".replace("name", "NAME")
    ):
        read_manifest("hf://datasets/org/name")
    with pytest.raises(ValueError, match=r"hf://datasets/org/other: no such file or folder$"):
        read_manifest("hf://datasets/org/other")
    with pytest.raises(ValueError, match=r"no such file or folder; a data set of .* is named hf://datasets/org/name$"):
        read_manifest("org/name")

    def fail(*args, **options):
        raise RuntimeError("no network")

    monkeypatch.setattr(HubFiles, "isdir", fail)
    with pytest.raises(ValueError, match=r"hf://datasets/org/name: cannot be read \(RuntimeError: no network\)"):
        read_manifest("hf://datasets/org/name")
