"""The exact store's own promises: ties, pieces, few files, whole writes, and damage that is found."""

import json
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.index import Index, Items, exact, scan, segments
from confu.index.segment_writing import hash_ids
from index.made import BOTH, DIM, IMAGE, TEXT, items, made, queries, same


@pytest.mark.parametrize("piece", [7, 64, 10_000])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("k", [1, 5, 300])
def test_a_scan_finds_the_best_of_those_allowed(monkeypatch, piece, share, k):
    monkeypatch.setattr(scan, "_PIECE", piece)
    generator = torch.Generator().manual_seed(3)
    vectors, asked = (torch.randint(-2, 3, (n, DIM), generator=generator).float() for n in (200, 5))  # many are tied
    allowed = torch.rand(200, generator=generator) < share
    found = scan.scan(asked, vectors, k, allowed.numpy())
    scores = (asked @ vectors.T)[:, allowed]
    expected = scores.sort(dim=1, descending=True, stable=True)
    assert torch.equal(found.rows, allowed.nonzero()[:, 0][expected.indices[:, :k]])
    assert torch.equal(found.scores, expected.values[:, :k])


def test_equal_scores_of_several_segments_are_found_in_the_order_of_the_items(tmp_path):
    index = made(tmp_path / "index")
    for part in range(3):
        ids = tuple(f"{part}{letter}" for letter in "abc")
        index.add(Items(EmbeddingTable(ids, {TEXT: torch.eye(DIM)[:1].repeat(3, 1)})))
    index.delete(["0b"])
    assert [hit.id for hit in index.search(torch.eye(DIM)[0], TEXT, 5)[0]] == ["0a", "0c", "1a", "1b", "1c"]


def test_ids_with_one_hash_are_told_apart(tmp_path, monkeypatch):
    from confu.index import incoming, segment_writing, snapshot

    def few(ids):
        return hash_ids(ids) % np.uint64(3)

    for module in (segment_writing, segments, snapshot, incoming):
        if hasattr(module, "hash_ids"):
            monkeypatch.setattr(module, "hash_ids", few)
    index = made(tmp_path / "index", items(30))
    assert index.get("id17").media["text"] == "bird 17" and index.delete(["id17", "id29"]) == 2
    with pytest.raises(KeyError):
        index.get("id17")


def test_many_small_writes_leave_few_files_and_the_order(tmp_path):
    index = made(tmp_path / "index")
    for number in range(34):
        index.add(items(1, start=number))
        if number % 9 == 5:
            index.delete([f"id{number - 1}"])
    left = [f"id{number}" for number in range(34) if number % 9 != 4]
    assert list(index.ids()) == left and index.verify() == []
    assert len(list((tmp_path / "index" / "segments").iterdir())) <= 16
    assert {hit.id for hit in index.search(queries()[0], TEXT, 100)[0]} == set(left)


def test_merging_starts_at_the_end_and_stops_before_what_is_larger():
    assert exact._crowded([1] * 15) == 15  # still few: none
    assert exact._crowded([1] * 16) == 0
    assert exact._crowded([1000] + [1] * 15) == 1
    assert exact._crowded([1 << 20 - n for n in range(16)]) == 14  # at least two


def test_vectors_are_memory_mapped_and_cannot_be_changed_through_the_map(tmp_path):
    index = made(tmp_path / "index", items(20))
    segment = index.backend.snapshot.parts[0].segment
    assert segment.vectors(TEXT).shape == (20, DIM) and segment.having(TEXT) is None
    assert segment.vectors(IMAGE).shape[0] == len(segment.having(IMAGE)) < 20
    assert "index" in Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else True
    segment.vectors(TEXT)[0] = 0.0
    assert index.verify() == []
    assert torch.equal(Index.open(tmp_path / "index").vector("id0", TEXT), items(20).table[TEXT][0])


def damage(folder: Path, name: str, how: str) -> None:
    file = next(folder.glob(f"segments/*/{name}"))
    content = file.read_bytes()
    match how:
        case "gone":
            file.unlink()
        case "short":
            file.write_bytes(content[:-5])
        case "changed":
            file.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])


@pytest.mark.parametrize("how", ["gone", "short", "changed"])
@pytest.mark.parametrize(
    "name", ["0.npy", "0.rows.npy", "1.npy", "items.arrow", "ids.npy", "ids.rows.npy", "segment.json", "deleted-*.npy"]
)
def test_damage_to_any_file_is_found(tmp_path, name, how):
    with made(tmp_path / "index", items(20)) as index:
        index.delete(["id4"])
        reader = Index.open(tmp_path / "index")
    damage(tmp_path / "index", name, how)
    wrong = reader.verify()
    said = {"gone": "is missing", "short": "were written|is not as it was", "changed": "is not as it was written"}[how]
    assert len(wrong) == 1 and any(one in wrong[0] for one in said.split("|")), wrong
    if how == "gone":
        with pytest.raises(ValueError, match=r"a file of the index is missing .*index again|not readable"):
            Index.open(tmp_path / "index")


def test_content_that_is_whole_but_wrong_is_found(tmp_path):
    index = made(tmp_path / "index")
    index.backend.add(Items(EmbeddingTable(("a", "b"), {TEXT: 2 * torch.eye(DIM)[:2]})))  # past the index's checks
    assert index.verify()[0].endswith("2 vectors of text have no length of 1, first 0")


