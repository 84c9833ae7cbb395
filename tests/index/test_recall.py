"""How much an approximate store finds: the share itself, the dial of each store, and what is asked."""

import pytest
import torch

from confu.index.recall import measure_settings, recall_of, sample_queries
from confu.plan import Subset
from index.test_contract import make_items, names

STORES = {
    "exact": ("exact", {}),
    "faiss flat": ("faiss", {"kind": "flat"}),
    "faiss hnsw": ("faiss", {"kind": "hnsw", "least": 100, "ef": 32, "m": 4, "ef_build": 8}),
    "faiss ivfpq": ("faiss", {"kind": "ivfpq", "least": 100, "bits": 4, "nlist": 30, "nprobe": 2, "m": 4}),
    "postgres": ("postgres", {"ef": 16, "m": 4, "ef_build": 8}),
    "qdrant": ("qdrant", {"url": ":memory:"}),
}
IMAGE, AUDIO = Subset("image"), Subset("audio")


def ranking(ids, *scores):
    return list(zip(ids, scores))


def test_recall_by_hand():
    exact = [ranking("abc", 0.9, 0.8, 0.7), [], ranking("a", 0.1)]
    assert recall_of([ranking("axc", 0.9, 0.6, 0.7), [], []], exact) == pytest.approx((2 / 3 + 0) / 2)
    assert recall_of(exact, exact) == 1.0


def test_what_ties_with_the_last_counts():
    exact = [ranking("ab", 0.9, 0.5)]
    assert recall_of([ranking("zy", 0.9, 0.5)], exact) == recall_of([ranking("abc", 0.9, 0.5, 0.5)], exact) == 1.0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="same queries; got 1 and 0"):
        recall_of([[]], [])
    with pytest.raises(ValueError, match="no query has a neighbour"):
        recall_of([[]], [[]])


@pytest.mark.parametrize("maker", STORES.values(), ids=STORES, indirect=True)
def test_every_store_is_measured(maker):
    index = maker.create()
    index.add(make_items(names(600)))
    queries, asked = sample_queries(index, IMAGE, 60)
    assert asked == AUDIO and len(queries) == 60
    settings = measure_settings(index.backend, queries, IMAGE, 5)
    assert [one.value for one in settings] == sorted(one.value for one in settings)
    assert sum(one.in_use for one in settings) == 1
    assert all(one.one_ms > 0 and one.batch_ms > 0 for one in settings)
    if maker.kind == "exact" or maker.options.get("kind") == "flat" or maker.kind == "qdrant":
        assert [(one.dial, one.recall) for one in settings] == [("", 1.0)]
    else:
        name, used = index.backend.dial
        assert settings[0].dial == name == ("nprobe" if "ivfpq" in str(maker.options) else "ef")
        assert settings[0].recall <= settings[-1].recall and settings[-1].recall > 0.9
        only = measure_settings(index.backend, queries, IMAGE, 5, [20])
        assert {one.value for one in only} == {20, used}


@pytest.mark.parametrize("maker", [("exact", {})], indirect=True)
def test_queries_are_of_what_shares_nothing_with_the_target(maker):
    index = maker.create()
    index.add(make_items(names(50)))
    assert sample_queries(index, AUDIO, 5)[1] == IMAGE
    queries, asked = sample_queries(index, Subset("image", "audio"), 7)
    assert asked == Subset("image", "audio")
    assert torch.allclose(queries.norm(dim=1), torch.ones(7), atol=1e-5)  # of items that have one
    assert torch.equal(sample_queries(index, AUDIO, 5)[0], sample_queries(index, AUDIO, 5)[0])
    with pytest.raises(ValueError, match="target 'text' is not known"):
        sample_queries(index, Subset("text"), 5)
