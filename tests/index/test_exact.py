"""The exact store: scans, whole writes, readers beside a writer, and damage that is found."""

import resource
import shutil
import sqlite3
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest
import torch

from confu.embeddings import EmbeddingTable
from confu.index import Index, Items, exact, scan, storage
from index.made import BOTH, DIM, IMAGE, TEXT, items, made, queries, same


@pytest.mark.parametrize("piece", [7, 10_000])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("k", [1, 5, 300])
@pytest.mark.parametrize("n", [1, 5])
def test_scan_finds_the_best_of_those_allowed(monkeypatch, piece, share, k, n):
    monkeypatch.setattr(scan, "_PIECE", piece)
    generator = torch.Generator().manual_seed(3)
    # Small whole numbers: products are exact, and many are tied.
    vectors, asked = (torch.randint(-2, 3, (rows, DIM), generator=generator).float() for rows in (200, n))
    allowed = torch.rand(200, generator=generator) < share
    scores, rows = scan.nearest(asked, vectors, k, allowed)
    expected = (asked @ vectors.T)[:, allowed].sort(dim=1, descending=True, stable=True)
    assert torch.equal(rows, allowed.nonzero()[:, 0][expected.indices[:, :k]])
    assert torch.equal(scores, expected.values[:, :k])


def test_equal_scores_come_in_the_order_of_the_items(tmp_path):
    index = made(tmp_path / "index")
    for part in range(3):
        ids = tuple(f"{part}{letter}" for letter in "abc")
        index.add(Items(EmbeddingTable(ids, {TEXT: torch.eye(DIM)[:1].repeat(3, 1)})))
    index.delete(["0b"])
    assert [hit.id for hit in index.search(torch.eye(DIM)[0], TEXT, 5)[0]] == ["0a", "0c", "1a", "1b", "1c"]


def test_small_writes_and_deletions_between_searches(tmp_path):
    """What a reader keeps in memory grows with each write, and is right after each."""
    index = made(tmp_path / "index")
    left = {}
    for number in range(40):
        part = items(1, seed=number, start=number)
        index.add(part)
        left[f"id{number}"] = part
        if number % 9 == 5:
            index.delete([f"id{number - 1}"])
            del left[f"id{number - 1}"]
        with_image = {id for id, part in left.items() if bool(part.table.complete[IMAGE][0])}
        assert {hit.id for hit in index.search(queries(1), IMAGE, 100)[0]} == with_image
        fits = {id for id, part in left.items() if (part.metadata["year"][0].as_py() or 0) >= 2005}
        assert {hit.id for hit in index.search(queries(1), TEXT, 100, ["year >= 2005"])[0]} == fits
    assert list(index.ids()) == list(left) and index.verify() == []
    for id, part in left.items():
        assert same(index.fetch([id]), part)


def test_vectors_of_replaced_items_are_dropped_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(exact, "_COMPACT", 10)
    index = made(tmp_path / "index")
    for seed in range(8):
        index.add(items(20, seed=seed), replace=True)
    size = (index.backend.storage.vector_file(1)).stat().st_size
    assert size <= 3 * 20 * DIM * 4 and len(list((tmp_path / "index").glob("*.f32"))) == 3
    assert same(index.fetch([f"id{number}" for number in range(20)]), items(20, seed=7)) and index.verify() == []


def test_nothing_written_to_a_vector_reaches_the_file(tmp_path):
    index = made(tmp_path / "index", items(20))
    assert index.backend.storage.vectors(1).shape == (20, DIM) and len(index.backend.storage.vectors(0)) < 20
    index.backend.storage.vectors(1)[0] = 0.0
    assert index.verify() == []
    assert torch.equal(Index.open(tmp_path / "index").vector("id0", TEXT), items(20).table[TEXT][0])


