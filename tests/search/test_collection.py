"""A trained model and its index, asked with any combination of inputs."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.index import Index
from confu.index.items import Items
from confu.inference import Embedder
from confu.plan import Subset
from confu.search import Collection, QueryError, SearchOptions
from confu.search.query import blend

from . import tiny_collection as tiny


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    made = tiny.open_collection(tmp_path_factory.mktemp("tiny"))
    yield made
    made.close()


def asked(colour="red", pitch="low", seed=11):
    draw = np.random.default_rng(seed)
    return {"image": tiny.picture(colour, draw), "audio": (tiny.tone(pitch, draw), tiny.RATE)}


def brute(collection, vector, target, k, keep=lambda row: True):
    """Ids by cosine with the stored vectors, found one by one."""
    ids = list(collection.index.ids())
    table = collection.index.fetch(ids).table
    rows = [row for row in table.rows_with(target).tolist() if keep(row)]
    scores = {ids[row]: float(table[target][row] @ vector) for row in rows}
    return sorted(scores.values(), reverse=True)[:k], scores


def check_hits(hits, scores, best):
    assert [hit.score for hit in hits] == pytest.approx(best, abs=1e-5)
    for hit in hits:
        assert hit.score == pytest.approx(scores[hit.id], abs=1e-5)


def test_both_together_find_what_neither_finds_alone(collection):
    ids, right = list(collection.index.ids()), {"fused": 0, "image": 0, "audio": 0}
    for seed, pair in enumerate(tiny.PAIRS):
        answer = collection.ask(asked(*pair, seed=seed), "text", k=1, singles=True)
        assert str(answer.query) == "image+audio" and str(answer.target) == "text"
        found = {"fused": answer.hits, **answer.singles}
        for name, hits in found.items():
            right[name] += tiny.is_right(hits[0].id, ids, pair)
    assert right["fused"] >= 14 and max(right["image"], right["audio"]) <= 8


def test_an_answer_is_that_of_a_loop(collection):
    sources = asked()
    answer = collection.ask(sources, "text", k=7, singles=True)
    vectors = {name: collection.embedder.encode({name: [sources[name]]}).vectors[0] for name in sources}
    fused = collection.embedder.encode({name: [source] for name, source in sources.items()}).vectors[0]
    torch.testing.assert_close(answer.vector, fused)
    for hits, vector in [
        (answer.hits, fused),
        *((answer.singles[name], vectors[name]) for name in sources),
        (answer.mean, normalize(vectors["image"] + vectors["audio"], dim=0)),
    ]:
        best, scores = brute(collection, vector, Subset("text"), 7)
        check_hits(hits, scores, best)


def test_conditions_and_exclusions_leave_k(collection):
    sources = asked()
    first = collection.ask(sources, "text", k=3).hits
    ids = list(collection.index.ids())
    answer = collection.ask(sources, "text", k=5, where=["hertz >= 300", "loud == true"], exclude=[first[0].id])
    columns = collection.index.fetch(ids).metadata.to_pylist()

    def keep(row):
        return columns[row]["hertz"] >= 300 and columns[row]["loud"] and ids[row] != first[0].id

    best, scores = brute(collection, answer.vector, Subset("text"), 5, keep)
    assert len(answer.hits) == 5
    check_hits(answer.hits, scores, best)
    assert answer.hits[0].media["text"].startswith("a ") and answer.hits[0].metadata["hertz"] >= 300


def test_hits_of_equal_content_are_folded(collection):
    """Every caption stands three times."""
    plain = collection.ask(asked(), "text", k=48).hits
    captions = list(dict.fromkeys(hit.media["text"] for hit in plain))
    for k in (1, 5, 16, 40):
        hits = collection.ask(asked(), "text", k=k, fold_equal=True).hits
        assert [hit.media["text"] for hit in hits] == captions[:k] and {hit.equal for hit in hits} == {3}
    first = next(hit for hit in plain if hit.media["text"] == captions[1])
    more = {"fold_equal": True, "exclude": [first.id], "where": "label is not null"}
    hits = collection.ask(asked(), "text", k=2, **more).hits
    assert [(hit.media["text"], hit.equal) for hit in hits] == [(captions[0], 3), (captions[1], 2)]
    assert {hit.equal for hit in collection.ask({"text": captions[0]}, "image", k=40, fold_equal=True).hits} == {1}
    assert {hit.equal for hit in plain} == {1}


def test_weights_blend_the_embeddings(collection):
    sources = asked()
    parts = collection.embed(sources), collection.embed(sources, "image"), collection.embed(sources, "audio")
    weights = {"audio+image": 0.5, "image": 0.25, "audio": 0.25}
    answer = collection.ask(sources, "text", weights=weights)
    expected = normalize(0.5 * parts[0] + 0.25 * parts[1] + 0.25 * parts[2], dim=0)
    torch.testing.assert_close(answer.vector, expected)
    alone = collection.ask(sources, "text", weights={"image": 3, "audio": 0})
    torch.testing.assert_close(alone.vector, parts[1])
    assert alone.hits == collection.ask({"image": sources["image"]}, "text").hits


def test_weights_stand_in_where_nothing_was_fused(collection):
    sources = {"text": "a red bird", "sensor": [1.0, 1.0, 0.0, 0.0]}
    with pytest.raises(QueryError, match=r"no embedding of text\+sensor together, but of .*weights, e.g.") as error:
        collection.ask(sources, "image")
    assert (error.value.argument, error.value.code) == ("query", "not_embedded")
    answer = collection.ask(sources, "image", weights={"text": 1, "sensor": 1}, singles=True)
    assert str(answer.query) == "text+sensor" and set(answer.singles) == {"text", "sensor"} and answer.hits
    assert answer.mean == answer.hits  # which is what these weights are


def test_questions_together_are_answered_as_alone(collection):
    wishes = [
        (asked("blue"), SearchOptions("text", 3, singles=True)),
        ({"text": "a red bird with a low call"}, SearchOptions("image", 5, where=["year > 2003"])),
        ({"image": asked("green")["image"]}, SearchOptions("text", 3)),
        ({"sensor": [1.0, 0.0, 0.0, 1.0]}, SearchOptions("image+audio", 2, exclude=["item-03"])),
        (asked("yellow", "deep"), SearchOptions("text", 3, weights={"image": 1.0, "audio": 1.0})),
    ]
    questions = [collection.query(collection.read(sources), wish) for sources, wish in wishes]
    questions.append(collection.query_of_item("item-07", "image", SearchOptions("text", 3)))
    questions.append(collection.vector_query(collection.read(asked())))
    for together, question in zip(collection.search(questions), questions):
        (alone,) = collection.search([question])
        torch.testing.assert_close(together.vector, alone.vector)
        assert [hit.score for hit in together.hits] == pytest.approx([hit.score for hit in alone.hits], abs=1e-5)
        assert list(together.singles) == list(alone.singles) and len(together.mean) == len(alone.mean)


def test_a_question_that_fails_does_not_touch_the_others(collection):
    good = collection.query(collection.read({"text": "a red bird"}), SearchOptions("image"))
    # A vector of another size than the encoder takes, which shows when it is encoded.
    bad = collection.query({"sensor": torch.zeros(3)}, SearchOptions("image"))
    found = collection.search([good, bad, good])
    assert isinstance(found[1], ValueError)
    assert found[0].hits == found[2].hits != []
    assert "in_dim" in str(found[1])


def test_an_item_asks_by_its_stored_vectors(collection):
    answer = collection.similar("item-07", "audio+image", "text", k=4, singles=True)
    torch.testing.assert_close(answer.vector, collection.index.vector("item-07", "image+audio"))
    assert set(answer.singles) == {"image", "audio"} and len(answer.mean) == 4
    assert "item-07" in [hit.id for hit in answer.hits]
    own = collection.similar("item-07", "image", "image", k=40)
    assert "item-07" not in [hit.id for hit in own.hits] and len(own.hits) == 40


@pytest.mark.parametrize(
    ("call", "argument", "code", "message"),
    [
        (lambda c: c.ask({}), "query", "no_input", "give one or more of image, audio, text, sensor"),
        (lambda c: c.ask({"text": None}), "query", "no_input", "nothing to search with"),
        (lambda c: c.ask({"vidoe": "x"}), "vidoe", "unknown_modality", "'vidoe' is not known; this model reads image"),
        (lambda c: c.ask({"image": b"no"}, "text"), "image", "bad_image", "not an image of a known format"),
        (lambda c: c.ask({"text": " "}, "image"), "text", "bad_text", "an empty text"),
        (lambda c: c.ask({"sensor": [1]}, "image"), "sensor", "bad_vector", "expected a vector of 4 numbers"),
        (lambda c: c.ask({"text": "a"}), "target", "no_target", "one of image, audio, sensor, image.audio"),
        (lambda c: c.ask({"text": "a"}, "sound"), "target", "unknown_target", "it has image, audio, text"),
        (lambda c: c.ask({"text": "a"}, "image+image"), "target", "bad_subset", "each modality once"),
        (lambda c: c.ask({"text": "a"}, "image", k=0), "k", "bad_k", "from 1 to 1000; got 0"),
        (lambda c: c.ask({"text": "a"}, "image", k=True), "k", "bad_k", "whole number"),
        (lambda c: c.ask({"text": "a"}, "image", where=["yaer > 1"]), "where", "bad_where", "did you mean 'year'"),
        (lambda c: c.ask({"text": "a"}, "image", where=["year"]), "where", "bad_where", "COLUMN OPERATOR VALUE"),
        (lambda c: c.ask({"text": "a"}, "image", where=["year > x"]), "where", "bad_where", "holds int64"),
        (lambda c: c.ask({"text": "a"}, "image", where=[f"year > {2**70}"]), "where", "bad_where", "64 bits"),
        (lambda c: c.ask({"text": "a"}, "image", weights={"image": 1}), "weights", "bad_weights", "asked by text"),
        (lambda c: c.ask({"text": "a"}, "image", weights={"text": float("nan")}), "weights", "bad_weights", "finite"),
        (lambda c: c.ask({"text": "a"}, "image", weights={"text": 0}), "weights", "bad_weights", "other than 0"),
        (lambda c: c.embed({"text": "a"}, "image"), "subset", "bad_subset", "needs image, which is not given"),
        (lambda c: c.similar("none", "image"), "id", "unknown_item", "no item 'none'"),
        (lambda c: c.similar("item-00", "audio", "text"), "subset", "not_embedded", "no embedding of audio; it has"),
        (lambda c: c.plane("sound"), "target", "unknown_target", "not in the index"),
        (lambda c: c.classify({"text": "a"}, []), "labels", "bad_labels", "1 to 1000"),
        (lambda c: c.classify({"text": "a"}, ["a", "a"]), "labels", "bad_labels", "there twice"),
        (lambda c: c.classify({"text": "a"}, [""]), "labels", "bad_labels", "not empty"),
        (lambda c: c.classify({"text": "a"}, {"a": []}), "labels", "bad_labels", "one or more prompts"),
        (lambda c: c.classify({"text": "a"}, "a"), "labels", "bad_labels", "list of names"),
        (lambda c: c.classify({"text": "a"}, ["a"], "x"), "template", "bad_template", "must hold {}"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_says_what_to_ask_instead(collection, as_users_run, call, argument, code, message):
    with pytest.raises(QueryError, match=message) as error:
        call(collection)
    assert (error.value.argument, error.value.code) == (argument, code)


def test_weights_may_be_negative_and_may_not_cancel(collection):
    text = {"text": "a red bird with a low call"}
    least = collection.ask(text, "text", k=60, weights={"text": -1.0}).hits
    assert [hit.score for hit in least] == pytest.approx(
        [-hit.score for hit in reversed(collection.ask(text, "text", k=60).hits)], abs=1e-5
    )
    one, other = Subset("image"), Subset("audio")
    vector = torch.tensor([0.6, 0.8])
    with pytest.raises(QueryError, match="cancel"):
        blend({one: vector, other: vector}, {one: 1e9, other: -1e9})


def test_labels_are_ranked_as_zero_shot_does(collection):
    sources, classes = {"image": asked("green")["image"]}, {"red": ["a red bird"], "green": ["a green bird", "green"]}
    ranked = collection.classify(sources, classes)
    names, scores = collection.embedder.zero_shot({"image": [sources["image"]]}, classes)
    assert ranked[0][0] == names[0] == "green"
    assert {name: score for name, score, _ in ranked} == pytest.approx(dict(zip(classes, scores[0].tolist())), abs=1e-5)
    assert sum(share for *_, share in ranked) == pytest.approx(1)
    powers = np.exp(np.array([score for _, score, _ in ranked]) / tiny.TEMPERATURE)
    assert [share for *_, share in ranked] == pytest.approx(list(powers / powers.sum()))
    by_name = collection.classify(sources, ["red", "green"], "a {} bird")
    assert by_name[1][1] == pytest.approx(ranked[1][1], abs=1e-5)
    bare = Collection(collection.embedder, collection.index)
    assert [share for *_, share in bare.classify(sources, ["red", "green"])] == [None, None]


def test_the_temperature_is_that_of_the_training(tmp_path):
    folder = tiny.write_collection(tmp_path, rounds=1)
    opened = Collection.open(folder)
    assert opened.temperature is None
    steps = [{"kind": "train", "metrics": {"temperature": value}} for value in (0.07, 0.05)]
    lines = [*map(json.dumps, steps), json.dumps({"kind": "end"}), '{"cut']
    (tmp_path / "model" / "log.jsonl").write_text("\n".join(lines))
    assert Collection.open(folder).temperature == 0.05
    assert Collection.open(folder, temperature=0.1).temperature == 0.1
    opened.close()


def test_a_model_that_was_moved_is_asked_for(tmp_path):
    folder = tiny.write_collection(tmp_path)
    (tmp_path / "model").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"model is no longer there; say where it lies now with run= \(--run FOLDER\)"):
        Collection.open(folder)
    Collection.open(folder, run=tmp_path / "moved").close()


def test_an_index_of_another_model_is_refused(collection, as_users_run):
    other = Embedder(collection.embedder.model, collection.embedder.readers)
    with torch.no_grad():
        weight = next(other.model.parameters()).view(-1)
        before = weight[0].clone()  # to be put back bitwise
        weight[0] += 1e-3
        try:
            with pytest.raises(ValueError, match=r"made by another model \(.*than the one given.*index again with"):
                Collection(other, collection.index)
        finally:
            weight[0] = before
    with pytest.raises(ValueError, match="temperature must be a positive number; got 0"):
        Collection(collection.embedder, collection.index, temperature=0)


def test_a_method_without_cosines_is_refused(collection, monkeypatch):
    monkeypatch.setattr(collection.embedder.model, "score", "volume")
    with pytest.raises(ValueError, match="compares the embeddings of all modalities at once, by volume"):
        Collection(collection.embedder, collection.index)


def test_the_map_puts_a_query_where_an_item_of_its_vector_lies(collection):
    plane = collection.plane("text")
    assert plane is collection.plane(Subset("text")) and len(plane.items) == len(collection.index)
    assert {label for *_, label in plane.items} == {" ".join(pair) for pair in tiny.PAIRS}
    answer = collection.similar("item-07", "text", "text")
    places = collection.places(answer)
    assert places[None] == pytest.approx(plane.places["item-07"], abs=1e-4)
    assert set(places) == {None, *(hit.id for hit in answer.hits)}
    fewer = len(collection.plane("image").items)
    assert fewer == len(collection.index) - 1  # one item has no picture
    assert collection.places(collection.search([collection.vector_query(collection.read(asked()))])[0]) == {}


def test_what_a_writer_publishes_is_seen_after_a_refresh(tmp_path):
    folder = tiny.write_collection(tmp_path, rounds=1)
    with Index.open(folder) as index:
        collection = Collection(tiny.embedder(), index)
        assert not collection.refresh()
        before, text = collection.plane("text"), "a red bird with a low call"
        vector = tiny.embedder().encode(text=[text]).vectors
        with Index.open(folder, writable=True) as writing:
            writing.add(Items(EmbeddingTable(["new"], {Subset("text"): vector}), media={"text": [text]}))
        assert "new" not in [hit.id for hit in collection.ask({"text": text}, "text", k=16).hits]
        assert collection.refresh() and not collection.refresh()
        found = collection.ask({"text": text}, "text", k=17).hits
        assert "new" in [hit.id for hit in found] and collection.plane("text") is not before
