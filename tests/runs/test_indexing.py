"""`confu index` as a function: what comes into an index, in one write, and what is said of wrong input."""

import json
import os
import shutil
from datetime import datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from confu.index import Index
from confu.inference import load
from confu.plan import pairwise_plan
from confu.runs import EmbedOptions, IndexOptions, index_manifest, indexing
from confu.runs.indexing import check_fresh, remove_items
from inference.parts import items, run_folder, without

N = 23
LACKING = {"text": {0, 5, 6}, "sensor": {2, 3, 5, 22}, "steps": {4, 5}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_folder(tmp_path_factory.mktemp("runs") / "birds")


def write_manifest(folder: Path, start: int = 0, n: int = N, **changes) -> Path:
    """Row 5 has nothing; the sensor of row 1 lies in a file, those of the others in the table."""
    sources = without(items(n), LACKING)
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "id": [f"row{start + row}" for row in range(n)],
        "label": ["fish" if row % 2 else None for row in range(n)],
        "split": ["train", "val"][:1] * n,
        "sensor": sources["sensor"],
        "steps": sources["steps"],
        "caption": sources["text"],
        "year": pa.array([None if row == 7 else 2000 + row for row in range(n)], pa.int32()),
        "site": ["" if row == 7 else "north" for row in range(n)],
        "when": [datetime(2024, 1, 1 + row) for row in range(n)],
        "boxes": [[1, 2]] * n,
        **changes,
    }
    columns = {name: column for name, column in columns.items() if column is not None}
    pq.write_table(pa.table(columns), folder / "clips.parquet")
    return folder / "clips.parquet"


def made(run: Path, manifest: Path, out: Path, **options) -> indexing.Indexed:
    stored = {name: options.pop(name) for name in ("metadata", "backend", "options", "replace") if name in options}
    embed = EmbedOptions(**{"workers": 1, "device": "cpu", **options})
    return index_manifest(run, manifest, out, IndexOptions(**stored), embed, progress=False)


def test_every_row_is_found_by_every_subset_that_it_has(run, tmp_path):
    done = made(run, write_manifest(tmp_path), tmp_path / "index")
    model, sources = load(run), without(items(N), LACKING)
    assert (done.added, done.replaced, done.skipped, done.empty, done.items) == (N - 1, 0, 0, 1, N - 1)
    assert done.subsets == model.subsets and done.metadata == ("label", "split", "year", "site", "when", "boxes")
    with Index.open(tmp_path / "index") as index:
        assert index.verify() == [] and list(index.ids()) == [f"row{row}" for row in range(N) if row != 5]
        assert index.about.fingerprint == model.parts.fingerprint() and index.about.model == str(run)
        assert index.about.kinds == {"sensor": "vector", "steps": "sequence", "text": "text"}
        for subset in model.subsets:
            rows = [row for row in range(N) if not any(row in LACKING[name] for name in subset)]
            alone = model.encode({name: [sources[name][row] for row in rows] for name in subset})
            stored = index.fetch([f"row{row}" for row in rows]).table
            assert bool(stored.complete[subset].all())
            torch.testing.assert_close(stored[subset], alone.vectors, atol=1e-6, rtol=0)
            assert index.search(alone, subset, 1)[3][0].id == f"row{rows[3]}" or subset == {"text"}  # texts repeat
        assert not bool(index.fetch(["row4"]).table.complete[model.subsets[1]][0])
        item = index.get("row8")
        assert item.metadata == {
            "label": None, "split": "train", "year": 2008, "site": "north", "when": datetime(2024, 1, 9),
            "boxes": [1, 2],
        }  # fmt: skip
        assert index.get("row7").metadata["year"] is None and index.get("row7").metadata["site"] is None
        assert item.media["text"] == sources["text"][8]
        file = tmp_path / "index" / item.media["sensor"]
        np.testing.assert_allclose(np.load(file), sources["sensor"][8], rtol=1e-6)
        assert item.media["sensor"].startswith("media/") and item.media["sensor"].endswith(".npy")
        asked = index.search(model.encode(text=["a red bird"]), "sensor+steps", 50, ["year >= 2010", "label == fish"])
        assert {hit.id for hit in asked[0]} == {f"row{row}" for row in (11, 13, 15, 17, 19, 21)}
    assert not (tmp_path / "index" / ".embedding").exists()


@pytest.mark.parametrize("bad", [[0], [N - 1], range(0, N, 2), range(N)], ids=["first", "last", "half", "all"])
def test_vectors_keep_their_ids_whatever_rows_are_bad(bad, run, tmp_path):
    sensors = [[1.0] if row in bad else sensor for row, sensor in enumerate(items(N)["sensor"])]
    manifest = write_manifest(tmp_path, sensor=sensors)
    kept = [row for row in range(N) if row not in bad]
    done = made(run, manifest, tmp_path / "index", on_error="skip")
    assert (done.added, done.skipped) == (len(kept), len(bad))
    with Index.open(tmp_path / "index") as index:
        assert list(index.ids()) == [f"row{row}" for row in kept]
        if kept:
            alone = load(run).encode(sensor=[sensors[row] for row in kept])
            stored = index.fetch([f"row{row}" for row in kept]).table
            torch.testing.assert_close(stored["sensor"], alone.vectors, atol=1e-6, rtol=0)


