"""What every store must do. A new one is tested by being listed."""

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
import torch

from confu.embeddings import EmbeddingTable
from confu.index import Condition, Index, Items
from index.conftest import ABOUT, SUBSETS

STORES = {
    "exact": ("exact", {}),
    "faiss flat": ("faiss", {"kind": "flat"}),
    "faiss hnsw": ("faiss", {"kind": "hnsw", "least": 30, "ef": 400}),
    "faiss ivfpq": ("faiss", {"kind": "ivfpq", "least": 30, "m": 4, "bits": 4, "nlist": 4, "nprobe": 4, "refine": 100}),
    "postgres": ("postgres", {"ef": 400}),
    "postgres flat": ("postgres", {"kind": "flat"}),
    "qdrant": ("qdrant", {"url": ":memory:"}),
}
pytestmark = pytest.mark.parametrize("maker", STORES.values(), ids=STORES, indirect=True)


def make_items(ids, seed=0, **metadata):
    random = np.random.default_rng(seed)
    n = len(ids)
    vectors = {subset: torch.from_numpy(random.normal(size=(n, 12)).astype("f4")) for subset in SUBSETS}
    vectors = {subset: torch.nn.functional.normalize(value, dim=1) for subset, value in vectors.items()}
    complete = {subset: torch.from_numpy(random.random(n) < 0.8) for subset in SUBSETS[1:]}
    columns = metadata or {
        "year": pa.array([2000 + int(one) if one < 20 else None for one in random.integers(25, size=n)], pa.int64()),
        "weight": pa.array([float(one) if one > 0.2 else None for one in random.random(n)], pa.float64()),
        "species": pa.array(
            [["robin", "wren", "Öhu, 'n\"; --", None][one] for one in random.integers(4, size=n)], pa.string()
        ),
        "tagged": pa.array([[True, False, None][one] for one in random.integers(3, size=n)], pa.bool_()),
        "day": pa.array([date(2020, 1, 1 + int(one)) for one in random.integers(28, size=n)]),
        "at": pa.array([datetime(2020, 1, 1 + int(one), 3, 4, 5, 678) for one in random.integers(28, size=n)]),
        "sent": pa.array([datetime(2020, 1, 1 + int(one), tzinfo=UTC) for one in random.integers(28, size=n)]),
        "a.b [c]%s": pa.array([int(one) for one in random.integers(5, size=n)]),
        "id": pa.array([f"own {one}" for one in random.integers(3, size=n)]),
    }
    media = {
        "image": [f"pictures/{id}.png" if one < 0.9 else None for id, one in zip(ids, random.random(n))],
        "a.b": [f"text of {id}" for id in ids],
    }
    return Items(EmbeddingTable(tuple(ids), vectors, complete), pa.table(columns), media)


def as_dict(items):
    """id -> all that is known of the item; media and vectors that it lacks are left out."""
    metadata = items.metadata.to_pylist() or [{} for _ in items.table.ids]
    return {
        id: (
            {subset: items.table[subset][row] for subset in items.table.subsets if items.table.complete[subset][row]},
            metadata[row],
            {name: column[row] for name, column in items.media.items() if column[row] is not None},
        )
        for row, id in enumerate(items.table.ids)
    }


def assert_holds(index: Index, expected: dict):
    """Every item is there as expected, in any order."""
    assert len(index) == len(expected)
    assert set(index.ids()) == set(expected)
    found = as_dict(index.fetch(list(expected)))
    names = set(index.schema.names)
    for id, (vectors, metadata, media) in expected.items():
        assert found[id][0].keys() == vectors.keys()
        for subset, vector in vectors.items():
            assert torch.equal(found[id][0][subset], vector)
        assert found[id][1] == {name: metadata.get(name) for name in names}
        assert found[id][2] == media


def nearest(expected, query, target, k, fits=lambda metadata: True):
    scores = {
        id: float(query.double() @ vectors[target].double())
        for id, (vectors, metadata, _) in expected.items()
        if target in vectors and fits(metadata)
    }
    best = sorted(scores, key=scores.__getitem__, reverse=True)[:k]
    return best, [scores[id] for id in best]


def assert_finds(index, expected, queries, target, k, where=(), fits=lambda metadata: True):
    for query, hits in zip(queries, index.search(queries, target, k, where)):
        ids, scores = nearest(expected, query, target, k, fits)
        assert [hit.id for hit in hits] == ids
        assert [hit.score for hit in hits] == pytest.approx(scores, abs=1e-5)
        for hit in hits:
            assert hit.media == expected[hit.id][2]
            assert hit.metadata == {name: expected[hit.id][1].get(name) for name in index.schema.names}


