"""An index in Qdrant, in the memory of its client: what is refused, and what a writer that is killed leaves."""

import pyarrow as pa
import pytest

from confu.index import Index
from index.conftest import ABOUT
from index.test_contract import as_dict, assert_holds, make_items, names

pytest.importorskip("qdrant_client")


def test_what_a_killed_writer_left_is_not_seen_and_removed(tmp_path, monkeypatch):
    items = make_items(names(10))
    with Index.create(tmp_path, ABOUT, "qdrant", url=":memory:") as index:
        index.add(items)
        with monkeypatch.context() as patched:
            patched.setattr(
                "confu.index.qdrant.QdrantStore._publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            with pytest.raises(KeyboardInterrupt):
                index.add(make_items(names(10, 5), seed=3), replace=True)
        assert_holds(index, as_dict(items))
        assert index.search(items.table["image"][:1], "image", 30)[0][0].id == names(1)[0]
        assert index.backend.client.count(index.backend.collection).count == 20
    with Index.open(tmp_path, writable=True) as index:
        assert index.backend.client.count(index.backend.collection).count == 10
        assert_holds(index, as_dict(items))


def test_a_write_that_fails_leaves_nothing(tmp_path):
    with Index.create(tmp_path, ABOUT, "qdrant", url=":memory:") as index:

        def parts():
            yield make_items(names(5))
            raise OSError("the source broke off")

        with pytest.raises(OSError, match="broke off"):
            index.add_parts(parts())
        assert len(index) == 0 and index.backend.client.count(index.backend.collection).count == 0


def test_without_an_address_the_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("CONFU_QDRANT", raising=False)
    with pytest.raises(ValueError, match=r"Set the environment variable CONFU_QDRANT, or give the option url"):
        Index.create(tmp_path / "index", ABOUT, "qdrant")


def test_verify_sees_what_stands_twice(tmp_path):
    from qdrant_client import models

    with Index.create(tmp_path, ABOUT, "qdrant", url=":memory:") as index:
        index.add(make_items(names(3)))
        payload = {"id": names(1)[0], "row": 9, "metadata": {}, "media": {}, "write": "x"}
        point = models.PointStruct(id=7, vector={"image": [2.0] * 12}, payload=payload)
        index.backend.client.upsert(index.backend.collection, [point])
        wrong = index.verify()
        assert "the vector of image has no length of 1" in wrong[0] and "stands twice" in wrong[1]
        index.add(make_items(names(1)), replace=True)
        assert index.verify() == []


def test_large_whole_numbers(tmp_path):
    with Index.create(tmp_path, ABOUT, "qdrant", url=":memory:") as index:
        items = make_items(names(2), number=pa.array([2**62 + 1, 2**62]))
        index.add(items)
        query = items.table["image"][0]
        assert [hit.id for hit in index.search(query, "image", 2, [f"number == {2**62}"])[0]] == names(1, 1)
        with pytest.raises(ValueError, match="orders whole numbers up to"):
            index.search(query, "image", 2, [f"number < {2**62}"])


def test_server_that_is_away_is_named(tmp_path):
    with pytest.raises(ConnectionError, match=r"Qdrant at http://127\.0\.0\.1:9 does not answer"):
        Index.create(tmp_path, ABOUT, "qdrant", url="http://127.0.0.1:9", timeout=2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"efs": 3}, "did you mean 'ef'"),
        ({"ef": 0}, "option ef must be a whole number from 1 to"),
        ({"collection": "a/b"}, "option collection must be a name of letters"),
        ({"url": "http://host:port"}, "option url must be the address of a Qdrant server"),
        ({"url": "http://ann:secret@host"}, "may hold no password; set the environment variable CONFU_QDRANT_API_KEY"),
    ],
)
def test_options_that_are_wrong_are_named(tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        Index.create(tmp_path / "index", ABOUT, "qdrant", **{"url": ":memory:", **options})
    Index.create(tmp_path / "other", ABOUT, "qdrant", url=":memory:").close()  # and nothing is held


def test_an_index_without_its_collection(tmp_path):
    with Index.create(tmp_path, ABOUT, "qdrant", url=":memory:") as index:
        index.backend.client.delete_collection(index.backend.collection)
    with pytest.raises(ValueError, match="has no collection"):
        Index.open(tmp_path)
