"""Embedding a manifest: shards that can be made by any number of processes, killed, and gone on with."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from confu.embeddings import EmbeddingTable
from confu.inference import load, load_shards
from confu.plan import pairwise_plan
from confu.runs import EmbedOptions, embed_manifest
from inference.parts import NAMES, items, run_folder, without

N = 23
LACKING = {"text": {0, 5, 6}, "sensor": {2, 3, 5, 22}, "steps": {4, 5}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_folder(tmp_path_factory.mktemp("runs") / "birds")


def rows(n: int = N) -> dict[str, list]:
    """Cells with gaps; sensor is a file in some rows."""
    return without(items(n), LACKING)


def write_manifest(folder: Path, n: int = N, files: bool = False, **changes) -> Path:
    sources = rows(n)
    sensor = sources["sensor"]
    if files:
        for row, vector in enumerate(sensor):
            if vector is not None:
                np.save(folder / f"{row}.npy", np.array(vector, dtype=np.float32))
        sensor = [None if vector is None else f"{row}.npy" for row, vector in enumerate(sensor)]
    columns = {
        "id": [f"row{row}" for row in range(n)],
        "label": [("fish", "bird", "dog")[row % 3] for row in range(n)],
        "sensor": sensor,
        "steps": sources["steps"],
        "caption": sources["text"],
        **changes,
    }
    pq.write_table(
        pa.table({name: column for name, column in columns.items() if column is not None}), folder / "clips.parquet"
    )
    return folder / "clips.parquet"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_row_gets_every_subset_that_it_is_complete_for(run, tmp_path):
    done = embed_manifest(run, write_manifest(tmp_path), tmp_path / "out", shard_rows=5, batch_size=3, progress=False)
    table, made, sources = load_shards(done.folder), load(run), rows()
    assert table.ids == tuple(f"row{row}" for row in range(N))
    assert (done.shards, done.written, done.left, done.skipped) == (5, 5, 0, 0)
    assert done.columns == {"sensor": "sensor", "steps": "steps", "text": "caption"} and done.without == ()
    assert table.subsets == done.subsets == made.subsets
    assert table.model == "birds" and table.plan == json.dumps(made.model.plan.to_dict())
    for subset in made.subsets:
        has = torch.tensor([not any(row in LACKING[name] for name in subset) for row in range(N)])
        assert torch.equal(table.complete[subset], has)
        alone = made.encode({name: [sources[name][row] for row in has.nonzero().flatten()] for name in subset})
        torch.testing.assert_close(table[subset][has], alone.vectors, atol=1e-6, rtol=0)
    assert EmbeddingTable.load(done.folder / "part-00004.parquet").ids == ("row20", "row21", "row22")
    settings = json.loads((done.folder / "embed.json").read_text())
    assert settings["class_names"] == ["bird", "fish", "cat", "dog"]  # the model's, then what is new
    assert table.labels[:4].tolist() == [1, 0, 3, 1]


def test_two_processes_write_the_same_bytes_as_one(run, tmp_path):
    manifest = write_manifest(tmp_path, files=True)
    embed_manifest(run, manifest, tmp_path / "one", shard_rows=4, progress=False)
    children = []
    for rank in range(2):
        if not (child := os.fork()):
            os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
            torch.set_num_threads(2)  # whatever a process has; threads= decides
            try:
                done = embed_manifest(run, manifest, tmp_path / "two", shard_rows=4, workers=2, progress=False)
                os._exit(done.written)
            finally:
                os._exit(255)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [3, 3]
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_processes_take_turns_and_the_last_one_gathers(run, tmp_path, monkeypatch):
    manifest = write_manifest(tmp_path, caption=["a bird", " ", *["a cat"] * (N - 2)])
    options = {"shard_rows": 4, "on_error": "skip", "progress": False}
    embed_manifest(run, manifest, tmp_path / "one", **options)
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank, shards, left in ((2, 2, 4), (0, 2, 2), (1, 2, 0)):
        monkeypatch.setenv("RANK", str(rank))
        done = embed_manifest(run, manifest, tmp_path / "three", **options)
        assert (done.written, done.left, done.skipped) == (shards, left, 1 if left == 0 else None)
    assert contents(tmp_path / "three") == contents(tmp_path / "one")
    for rank, count in (("2", "2"), ("-1", "2"), ("a", "2")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", count)
        with pytest.raises(ValueError, match="0 <= RANK < WORLD_SIZE in the environment; got"):
            embed_manifest(run, manifest, tmp_path / "three", **options)


def test_it_goes_on_where_it_was_killed(run, tmp_path, monkeypatch):
    manifest, out = write_manifest(tmp_path), tmp_path / "out"
    embed_manifest(run, manifest, tmp_path / "whole", shard_rows=5, progress=False)
    save = EmbeddingTable.save

    def killed(table, path):
        if path.name == "part-00002.parquet":
            raise KeyboardInterrupt
        save(table, path)

    monkeypatch.setattr(EmbeddingTable, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        embed_manifest(run, manifest, out, shard_rows=5, progress=False)
    monkeypatch.setattr(EmbeddingTable, "save", save)
    before = {name: (out / name).stat().st_mtime_ns for name in contents(out)}
    assert set(before) == {"embed.json", "part-00000.parquet", "part-00001.parquet"}
    done = embed_manifest(run, manifest, out, shard_rows=5, progress=True)
    assert done.written == 3 and {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert contents(out) == contents(tmp_path / "whole")
    assert embed_manifest(run, manifest, out, shard_rows=5, progress=False).written == 0


def test_shards_of_something_else_are_not_mixed(run, tmp_path):
    manifest, out = write_manifest(tmp_path), tmp_path / "out"
    embed_manifest(run, manifest, out, shard_rows=10, progress=False)
    kept = contents(out)
    for change, what in (
        ({"shard_rows": 9}, "shard_rows is 10 there and 9 here"),
        ({"subsets": ["text"]}, "subsets is "),
        ({"columns": {"sensor": "sensor", "text": "caption"}, "subsets": ["text+sensor"]}, "columns is "),
    ):
        with pytest.raises(ValueError, match=f"made otherwise: .*{what}"):
            embed_manifest(run, manifest, out, **{"shard_rows": 10, "progress": False, **change})
    write_manifest(tmp_path, caption=["another text"] * N)
    with pytest.raises(ValueError, match="made otherwise: manifest is "):
        embed_manifest(run, manifest, out, shard_rows=10, progress=False)
    write_manifest(tmp_path)
    with pytest.raises(ValueError, match="made otherwise: model is "):
        embed_manifest(run_folder(tmp_path / "b", pairwise_plan(NAMES)), manifest, out, shard_rows=10, progress=False)
    assert contents(out) == kept


def test_broken_rows_stop_it_or_are_set_aside_and_listed(run, tmp_path):
    manifest, out = write_manifest(tmp_path, files=True), tmp_path / "out"
    (tmp_path / "8.npy").write_bytes(b"nonsense")
    (tmp_path / "16.npy").unlink()
    table = pq.read_table(manifest).to_pydict()
    table["sensor"][20], table["caption"][8] = "../secret.npy", " "
    pq.write_table(pa.table(table), manifest)
    with pytest.raises(
        ValueError, match=r"^row 8 \(id row8\), column 'sensor': .*8.npy.*--on-error skip; the shards that are"
    ):
        embed_manifest(run, manifest, out, shard_rows=5, progress=False)
    assert (out / "part-00000.parquet").exists() and not (out / "part-00001.parquet").exists()
    done = embed_manifest(run, manifest, out, shard_rows=5, on_error="skip", progress=False)
    assert (done.written, done.skipped) == (4, 3)
    found = load_shards(out)
    assert found.ids == tuple(f"row{row}" for row in range(N) if row not in (8, 16, 20))
    assert found.labels.tolist() == [(1, 0, 3)[row % 3] for row in range(N) if row not in (8, 16, 20)]
    with (out / "skipped.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["id"], line["column"]) for line in lines] == [
        ("8", "row8", "sensor"), ("8", "row8", "caption"), ("16", "row16", "sensor"), ("20", "row20", "sensor")
    ]  # fmt: skip
    assert "leaves the manifest's folder" in lines[3]["what"] and lines[2]["source"].endswith("16.npy")


def test_a_full_disk_keeps_the_shards_that_are_done(run, tmp_path, monkeypatch):
    manifest, out = write_manifest(tmp_path), tmp_path / "out"
    save = EmbeddingTable.save

    def full(table, path):
        if path.name == "part-00001.parquet":
            raise OSError(28, "No space left on device")
        save(table, path)

    monkeypatch.setattr(EmbeddingTable, "save", full)
    with pytest.raises(
        ValueError, match=r"part-00001.parquet cannot be written .*No space left.*run the same command again"
    ):
        embed_manifest(run, manifest, out, shard_rows=5, progress=False)
    assert set(contents(out)) == {"embed.json", "part-00000.parquet"}


def test_columns_and_subsets_are_chosen_and_checked(run, tmp_path):
    manifest = write_manifest(tmp_path, label=None, steps=None)
    done = embed_manifest(run, manifest, tmp_path / "a", progress=False)
    assert list(map(str, done.subsets)) == ["sensor", "text", "sensor+text"] and done.without == ("steps",)
    assert load_shards(tmp_path / "a").labels is None
    renamed = write_manifest(tmp_path, caption=None, words=rows()["text"])
    options = EmbedOptions(subsets=["text+sensor"], columns={"text": "words"})
    done = embed_manifest(run, renamed, tmp_path / "b", options, progress=False)
    assert list(map(str, load_shards(done.folder).subsets)) == ["sensor+text"]
    for options, match in (
        ({"subsets": ["text"]}, "the manifest has no column for text, which text needs"),
        ({"subsets": ["sensor+steps+text"]}, r"the model does not embed sensor\+steps\+text; it embeds sensor, steps"),
        ({"columns": {"txet": "words"}}, "modality 'txet' is not known; did you mean 'text'"),
        ({"columns": {"text": "wrods"}}, "column 'wrods' is not known; did you mean 'words'"),
        ({"on_error": "ignore"}, "on_error 'ignore' is not known"),
        ({"shard_rows": 0}, "shard_rows must be a whole number of at least 1; got 0"),
    ):
        with pytest.raises(ValueError, match=match):
            embed_manifest(run, renamed, tmp_path / "c", progress=False, **options)
    other = write_manifest(tmp_path, caption=None, sensor=None, steps=None, photo=["a.png"] * N)
    with pytest.raises(
        ValueError, match=r"none of the columns sensor, steps, caption .* only photo; .*--column sensor=photo"
    ):
        embed_manifest(run, other, tmp_path / "c", progress=False)


def test_ids_that_stand_twice_and_empty_manifests_are_refused(run, tmp_path):
    twice = write_manifest(tmp_path, id=["a", *[f"r{row}" for row in range(N - 2)], "a"])
    with pytest.raises(ValueError, match="rows 0 and 22 have the same id 'a'"):
        embed_manifest(run, twice, tmp_path / "out", progress=False)
    pq.write_table(pq.read_table(twice).slice(0, 0), twice)
    with pytest.raises(ValueError, match="holds no rows"):
        embed_manifest(run, twice, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_flat_model_folder_knows_its_columns_too(run, tmp_path):
    load(run).save_pretrained(tmp_path / "flat")
    manifest = write_manifest(tmp_path)
    embed_manifest(run, manifest, tmp_path / "a" / "birds", progress=False)
    embed_manifest(tmp_path / "flat", manifest, tmp_path / "b", progress=False)
    first, second = load_shards(tmp_path / "a" / "birds"), load_shards(tmp_path / "b")
    assert all(torch.equal(first[subset], second[subset]) for subset in first.subsets)


@pytest.mark.parametrize(
    "bad", [[0], [11], [N - 1], range(0, N, 2), range(N)], ids=["first", "middle", "last", "half", "all"]
)
def test_ids_keep_their_vectors_whatever_rows_are_bad(run, tmp_path, bad):
    options = {"shard_rows": 5, "progress": False}
    embed_manifest(run, write_manifest(tmp_path), tmp_path / "whole", **options)
    sensors = [[1.0] if row in bad else vector for row, vector in enumerate(rows()["sensor"])]
    manifest = write_manifest(tmp_path, sensor=sensors)
    assert embed_manifest(run, manifest, tmp_path / "out", on_error="skip", **options).skipped == len(bad)
    whole, found = load_shards(tmp_path / "whole"), load_shards(tmp_path / "out")
    kept = [row for row in range(N) if row not in bad]
    assert found.ids == tuple(f"row{row}" for row in kept)
    for subset in whole.subsets if kept else ():
        assert torch.equal(found.complete[subset], whole.complete[subset][kept])
        complete = found.complete[subset]
        torch.testing.assert_close(found[subset][complete], whole[subset][kept][complete], atol=1e-6, rtol=0)