def names(n, start=0):
    return [f"item/{number} ä" for number in range(start, start + n)]


@pytest.fixture
def queries():
    return torch.nn.functional.normalize(torch.randn(5, 12, generator=torch.Generator().manual_seed(1)), dim=1)


def test_what_is_stored_is_found_and_fetched(maker, queries):
    index, items = maker.create(), make_items(names(300))
    change = index.add(items)
    assert (change.added, change.replaced) == (300, 0)
    expected = as_dict(items)
    assert list(index.ids()) == names(300)
    assert_holds(index, expected)
    for target in SUBSETS:
        assert_finds(index, expected, queries, target, 10)
    assert_finds(index, expected, queries[:1], SUBSETS[2], 400)
    assert index.verify() == []


CONDITIONS = {
    "year >= 2015": lambda item: item["year"] is not None and item["year"] >= 2015,
    "year < 2002.5": lambda item: item["year"] is not None and item["year"] < 2002.5,
    "year != 2003": lambda item: item["year"] is not None and item["year"] != 2003,
    "year in 2001,2002": lambda item: item["year"] in (2001, 2002),
    "weight <= 0.5": lambda item: item["weight"] is not None and item["weight"] <= 0.5,
    "species == robin": lambda item: item["species"] == "robin",
    "species == Öhu, 'n\"; --": lambda item: item["species"] == "Öhu, 'n\"; --",
    "species != robin": lambda item: item["species"] not in ("robin", None),
    "species in robin,wren": lambda item: item["species"] in ("robin", "wren"),
    "tagged = true": lambda item: item["tagged"] is True,
    "tagged != true": lambda item: item["tagged"] is False,
    "day > 2020-01-20": lambda item: item["day"] > date(2020, 1, 20),
    "day == 2020-01-07": lambda item: item["day"] == date(2020, 1, 7),
    "at <= 2020-01-08T03:04:05.000678": lambda item: item["at"] <= datetime(2020, 1, 8, 3, 4, 5, 678),
    "sent != 2020-01-03T00:00:00+00:00": lambda item: item["sent"] != datetime(2020, 1, 3, tzinfo=UTC),
    "a.b [c]%s == 2": lambda item: item["a.b [c]%s"] == 2,
    "id == own 1": lambda item: item["id"] == "own 1",
    "year == 1066": lambda item: False,
}


def test_conditions_leave_k_of_those_that_fit(maker, queries):
    index, items = maker.create(), make_items(names(400), seed=1)
    index.add(items)
    expected = as_dict(items)
    for condition, fits in CONDITIONS.items():
        assert_finds(index, expected, queries[:2], SUBSETS[2], 7, [condition], fits)
    both = ["year >= 2005", "tagged == false"]
    chosen = [CONDITIONS["tagged != true"], lambda item: item["year"] is not None and item["year"] >= 2005]
    assert_finds(index, expected, queries, SUBSETS[1], 5, both, lambda item: all(fits(item) for fits in chosen))


def test_texts_are_ordered_by_their_bytes(maker, queries):
    index, items = maker.create(), make_items(names(60), seed=1)
    index.add(items)
    where, fits = ["species > robin"], lambda item: item["species"] is not None and item["species"] > "robin"
    if maker.kind == "qdrant":
        with pytest.raises(ValueError, match="order of texts"):
            index.search(queries, SUBSETS[0], 5, where)
    else:
        assert_finds(index, as_dict(items), queries, SUBSETS[0], 5, where, fits)


def test_changes_in_a_random_order_end_where_a_dictionary_does(maker, queries):
    index, random = maker.create(), np.random.default_rng(3)
    expected = {}
    for step in range(10):
        ids = [names(1, int(number))[0] for number in random.choice(250, size=60, replace=False)]
        if step % 3 == 2:
            assert index.delete([*ids, ids[0], "not there"]) == len(expected.keys() & ids)
            expected = {id: item for id, item in expected.items() if id not in ids}
        else:
            items = make_items(ids, seed=step)
            change = index.add(items, replace=True)
            assert change.replaced == len(expected.keys() & ids)
            assert change.added + change.replaced == 60
            expected |= as_dict(items)
        if step == 6:
            index.compact()
        target = SUBSETS[step % 3]
        assert_finds(index, expected, queries[:2], target, 8)
        assert_finds(index, expected, queries[:1], target, 8, ["year >= 2010"],
                     lambda item: item["year"] is not None and item["year"] >= 2010)  # fmt: skip
    assert_holds(index, expected)
    assert index.verify() == []