def test_files_stay_and_stored_pictures_get_one(run, tmp_path):
    write_manifest(tmp_path, sensor=None, n=3)
    np.save(tmp_path / "a.npy", np.ones(6, np.float32))
    manifest = write_manifest(tmp_path, n=3, sensor=["a.npy", "a.npy", None])
    made(run, manifest, tmp_path / "index", subsets=["sensor"], metadata=["year"])
    with Index.open(tmp_path / "index") as index:
        assert index.get("row0").media == {"sensor": str(tmp_path / "a.npy")} and len(index) == 2
        assert index.schema.names == ["year"] and [str(one) for one in index.subsets] == ["sensor"]
    png = b"\x89PNG\r\n\x1a\n" + bytes(20)
    first = indexing.media_text(png, "image", tmp_path / "index")
    assert first == indexing.media_text(png, "image", tmp_path / "index") and first.endswith(".png")
    assert (tmp_path / "index" / first).read_bytes() == png
    assert indexing.media_text(1.5, "number", tmp_path) == "1.5"


def test_rows_are_added_to_an_index_and_replaced_in_it(run, tmp_path, monkeypatch):
    made(run, write_manifest(tmp_path / "a"), tmp_path / "index")
    with pytest.raises(ValueError, match=r"22 of the 23 rows of .* are in .* already, 'row0' the first; replace them"):
        made(run, write_manifest(tmp_path / "a"), tmp_path / "index")
    with monkeypatch.context() as patched:  # nothing is embedded before
        patched.setattr(indexing, "embed_manifest", None)
        with pytest.raises(ValueError, match="metadata column 'site' holds string in the index and bool in the new"):
            made(run, write_manifest(tmp_path / "a", site=[True] * N), tmp_path / "index", replace=True)
    again = made(run, write_manifest(tmp_path / "a", site=["south"] * N), tmp_path / "index", replace=True)
    assert (again.added, again.replaced, again.items) == (0, N - 1, N - 1)
    more = made(run, write_manifest(tmp_path / "b", start=100, steps=None), tmp_path / "index")
    assert more.without == ("steps",) and (more.empty, more.items) == (1, 2 * N - 2)
    with Index.open(tmp_path / "index") as index:
        assert index.verify() == [] and index.get("row3").metadata["site"] == "south"
        assert [one["rows"] for one in index.about.source["manifests"]] == [N, N]
    assert remove_items(tmp_path / "index", ["row3", "nobody"]) == 1
    assert check_fresh(tmp_path / "index") == []


def test_a_stale_index_says_what_has_changed(run, tmp_path):
    own = tmp_path / "run"
    shutil.copytree(run, own)
    made(own, write_manifest(tmp_path), tmp_path / "index")
    write_manifest(tmp_path, year=[1] * N)
    assert "clips.parquet has changed (23 rows then, 23 now)" in check_fresh(tmp_path / "index")[0]
    shutil.rmtree(own)
    (tmp_path / "clips.parquet").unlink()
    stale = check_fresh(tmp_path / "index")
    assert len(stale) == 2 and "cannot be had" in stale[0] and "no such file" in stale[1]
    run_folder(own, pairwise_plan(("sensor", "text")))
    assert "trained further or replaced" in check_fresh(tmp_path / "index")[0]