@contextmanager
def small_files(most: int):
    """Every write beyond so many bytes of a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("most", [0, 100, 500, 2_000, 5_000, 20_000])
def test_nothing_is_lost_on_a_full_disk(tmp_path, most):
    index = made(tmp_path / "index", items(20), items(10, start=20))
    before, files = index.fetch(list(index.ids())), sorted((tmp_path / "index").rglob("*"))
    for write in (
        lambda: index.add(items(1000, seed=4, start=5), replace=True),
        lambda: index.delete(["id1", "id25"]) if most < 100 else index.add(items(1000, start=2000)),
        lambda: index.compact() if most < 2000 else index.add(items(1000, start=2000)),
    ):
        with small_files(most), pytest.raises(ValueError, match=r"cannot be written \(.*the index is as it was before"):
            write()
        assert same(index.fetch(list(index.ids())), before) and index.verify() == []
    assert [one for one in sorted((tmp_path / "index").rglob("*")) if not one.name.startswith("deleted-")] == files
    with Index.open(tmp_path / "index") as reader:
        assert same(reader.fetch(list(reader.ids())), before)
    index.add(items(10, seed=4, start=5), replace=True)
    assert len(index) == 30 and index.verify() == []
    assert not any(one.name.startswith("deleted-") and one not in index.backend.snapshot.parts[0].paths()
                   for one in (tmp_path / "index").rglob("*"))  # fmt: skip


def test_what_a_killed_writer_left_is_swept_by_the_next(tmp_path):
    with made(tmp_path / "index", items(20)) as index:
        index.delete(["id3"])
    folder = tmp_path / "index" / "segments"
    (folder / "00000077").mkdir()
    (folder / "00000077" / "0.npy").write_bytes(b"half")
    (folder / "00000001" / "deleted-00000099.npy").write_bytes(b"half")
    Index.open(tmp_path / "index").close()
    assert (folder / "00000077").exists()  # a reader changes nothing
    with Index.open(tmp_path / "index", writable=True) as index:
        assert index.verify() == [] and len(index) == 19
    assert sorted(one.name for one in folder.iterdir()) == ["00000001"]
    assert sorted(one.name for one in (folder / "00000001").glob("deleted*")) == ["deleted-00000002.npy"]


def test_a_reader_that_opens_while_segments_are_merged_reads_again(tmp_path, monkeypatch):
    index = made(tmp_path / "index", items(5), items(5, start=5))
    opened = segments.Segment.__init__
    calls = []

    def slow(self, folder):
        calls.append(folder)
        if len(calls) == 2:
            index.compact()  # after the names were read
        opened(self, folder)

    from confu.index import snapshot

    monkeypatch.setattr(segments.Segment, "__init__", slow)
    assert len(snapshot.open_snapshot(tmp_path / "index").parts) == 1 and len(calls) > 3


def test_texts_and_numbers_of_all_sorts_are_kept_as_few(tmp_path):
    index = made(tmp_path / "index")
    table = EmbeddingTable(("a", "b"), {TEXT: torch.eye(DIM)[:2]})
    index.add(Items(table, pa.table({
        "small": pa.array([1, None], pa.uint8()), "half": pa.array([1.5, float("nan")], pa.float32()),
        "large": pa.array(["x", None], pa.large_string()), "zoned": pa.array([0, None], pa.timestamp("ns", tz="CET")),
        "metadata:id": ["odd", "name"], "id": [7, 8],
    })))  # fmt: skip
    assert [str(field.type) for field in index.schema] == [
        "int64", "double", "string", "timestamp[us, tz=UTC]", "string", "int64"
    ]  # fmt: skip
    assert index.get("b").metadata["half"] is None and index.get("a").metadata["id"] == 7
    assert [hit.id for hit in index.search(queries()[0], TEXT, 5, ["zoned < 2000-01-01"])[0]] == ["a"]
    assert [hit.id for hit in index.search(queries()[0], TEXT, 5, ["half != 2"])[0]] == ["a"]
    with pytest.raises(ValueError, match="'big' of uint64 cannot be stored"):
        index.add(Items(items(1, name="c").table, pa.table({"big": pa.array([2**64 - 1], pa.uint64())})))


def test_searching_reads_no_more_than_it_needs(tmp_path):
    """An index four times as large takes no four times the memory: only a tile is read at once."""
    peaks = []
    for n in (20_000, 80_000):
        with made(tmp_path / f"index{n}") as index:
            index.add(Items(EmbeddingTable(tuple(map(str, range(n))), {BOTH: normalize(torch.randn(n, DIM), dim=1)})))
        read, write = os.pipe()
        if not (child := os.fork()):
            torch.set_num_threads(1)
            with Index.open(tmp_path / f"index{n}") as index:
                before = _own_memory()
                index.search(queries(1), BOTH, 3)
                os.write(write, json.dumps(_own_memory() - before).encode())
            os._exit(0)
        os.waitpid(child, 0)
        peaks.append(json.loads(os.read(read, 100)))
    assert peaks[1] < peaks[0] + 40_000


def _own_memory() -> int:
    """Kilobytes of this process that are no files."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))