def test_an_id_that_is_there_is_refused_and_nothing_changes(maker, queries):
    index, items = maker.create(), make_items(names(20))
    index.add(items)
    with pytest.raises(ValueError, match=r"item/19 ä.* is in the index already.*replace=True"):
        index.add(make_items(names(20, 19), seed=5))
    assert_holds(index, as_dict(items))
    assert index.verify() == []


def test_parts_are_stored_in_one_write(maker, queries):
    index, parts = maker.create(), [make_items(names(50, start), seed=start) for start in (0, 50, 100)]
    change = index.add_parts(parts, source={"manifest": "birds.csv"})
    assert change.added == 150
    expected = {id: item for part in parts for id, item in as_dict(part).items()}
    assert_holds(index, expected)
    assert_finds(index, expected, queries, SUBSETS[2], 10)
    with pytest.raises(ValueError, match="already"):
        index.add_parts([make_items(names(5, 200)), make_items(names(5, 48))])
    with pytest.raises(ValueError, match=r"item/204 ä.* stands twice among the new items"):
        index.add_parts(make_items(names(5, start)) for start in (200, 204))
    assert_holds(index, expected)
    index.close()
    assert maker.open().about.source == {"manifest": "birds.csv"}


def test_columns_that_come_later_are_unknown_before(maker, queries):
    index = maker.create()
    first = make_items(names(4), year=pa.array([1, 2, 3, 4]))
    later = make_items(names(4, 4), year=pa.array([4.5, None, 7.5, 1.0]), site=pa.array(["a", "b", "a", None]))
    index.add(first)
    index.add(later)
    assert {name: str(index.schema.field(name).type) for name in index.schema.names} == {
        "year": "double", "site": "string"
    }  # fmt: skip
    expected = as_dict(first) | as_dict(later)
    assert_holds(index, expected)
    late = ["year >= 4"]
    assert_finds(index, expected, queries, SUBSETS[0], 8, late, lambda item: (item["year"] or 0) >= 4)
    assert_finds(index, expected, queries, SUBSETS[0], 8, ["site == a"], lambda item: item.get("site") == "a")
    with pytest.raises(ValueError, match=r"column 'site' holds string in the index and int64"):
        index.add(make_items(names(1, 9), site=pa.array([3])))
    assert_holds(index, expected)


def test_an_index_is_as_it_was_when_it_is_opened_again(maker, queries):
    index, items = maker.create(), make_items(names(40))
    index.add(items)
    index.delete(names(3))
    index.close()
    opened = maker.open()
    expected = {id: item for id, item in as_dict(items).items() if id not in names(3)}
    assert_holds(opened, expected)
    assert_finds(opened, expected, queries, SUBSETS[0], 5, ["species == wren"], lambda item: item["species"] == "wren")
    with pytest.raises(ValueError, match=r"reading only.*writable=True"):
        opened.add(make_items(names(1, 99)))
    with pytest.raises(ValueError, match="reading only"):
        opened.delete(names(1))
    assert opened.verify() == []


def test_an_empty_index_finds_nothing(maker, queries):
    index = maker.create()
    assert len(index) == 0 and list(index.ids()) == [] and index.verify() == []
    assert index.search(queries, "image", 3) == [[]] * 5
    assert index.delete(["none"]) == 0
    with pytest.raises(KeyError, match="none"):
        index.fetch(["none"])
    assert len(index.fetch([])) == 0
    index.add(make_items(names(3)))
    assert len(index) == 3
    assert index.delete(names(3)) == 3
    assert index.search(queries, "image", 3) == [[]] * 5
    index.add(make_items(names(2)))
    assert list(index.ids()) == names(2)


def test_items_without_metadata(maker, queries):
    index = maker.create()
    plain = make_items(names(6))
    items = Items(plain.table, pa.table({}), {})
    index.add(items)
    assert_holds(index, as_dict(items))
    assert_finds(index, as_dict(items), queries, SUBSETS[1], 3)
    with pytest.raises(ValueError, match="no metadata"):
        index.search(queries, "image", 3, ["year > 3"])


def test_values_of_conditions_are_no_statements(maker, queries):
    index, items = maker.create(), make_items(names(30))
    index.add(items)
    for value in ("'; DROP TABLE items; --", "%s %(query)s {}", '"', "robin' OR 'a' = 'a"):
        quoted = '"' + value.replace('"', '""') + '"'
        assert (
            index.search(queries, "image", 3, f"species == {quoted} or a.b [c]%s > 9 and id in ({quoted})") == [[]] * 5
        )
        assert index.search(queries, "image", 3, Condition("species", "in", (value,))) == [[]] * 5
    assert len(index) == 30
    assert ABOUT.dim == index.dim
