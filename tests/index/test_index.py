"""An index as it is used: made, searched, changed, opened again; and what it says to wrong input."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.index import About, Index, Items, parse_condition
from index.made import ABOUT, BOTH, DIM, IMAGE, TEXT, items, made, queries


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    with made(tmp_path_factory.mktemp("index") / "birds", items(40), items(30, seed=1, start=40)) as one:
        yield one


def test_hits_say_what_is_known_of_them(index):
    hit = index.search(items(40).table[TEXT][3], "text", k=1)[0][0]
    assert (hit.id, hit.media["text"], hit.metadata) == (
        "id3", "bird 3", {"year": 2003, "site": "a", "weight": 0.75, "tame": False}
    )  # fmt: skip
    assert hit.score == pytest.approx(1.0, abs=1e-6)
    lacking = next(id for id, has in zip(items(40).table.ids, items(40).table.complete[IMAGE].tolist()) if not has)
    assert index.get(lacking).subsets == (TEXT,) and "image" not in index.get(lacking).media
    with pytest.raises(ValueError, match=rf"item '{lacking}' has no image\+text; it has text"):
        index.vector(lacking, "text+image")
    assert torch.equal(index.vector("id3", "text"), items(40).table[TEXT][3])
    with pytest.raises(KeyError, match="nobody"):
        index.get("nobody")


def test_queries_may_be_vectors_or_encoded_items(index):
    class Encoded:
        vectors = queries()

    many = index.search(queries(), "image+text")
    assert many == index.search(Encoded(), "text+image")
    longer = index.search(queries() * 7, BOTH)
    assert [[hit.id for hit in hits] for hits in longer] == [[hit.id for hit in hits] for hits in many]
    assert index.search(queries()[0], BOTH)[0] == index.search(queries()[:1], BOTH)[0]
    assert index.search(torch.empty(0, DIM), BOTH) == []


def test_conditions_may_be_texts(index):
    texts = ["year >= 2004", "site in a, c", "tame = true"]
    assert index.search(queries(), TEXT, 5, texts) == index.search(
        queries(), TEXT, 5, [parse_condition(one) for one in texts]
    )


def test_items_come_back_in_the_order_in_which_they_are_asked(index):
    turned = index.fetch(["id69", "id0", "id40"])
    assert turned.table.ids == ("id69", "id0", "id40")
    assert torch.equal(turned.table[TEXT][1], items(40).table[TEXT][0])
    assert turned.metadata["year"].to_pylist() == [None, 2000, 2000]
    assert list(index.ids()) == [f"id{number}" for number in range(70)] and len(index) == 70


def test_several_read_what_one_writes(tmp_path):
    index = made(tmp_path / "index", items(20))
    reader = Index.open(tmp_path / "index")
    assert not reader.refresh()
    index.add(items(5, start=100))
    assert len(reader) == 20 and reader.refresh() and len(reader) == 25 and not reader.refresh()
    index.delete(["id3"])
    index.compact()
    assert reader.get("id3").media["text"] == "bird 3"  # what it has open stays readable
    assert reader.refresh()
    with pytest.raises(KeyError):
        reader.get("id3")
    with pytest.raises(ValueError, match=r"is being written by another process; wait until it has ended"):
        Index.open(tmp_path / "index", writable=True)
    with pytest.raises(ValueError, match="open for reading only; open it with writable=True"):
        reader.delete(["id4"])
    index.close()
    with pytest.raises(ValueError, match="was closed; open it again"):
        index.search(queries(), TEXT)
    Index.open(tmp_path / "index", writable=True).close()


def test_vectors_of_any_length_are_stored_as_unit_vectors(tmp_path):
    index = made(tmp_path / "index")
    long = 3 * torch.randn(4, DIM)
    index.add(Items(EmbeddingTable(("a", "b", "c", "d"), {TEXT: long})))
    torch.testing.assert_close(index.fetch(["a", "b", "c", "d"]).table[TEXT], normalize(long, dim=1))
    assert index.get("a").subsets == (TEXT,) and index.search(queries()[0], IMAGE) == [[]]


WRONG_QUERIES = {
    "another dim": (torch.ones(2, 9), TEXT, {}, r"vectors of 8 numbers, as the index holds; got shape \(2, 9\)"),
    "no vector": (torch.ones(2, 2, 8), TEXT, {}, r"got shape \(2, 2, 8\)"),
    "a list": ([1.0] * 8, TEXT, {}, "queries must be a tensor, or what Embedder.encode gives; got list"),
    "zeros": (torch.zeros(8), TEXT, {}, "queries must not be zero, for they have no direction; row 0 is"),
    "nan": (torch.full((8,), torch.nan), TEXT, {}, "queries must be finite"),
    "target": (torch.ones(8), "txet", {}, "target 'txet' is not known; did you mean 'text'"),
    "k": (torch.ones(8), TEXT, {"k": 0}, "k must be a whole number of at least 1; got 0"),
    "column": (torch.ones(8), TEXT, {"where": ["yaer > 3"]}, "column 'yaer' is not known; did you mean 'year'"),
    "value": (torch.ones(8), TEXT, {"where": ["year > x"]}, "'year' holds int64; 'x' is none"),
    "form": (torch.ones(8), TEXT, {"where": ["year"]}, "a condition is COLUMN OPERATOR VALUE"),
}


@pytest.mark.parametrize("asked", WRONG_QUERIES.values(), ids=WRONG_QUERIES)
def test_a_wrong_question_is_answered_by_what_to_ask(index, asked):
    vectors, target, options, message = asked
    with pytest.raises(ValueError, match=message):
        index.search(vectors, target, **options)


def test_wrong_items_are_refused_whole(tmp_path):
    index = made(tmp_path / "index", items(3))
    zero = items(3, start=10).table.vectors[TEXT].clone()
    zero[1] = 0
    wrong = {
        "vectors of text must not be zero, for they have no direction; row 1 is": EmbeddingTable(
            tuple("abc"), {TEXT: zero}
        ),
        "vectors of text must be finite": EmbeddingTable(("a",), {TEXT: torch.full((1, DIM), torch.inf)}),
        "stores vectors of 8 numbers; the items have 3": EmbeddingTable(("a",), {TEXT: torch.ones(1, 3)}),
        r"the items have vectors of image\+audio": EmbeddingTable(
            ("a",), {BOTH.parse("image+audio"): torch.ones(1, DIM)}
        ),
        "an id must not be empty": EmbeddingTable(("",), {TEXT: torch.ones(1, DIM)}),
        "compares by volume": EmbeddingTable(("a",), {TEXT: torch.ones(1, DIM)}, score="volume"),
    }
    for message, table in wrong.items():
        with pytest.raises(ValueError, match=message):
            index.add(Items(table))
    assert len(index) == 3 and index.verify() == []


def test_an_index_is_made_in_a_new_or_empty_folder(tmp_path):
    made(tmp_path / "index", items(3)).close()
    with pytest.raises(ValueError, match="must be new or empty to make an index there"):
        Index.create(tmp_path / "index", ABOUT)
    with pytest.raises(ValueError, match="backend 'exakt' is not known; did you mean 'exact'"):
        Index.create(tmp_path / "other", ABOUT, "exakt")
    with pytest.raises(ValueError, match="the exact store has no options; got m"):
        Index.create(tmp_path / "other", ABOUT, m=3)
    with pytest.raises(ValueError, match=r"holds no index.json; expected a folder that `confu index` wrote"):
        Index.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable as the description of an index"),
        ("[]", "it has not the format 'confu.index'"),
        ('{"format": "confu.index", "version": 99}', "it has version 99, this confu reads version 2"),
        ('{"format": "confu.index", "version": 2, "backend": {"kind": "exact", "options": {}}}', "'about'"),
    ],
)
def test_a_damaged_description_is_an_error_that_names_it(tmp_path, content, message):
    made(tmp_path / "index", items(3)).close()
    (tmp_path / "index" / "index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index.json: ") as found:
        Index.open(tmp_path / "index")
    assert message in str(found.value)


def test_nothing_to_do_is_no_change(tmp_path):
    index = made(tmp_path / "index", items(3))
    reader = Index.open(tmp_path / "index")
    assert index.delete(["nobody"]) == 0
    index.compact()
    assert not reader.refresh()


def test_about_says_what_is_wrong_with_it():
    assert About.from_dict(json.loads(json.dumps(ABOUT.to_dict()))) == ABOUT
    for change, message in [
        ({"subsets": ()}, "at least one subset"), ({"subsets": (TEXT, TEXT)}, "each once"), ({"dim": 0}, "at least 1"),
        ({"kinds": {"text": "text"}}, "it lacks image"), ({"kinds": {"text": "smell", "image": "image"}}, "smell"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            replace(ABOUT, **change)
    with pytest.raises(ValueError, match="'dim' must be of type int; got 'x'"):
        About.from_dict({**ABOUT.to_dict(), "dim": "x"})