def test_an_index_of_another_model_is_refused(run, tmp_path):
    made(run, write_manifest(tmp_path), tmp_path / "index")
    other = run_folder(tmp_path / "other", pairwise_plan(("sensor", "text")))
    with pytest.raises(ValueError, match=r"is an index of another model \(.*birds\); what .*other embeds cannot"):
        made(other, write_manifest(tmp_path, start=50), tmp_path / "index")
    with pytest.raises(ValueError, match="is kept in the backend 'exact'; for 'faiss' make a new index"):
        made(run, write_manifest(tmp_path, start=50), tmp_path / "index", backend="faiss")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metadata": ["yaer"]}, "metadata column 'yaer' is not known; did you mean 'year'"),
        ({"metadata": ["steps"]}, "'steps' holds .*list<.*>; expected one text, number, boolean, date, time or"),
        ({"subsets": ["smell"]}, "the model does not embed smell"),
        ({"columns": {"text": "words"}}, "column 'words' is not known"),
        ({"backend": "fais"}, "backend 'fais' is not known; did you mean 'faiss'"),
    ],
)
def test_wrong_wishes_are_refused_before_anything_is_embedded(run, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        made(run, write_manifest(tmp_path), tmp_path / "index", **options)
    assert not (tmp_path / "index").exists()


def test_metadata_of_every_type_is_kept_or_named(run, tmp_path):
    """Refused is what cannot be kept before anything is embedded."""
    some = {
        "clock": pa.array([time(12, 30), None, time(1)]),
        "lasts": pa.array([timedelta(seconds=90), timedelta(milliseconds=1), None]),
        "price": pa.array([Decimal("0.10"), Decimal("12345678.25"), None]),
        "place": [{"lat": 1.5, "name": "here"}, None, {"lat": None, "name": "there"}],
        "kind": pa.array(["bird", None, "bat"]).dictionary_encode(),
        "serial": pa.array([2**63 - 1, 0, None], pa.uint64()),
        "half": pa.array(np.array([0.5, 1, np.nan], np.float16)),
        "boxes": [["red", "big"], [], None],
    }
    manifest = write_manifest(tmp_path, n=3, raw=[b"a", b"b", b"c"], **some)
    with pytest.warns(
        UserWarning, match=r"clips.parquet: raw \(.*binary\): not in the index, whose metadata is one text"
    ):
        done = made(run, manifest, tmp_path / "index")
    assert {"clock", "place.lat", "place.name"} < set(done.metadata) and "raw" not in done.metadata
    with Index.open(tmp_path / "index") as index:
        kept = index.get("row0").metadata
        expected = {
            "clock": time(12, 30), "lasts": 90.0, "price": 0.1, "place.lat": 1.5, "place.name": "here", "kind": "bird",
            "serial": 2**63 - 1, "half": 0.5, "boxes": ["red", "big"],
        }  # fmt: skip
        assert {name: kept[name] for name in expected} == expected
        assert {index.get("row2").metadata[name] for name in expected} == {time(1), "there", "bat", None}
        where = "clock < 02:00 or place.lat = 1.5 and boxes contains red and serial >= 9223372036854775807"
        found = index.search(torch.ones(index.dim), "sensor", 9, where)[0]
        assert {hit.id for hit in found} <= {"row0", "row2"} and found
    manifest = write_manifest(tmp_path, n=3, serial=pa.array([2**63, 0, 1], pa.uint64()))
    with pytest.raises(
        ValueError, match=r"clips.parquet: metadata column 'serial' of uint64 cannot be stored .*a column"
    ):
        made(run, manifest, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert made(run, manifest, tmp_path / "other", metadata=["year"]).metadata == ("year",)


def test_rows_that_cannot_be_read_stop_it_or_are_listed(run, tmp_path):
    sensors = [*items(N)["sensor"][:-1], [1.0]]
    with pytest.raises(ValueError, match=r"row 22 \(id row22\), column 'sensor'"):
        made(run, write_manifest(tmp_path, sensor=sensors), tmp_path / "index")
    assert not (tmp_path / "index" / "index.json").exists()
    done = made(run, write_manifest(tmp_path, sensor=sensors), tmp_path / "index", on_error="skip")
    assert (done.skipped, done.items) == (1, N - 1) and "row22" in (tmp_path / "index" / "skipped.csv").read_text()


@pytest.mark.parametrize("moment", ["embed_manifest", "add_parts", "rmtree"])
def test_a_killed_command_goes_on(run, tmp_path, monkeypatch, moment):
    """The process ends, as if killed, after it has embedded, in the middle of the write, and after it."""
    manifest, out = write_manifest(tmp_path), tmp_path / "index"
    made(run, write_manifest(tmp_path / "first", start=500, n=4), out)
    if not (child := os.fork()):
        torch.set_num_threads(1)
        if moment == "add_parts":
            items_of_shards = indexing.items_of_shards

            def part(*given):
                yield next(items_of_shards(*given))
                os._exit(9)

            monkeypatch.setattr(indexing, "items_of_shards", part)
        elif moment == "embed_manifest":
            inner = indexing.embed_manifest
            monkeypatch.setattr(indexing, "embed_manifest", lambda *a, **b: (inner(*a, **b), os._exit(9)))
        else:
            monkeypatch.setattr(indexing.shutil, "rmtree", lambda *a, **b: os._exit(9))
        try:
            made(run, manifest, out)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    before = Index.open(out)
    assert len(before) == (4 + N - 1 if moment == "rmtree" else 4) and before.verify() == []
    (shard,) = out.glob(".embedding/*/part-00000.parquet")
    at = shard.stat().st_mtime_ns
    monkeypatch.setattr(indexing, "_keep_skipped", lambda work, folder: _same_time(work, at))
    done = made(run, manifest, out)
    assert done.items == 4 + N - 1 and not (out / ".embedding").exists()
    assert before.refresh() and len(before) == 4 + N - 1 and before.verify() == []


def _same_time(work: Path, at: int) -> None:
    assert (work / "part-00000.parquet").stat().st_mtime_ns == at  # not embedded a second time


def test_what_was_left_of_other_work_is_removed(run, tmp_path):
    left = tmp_path / "index" / ".embedding" / "0123"
    left.mkdir(parents=True)
    (left / "embed.json").write_text(json.dumps({}))
    made(run, write_manifest(tmp_path), tmp_path / "index")
    assert not left.exists()
