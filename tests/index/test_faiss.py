"""FAISS beside an exact store: how much it finds, its files, and what is refused."""

import warnings

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.index import About, Index, Items, faiss
from confu.plan import Subset

pytest.importorskip("faiss")

IMAGE = Subset("image")
ABOUT = About("by hand", "", 32, (IMAGE,), {"image": "image"})
KINDS = {
    "hnsw": {"kind": "hnsw", "least": 500},
    "ivfpq": {"kind": "ivfpq", "least": 500, "bits": 6, "nlist": 40, "nprobe": 10},
}


def clustered(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(30, 32, generator=torch.Generator().manual_seed(99))
    chosen = torch.randint(30, (n,), generator=generator)
    return normalize(centres[chosen] + 0.7 * torch.randn(n, 32, generator=generator), dim=1)


def make_items(n, start=0):
    metadata = pa.table({"row": pa.array(range(n)), "tenth": pa.array([row % 10 for row in range(n)])})
    return Items(EmbeddingTable([f"{start + row}" for row in range(n)], {IMAGE: clustered(n, start)}), metadata)


@pytest.fixture(scope="module", params=KINDS)
def large(request, tmp_path_factory):
    """5,000 items, in FAISS and exactly."""
    folder, items = tmp_path_factory.mktemp(request.param), make_items(5000)
    with Index.create(folder / "exact", ABOUT) as exact:
        exact.add(items)
    with Index.create(folder / "faiss", ABOUT, "faiss", **KINDS[request.param]) as index:
        index.add(items)
    return folder, Index.open(folder / "exact"), Index.open(folder / "faiss")


def recall(found, true):
    shared = [len({hit.id for hit in a} & {hit.id for hit in b}) / len(b) for a, b in zip(found, true)]
    return float(np.mean(shared))


@pytest.mark.parametrize("where", [[], ["row < 4000"], ["tenth == 3"], ["row < 30"]], ids=str)
def test_nearly_all_are_found_and_k_of_those_that_fit(large, where):
    _, exact, index = large
    queries = clustered(40, 7)
    true, found = exact.search(queries, "image", 10, where), index.search(queries, "image", 10, where)
    assert {len(hits) for hits in found} == {10}
    assert recall(found, true) > 0.95
    by_id = dict(zip(exact.ids(), exact.fetch(list(exact.ids())).table[IMAGE]))
    for query, hits in zip(queries, found):
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert [hit.score for hit in hits] == pytest.approx([float(query @ by_id[hit.id]) for hit in hits], abs=1e-5)
    assert not where or len(index.search(queries[:1], "image", 5000, where)[0]) == len(
        exact.search(queries[:1], "image", 5000, where)[0]
    )


def test_more_is_found_by_looking_at_more(large):
    folder, exact, index = large
    queries = clustered(60, 8)
    true = exact.search(queries, "image", 10)
    kind = index.backend.settings["kind"]
    little, much = ({"ef": 10}, {"ef": 200}) if kind == "hnsw" else ({"nprobe": 1}, {"nprobe": 40})
    with Index.open(folder / "faiss", **little) as low, Index.open(folder / "faiss", **much) as high:
        assert recall(low.search(queries, "image", 10), true) < recall(high.search(queries, "image", 10), true)


def test_candidates_are_compared_again_by_their_true_vectors(tmp_path):
    items, queries = make_items(2000), clustered(20, 3)
    options = {**KINDS["ivfpq"], "nprobe": 40, "m": 4}
    with Index.create(tmp_path / "index", ABOUT, "faiss", **options) as index:
        index.add(items)
        refined = index.search(queries, "image", 10)
    exact = queries @ items.table[IMAGE].T
    true = [[type(refined[0][0])(str(int(row)), 0.0) for row in line] for line in exact.topk(10).indices]
    with Index.open(tmp_path / "index", refine=0) as index:
        assert recall(index.search(queries, "image", 10), true) < recall(refined, true)


def files(folder):
    return sorted(path.name for path in (folder / "faiss").glob("*"))


def test_files_follow_the_vectors(tmp_path):
    with Index.create(tmp_path, ABOUT, "faiss", least=100) as index:
        index.add(make_items(99))
        assert files(tmp_path) == []  # too few
        index.add(make_items(200, 1000))
        assert [name.split("-")[2:4] for name in files(tmp_path)] == [["0", "299"]] * 2
        index.add(make_items(150, 2000))
        assert [name.split("-")[2:4] for name in files(tmp_path)] == [["0", "299"]] * 2 + [["299", "449"]] * 2
        index.add(make_items(160, 3000))  # as many as in the last file: they become one
        assert [name.split("-")[2:4] for name in files(tmp_path)] == [["0", "609"]] * 2
        index.add(make_items(20, 4000))
        query = index.vector("4007", "image")
        assert index.search(query, "image", 1)[0][0].id == "4007"
        index.delete([str(1000 + row) for row in range(200)])
        index.compact()
        assert len(files(tmp_path)) == 2 and len(index) == 429
        query = index.vector("2007", "image")
        assert index.search(query, "image", 1)[0][0].id == "2007"
        assert index.verify() == []


def test_a_file_that_is_missing_is_said_and_made_again(tmp_path):
    with Index.create(tmp_path, ABOUT, "faiss", least=100) as index:
        index.add(make_items(200))
    made = files(tmp_path)
    for name in made:
        (tmp_path / "faiss" / name).unlink()
    (tmp_path / "faiss" / ".0.faiss.partial").write_text("of a writer that was killed")
    with Index.open(tmp_path) as index:
        with pytest.warns(
            UserWarning, match=r"200 vectors have no index file .* searched exactly; open the index for writing"
        ):
            assert index.search(index.vector("3", "image"), "image", 1)[0][0].id == "3"
        assert index.verify() == []
        with Index.open(tmp_path, writable=True):
            assert files(tmp_path) == made
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert index.search(index.vector("3", "image"), "image", 1)[0][0].id == "3"


def test_a_file_of_other_options_is_made_by_a_writer_only(tmp_path):
    with Index.create(tmp_path, ABOUT, "faiss", least=100) as index:
        index.add(make_items(200))
    with Index.open(tmp_path, m=8) as index, pytest.warns(UserWarning, match="of these options"):
        index.search(clustered(1), "image", 1)


@pytest.mark.parametrize("damage", ["cut", "other bytes", "other file"])
def test_damage_is_found(tmp_path, damage):
    with Index.create(tmp_path, ABOUT, "faiss", least=100) as index:
        index.add(make_items(200))
    file = next((tmp_path / "faiss").glob("*.faiss"))
    content = bytearray(file.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "other bytes":
        content[len(content) // 2] ^= 255
    else:
        content = b"no index" * (len(content) // 8 + 1)
    file.write_bytes(content)
    with Index.open(tmp_path) as index:
        assert index.verify()[0].endswith("makes it again")
        if damage != "other bytes":  # which only a checksum can see
            with pytest.raises(ValueError, match="is not as it was written; remove it"):
                index.search(clustered(1), "image", 1)


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    index = Index.create(tmp_path, ABOUT, "faiss", least=100)
    with monkeypatch.context() as patched:
        patched.setattr("faiss.write_index", full)
        with pytest.raises(ValueError, match=r"No space left.*All items are stored and found, but slowly"):
            index.add(make_items(200))
    assert len(index) == 200 and files(tmp_path) == []
    index.close()
    with Index.open(tmp_path, writable=True) as index:
        assert len(files(tmp_path)) == 2 and index.verify() == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "lsh"}, "option kind 'lsh' is not known"),
        ({"efs": 3}, "did you mean 'ef'"),
        ({"ef": 0}, "option ef must be a whole number from 1 to"),
        ({"nprobe": 3}, "option nprobe is of kind ivfpq; the kind is hnsw"),
        ({"kind": "ivfpq", "ef": 3}, "option ef is of kind hnsw; the kind is ivfpq"),
        ({"kind": "ivfpq", "m": 5}, "option m must divide the dim of the vectors, 32; got 5"),
        ({"m": 1}, "option m must be at least 2"),
    ],
)
def test_options_that_are_wrong_are_named(tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        Index.create(tmp_path / "index", ABOUT, "faiss", **options)


def test_defaults_follow_from_the_vectors():
    options = {"kind": "ivfpq", "m": 0, "nlist": 0}
    assert [faiss._parts(options, dim) for dim in (256, 30, 7)] == [64, 6, 1]
    assert [faiss._cells(options, rows) for rows in (1_000_000, 400)] == [4000, 10]