@pytest.mark.parametrize("damage", ["gone", "short", "changed"])
@pytest.mark.parametrize("name", ["items.1-0.f32", "items.1-1.f32", "items.db"])
def test_damage_to_any_file_is_found(tmp_path, name, damage):
    made(tmp_path / "index", items(20)).close()
    file = tmp_path / "index" / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "short":
        file.write_bytes(content[: len(content) // 2])
    else:
        place = content.index(b"bird 7") if name == "items.db" else len(content) - 3
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    if damage == "changed":
        with Index.open(tmp_path / "index") as index:
            assert len(problems := index.verify()) == 1 and "as it was written" in problems[0].replace(
                "they were", "it was"
            )
    else:
        with pytest.raises(ValueError, match=r"is missing|shorter than it was|malformed|not a database"):
            Index.open(tmp_path / "index").verify()


def test_every_changed_byte_of_an_item_is_found(tmp_path):
    """Ids, texts and the places of vectors, in the only page that holds them."""
    made(tmp_path / "index", items(3)).close()
    file = tmp_path / "index" / "items.db"
    with sqlite3.connect(file) as database:
        for change in ("s1 = 1 - s1", "id = 'other' || row", "media = '{}'", "m0 = m0 + 1", "row = row + 7"):
            copy = tmp_path / "changed"
            shutil.copytree(tmp_path / "index", copy)
            with sqlite3.connect(copy / "items.db") as changed:
                changed.execute(f"UPDATE item SET {change} WHERE row = 0")
            with Index.open(copy) as index:
                assert any("is not as it was written" in problem for problem in index.verify()), change
            shutil.rmtree(copy)
        database.execute("UPDATE state SET value = replace(value, 'year', 'yaer')")
    with pytest.raises(ValueError, match=r"items.db is not as it was written; index again"):
        Index.open(tmp_path / "index")


def test_vectors_that_are_not_unit_vectors_are_found(tmp_path):
    index = made(tmp_path / "index")
    index.backend.add([Items(EmbeddingTable(("a", "b"), {TEXT: 2 * torch.eye(DIM)[:2]}))])  # past the index's checks
    assert index.verify()[0].endswith("2 vectors from 0 on have no length of 1")


@contextmanager
def small_files(most: int):
    """Every write beyond so many bytes of a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("most", [0, 500, 40_000])
def test_nothing_is_lost_on_a_full_disk(tmp_path, most):
    index = made(tmp_path / "index", items(20), items(10, start=20))
    before = index.fetch(list(index.ids()))
    big = items(2000, start=5)
    for write in (
        lambda: index.add(big, replace=True),
        lambda: index.add_parts([items(2, start=5000), big], source={"manifest": "x"}, replace=True),
        lambda: (
            index.delete([f"id{number}" for number in range(9)]) if most < 500 else index.add(items(2000, start=99))
        ),
    ):
        with small_files(most), pytest.raises(ValueError, match=r"cannot be written \(.*the index is as it was before"):
            write()
        assert same(index.fetch(list(index.ids())), before) and index.verify() == []
    with Index.open(tmp_path / "index") as reader:
        assert same(reader.fetch(list(reader.ids())), before) and reader.about.source == {}
    index.add(items(10, seed=4, start=5), replace=True)
    index.compact()
    assert len(index) == 30 and index.verify() == []


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    made(tmp_path / "index", items(20)).close()
    left = tmp_path / "index" / "items.2-0.f32"
    left.write_bytes(b"half")
    with (tmp_path / "index" / "items.1-1.f32").open("ab") as file:
        file.write(b"half of a vector")
    with Index.open(tmp_path / "index") as reader:
        assert left.exists() and reader.verify() == []  # a reader changes nothing
    with Index.open(tmp_path / "index", writable=True) as index:
        assert not left.exists() and index.verify() == []
        index.add(items(5, start=50))
        assert index.verify() == [] and same(index.fetch([f"id{n}" for n in range(50, 55)]), items(5, start=50))


def test_a_process_killed_while_creating_leaves_a_free_folder(tmp_path):
    made(tmp_path / "index", items(3)).close()
    (tmp_path / "index" / "index.json").unlink()
    with made(tmp_path / "index", items(5)) as index:
        assert len(index) == 5 and index.verify() == []


def test_a_reader_that_opens_during_a_compaction_reads_again(tmp_path, monkeypatch):
    index = made(tmp_path / "index", items(5), items(5, start=5))
    index.delete(["id0"])
    vectors, calls = storage.Storage.vectors, []

    def during_compaction(self, number):
        calls.append(number)
        if len(calls) == 2:
            index.compact()  # after the state was read
        return vectors(self, number)

    monkeypatch.setattr(storage.Storage, "vectors", during_compaction)
    reader = Index.open(tmp_path / "index")
    assert reader.get("id9").media["text"] == "bird 9" and len(reader) == 9


def test_a_folder_that_cannot_be_written_is_read(tmp_path, monkeypatch):
    """SQLite cannot make its shared memory there: the file is read as one that does not change."""
    made(tmp_path / "index", items(20)).close()
    connect, modes = sqlite3.connect, []

    def read_only(address, **options):
        modes.append(address.rsplit("?", 1)[-1])
        if modes[-1] == "mode=ro":
            raise sqlite3.OperationalError("unable to open database file")
        return connect(address, **options)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    reader = Index.open(tmp_path / "index")
    assert modes == ["mode=ro", "immutable=1"] and not reader.refresh() and reader.verify() == []
    with sqlite3.connect(f"file:{tmp_path}/index/items.db?mode=rw", uri=True) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("CREATE TABLE other (value)")  # whatever changes the file
    assert not reader.refresh() and modes.count("immutable=1") == 3
    assert same(reader.fetch([f"id{number}" for number in range(20)]), items(20))
    (tmp_path / "index" / "items.db-wal").write_bytes(b"changes of a writer")
    with pytest.raises(ValueError, match="unable to open database file"):
        Index.open(tmp_path / "index")


def test_without_a_log_a_reader_sees_every_commit(tmp_path):
    """On a disk without shared memory SQLite keeps a rollback journal: a reader holds no state, and no lock."""
    made(tmp_path / "index", items(20)).close()
    with sqlite3.connect(tmp_path / "index" / "items.db") as database:
        assert database.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    database.close()
    reader = Index.open(tmp_path / "index")
    assert len(reader) == 20
    with sqlite3.connect(tmp_path / "index" / "items.db", timeout=0) as database:
        database.execute("BEGIN EXCLUSIVE")  # a commit is not kept from its lock
    assert {hit.id for hit in reader.search(queries(1), TEXT, 50)[0]} == {f"id{number}" for number in range(20)}


def test_columns_of_all_sorts_are_kept_as_few_types(tmp_path):
    index = made(tmp_path / "index")
    table = EmbeddingTable(("a", "b"), {TEXT: torch.eye(DIM)[:2]})
    columns = {
        "small": pa.array([1, None], pa.uint8()),
        "half": pa.array([0.1, float("nan")], pa.float32()),
        "large": pa.array(["x", None], pa.large_string()),
        "zoned": pa.array([0, None], pa.timestamp("ns", tz="CET")),
        "metadata:id": ["odd", "name"],
        "id": [7, 8],
        "zero": pa.array([-0.0, np.inf], pa.float64()),
    }
    index.add(Items(table, pa.table(columns)))
    kinds = ["int64", "double", "string", "timestamp[us, tz=UTC]", "string", "int64", "double"]
    assert [str(field.type) for field in index.schema] == kinds and index.verify() == []
    assert index.get("b").metadata["half"] is None and index.get("a").metadata["id"] == 7
    assert [hit.id for hit in index.search(queries()[0], TEXT, 5, ["zoned < 2000-01-01"])[0]] == ["a"]
    assert [hit.id for hit in index.search(queries()[0], TEXT, 5, ["half == 0.1"])[0]] == ["a"]
    with pytest.raises(ValueError, match="'big' of uint64 cannot be stored"):
        index.add(Items(items(1, name="c").table, pa.table({"big": pa.array([2**64 - 1], pa.uint64())})))


def test_readers_read_files_that_a_compaction_removed(tmp_path):
    index = made(tmp_path / "index", items(20))
    reader = Index.open(tmp_path / "index")
    index.delete(["id3"])
    index.compact()
    assert not (tmp_path / "index" / "items.1-1.f32").exists()
    assert same(reader.fetch([f"id{number}" for number in range(20)]), items(20))
    assert reader.refresh() and len(reader) == 19 and len(reader.search(queries(1), BOTH, 50)[0]) < 19
