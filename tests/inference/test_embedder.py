"""Items of whatever modalities they have: each gets the embedding of exactly these, wherever it stands."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from confu.evaluation import pair_scores
from confu.inference import Embedder, Encoded, load
from confu.plan import Plan, Subset, pairwise_plan
from confu.types import Batch, Inputs

from .parts import NAMES, READERS, SENTENCES, SPARSE, embedder, items, run_folder, without

LACKING = {"text": {0, 1, 2}, "sensor": {2, 3}, "steps": {4, 5, 6}}


def alone(made: Embedder, sources: dict, row: int, subset: Subset) -> torch.Tensor:
    """The embedding of one item by the model itself, without the embedder's grouping."""
    inputs = {
        name: Inputs(made.readers[name].collate([made.readers[name].read(sources[name][row])]), torch.tensor([0]))
        for name in subset
    }
    with torch.no_grad():
        return made.model(Batch(inputs, ["x"]), [subset])[subset][0]


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_each_item_gets_the_embedding_of_exactly_what_it_has(batch_size):
    made, sources = embedder(), without(items(9), LACKING | {"text": {0, 1, 2, 7}, "sensor": {2, 3, 8}})
    found = made.encode(sources, batch_size=batch_size, workers=2)
    expected = [
        "sensor+steps",
        "sensor+steps",
        "steps",
        "steps+text",
        *["sensor+text"] * 3,
        "sensor+steps",
        "steps+text",
    ]
    assert list(map(str, found.subsets)) == expected
    assert found.vectors.shape == (9, made.dim) and found.vectors.dtype == torch.float32
    for row, subset in enumerate(found.subsets):
        torch.testing.assert_close(found.vectors[row], alone(made, sources, row, subset), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.vectors.norm(dim=1), torch.ones(9))
    found.vectors.add_(1)  # an inference-mode tensor would refuse this


def test_modalities_may_be_keywords_and_be_left_out():
    made, sources = embedder(), items(4)
    by_name = made.encode(text=sources["text"], sensor=sources["sensor"])
    assert {str(subset) for subset in by_name.subsets} == {"sensor+text"}  # in the plan's order
    both = made.encode({"text": sources["text"]}, sensor=sources["sensor"])
    assert torch.equal(by_name.vectors, both.vectors)
    assert len(made.encode(text=[])) == 0


def test_sources_may_be_arrays_tensors_lists_and_files(tmp_path):
    made, vector = embedder(), [0.5, -1.0, 2.0, 0.0, 1.0, 3.0]
    np.save(tmp_path / "a.npy", np.array(vector, dtype=np.float32))
    content = (tmp_path / "a.npy").read_bytes()
    forms = [vector, np.array(vector), torch.tensor(vector), tmp_path / "a.npy", str(tmp_path / "a.npy"), content]
    found = made.encode(sensor=forms).vectors
    torch.testing.assert_close(found, found[:1].expand(6, -1))


def test_a_subset_without_fusion_is_the_mean_of_its_parts():
    made, sources = embedder(Plan.parse(SPARSE, NAMES)), items(6)
    lacking = {"text": {1, 4}, "sensor": {0}, "steps": {2, 3}}
    with pytest.warns(
        UserWarning, match=r"no term trains sensor\+steps, sensor\+text, sensor\+steps\+text: embedded as"
    ):
        found = made.encode(without(sources, lacking))
    assert list(map(str, found.subsets))[1:4] == ["sensor+steps", "sensor+text", "sensor+text"]
    single = {name: made.encode({name: sources[name]}).vectors for name in NAMES}
    torch.testing.assert_close(found.vectors[0], made.encode(sources, use="steps+text").vectors[0])
    for row, names in {1: ("sensor", "steps"), 3: ("sensor", "text"), 5: NAMES}.items():
        mean = torch.nn.functional.normalize(sum(single[name][row] for name in names), dim=0)
        torch.testing.assert_close(found.vectors[row], mean)
    with pytest.warns(UserWarning, match=r"no term trains sensor\+text"):
        torch.testing.assert_close(made.encode(sources, use="sensor+text").vectors[2], found.vectors[2])


def test_a_subset_whose_parts_have_no_embedding_is_refused():
    made, sources = embedder(Plan.parse({"steps+text ~ sensor": 1}, NAMES)), items(6)
    with pytest.raises(ValueError) as error:
        made.encode(without(sources, {"text": {1, 4}}))
    assert str(error.value).startswith(
        "items 0, 2, 3, 5 have sensor+steps+text; items 1, 4 have sensor+steps, but this model embeds sensor, "
        "steps+text. Pass use='steps+text' to embed that part"
    )
    made = embedder(Plan.parse(SPARSE, NAMES))
    lacking = {"text": {1, 4}, "sensor": {0}, "steps": {2, 3}}
    found = made.encode(without(sources, lacking), use=["text+steps", "sensor"])
    assert list(map(str, found.subsets)) == ["steps+text", *["sensor"] * 4, "steps+text"]
    found = made.encode(sources, use="sensor")
    assert torch.equal(found.vectors, made.encode(sensor=sources["sensor"]).vectors)


def test_use_that_cannot_be_is_refused():
    made, sources = embedder(Plan.parse({"steps+text ~ sensor": 1}, NAMES)), items(3)
    with pytest.raises(ValueError, match=r"use names sensor\+text, but this model embeds sensor, steps\+text"):
        made.encode(sources, use="sensor+text")
    with pytest.raises(ValueError, match=r"item 1 has not all of steps\+text, which use asks for; item 1 has steps"):
        made.encode(without(sources, {"text": {1}, "sensor": {1}}), use=Subset("text", "steps"))
    with pytest.raises(ValueError, match="use must name a subset or several; got none"):
        made.encode(sources, use=[])


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({}, "nothing to encode; give a list for one or more of sensor, steps, text"),
        ({"txet": ["a"]}, "modality 'txet' is not known; did you mean 'text'"),
        ({"text": "a bird"}, r"text must be a list with one source an item.*got str. For one item write text=\[...\]"),
        ({"text": ["a", "b"], "sensor": [None]}, "text has 2, sensor has 1. Put None where"),
        ({"text": ["a bird", None], "sensor": [None, None]}, "item 1 has no modality at all"),
    ],
)
def test_bad_sources_are_refused(sources, message, as_users_run):
    with pytest.raises(ValueError, match=message):
        embedder().encode(sources)


def test_a_broken_source_is_named_by_modality_and_position(tmp_path):
    made, sources = embedder(), items(5)
    sources["text"][1], sources["sensor"][3] = None, tmp_path / "gone.npy"
    with pytest.raises(ValueError, match=r"^sensor\[3\]: .*gone.npy: .*no such file"):
        made.encode(sensor=sources["sensor"], text=sources["text"], batch_size=2)
    with pytest.raises(ValueError, match=r"^text\[2\]: .*empty text"):
        made.encode(text=["a", "b", " "])
    with pytest.raises(ValueError, match=r"^sensor\[0\]: .*expected a vector of 6 numbers"):
        made.encode(sensor=[[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"^sensor\[1\]: .*NaN"):
        made.encode(sensor=[[1.0] * 6, [float("nan")] * 6])


def test_similarity_is_the_cosine():
    made, sources = embedder(), items(4)
    a, b = made.encode(sensor=sources["sensor"]), made.encode(text=sources["text"][:3])
    expected = torch.nn.functional.cosine_similarity(a.vectors[:, None], b.vectors[None], dim=2)
    torch.testing.assert_close(made.similarity(a, b), expected)
    assert torch.equal(made.similarity(a.vectors, b), made.similarity(a, b))


def test_zero_shot_takes_the_class_whose_mean_prompt_is_nearest():
    made, sources = embedder(), items(5)
    classes = {"bird": SENTENCES[:1], "other": ["two blue fish", "the old cat sleeps"]}
    queries = {"sensor": sources["sensor"]}
    names, scores = made.zero_shot(queries, classes)
    prompts = made.encode(text=SENTENCES).vectors
    means = torch.stack([prompts[0], normalize(prompts[1:].mean(dim=0), dim=0)])
    torch.testing.assert_close(scores, made.encode(queries).vectors @ means.T)
    assert names == [list(classes)[best] for best in scores.argmax(dim=1)]
    assert made.zero_shot(made.encode(queries), classes, target="text")[0] == names


def test_zero_shot_needs_prompts_and_their_modality():
    made = embedder()
    encoded = made.encode(text=["a"])
    for classes in ({}, {"bird": []}):
        with pytest.raises(ValueError, match="classes must name at least one class, and give each a list"):
            made.zero_shot(encoded, classes)
    lists = Embedder(made.model, made.readers)
    lists.readers = {name: reader for name, reader in made.readers.items() if name != "text"}
    with pytest.raises(ValueError, match=r"target must name the modality of the prompts: the model has 0 texts"):
        lists.zero_shot(encoded, {"bird": ["a"]})


@pytest.mark.parametrize("score", ["multilinear", "volume"])
def test_scores_of_all_modalities_have_no_similarity(score):
    made, sources = embedder(pairwise_plan(NAMES), score=score), items(3)
    parts = {name: made.encode({name: sources[name]}) for name in NAMES}
    with pytest.raises(ValueError, match=rf"by {score}.*confu.evaluation.pair_scores\('{score}'"):
        made.similarity(parts["sensor"], parts["text"])
    with pytest.raises(ValueError, match="fuses none: encode each modality by itself"):
        made.encode(sources)
    scores = pair_scores(score, [parts["sensor"].vectors, parts["steps"].vectors], [parts["text"].vectors])
    assert scores.shape == (3, 3)


def test_only_the_towers_asked_for_are_loaded(tmp_path):
    folder = run_folder(tmp_path)
    whole, part = load(folder), load(folder, modalities=["text", "sensor"])
    assert part.modalities == ("sensor", "text")
    assert list(map(str, part.subsets)) == ["sensor", "text", "sensor+text"]
    assert set(part.model.encoders) == {"sensor", "text"} and set(part.model.fusers) == {"sensor+text"}
    assert part.supports("text+sensor") and not part.supports("steps") and not part.supports("sensor+steps")
    sources = {name: items(3)[name] for name in part.modalities}
    assert torch.equal(part.encode(sources).vectors, whole.encode(sources).vectors)
    with pytest.raises(ValueError, match="modality 'steps' is not known"):
        part.encode(steps=[[[1.0, 2.0, 3.0]]])
    with pytest.raises(ValueError, match="only sensor, text of this model are loaded, without steps; load all"):
        part.save_pretrained(tmp_path / "flat")
    with pytest.raises(ValueError, match="modality 'tex' is not known; did you mean 'text'"):
        load(folder, modalities=["tex"])


def test_an_embedder_needs_a_reader_of_every_tower(as_users_run):
    made = embedder()
    with pytest.raises(ValueError, match="readers must name one for every modality of the model; it lacks text"):
        Embedder(made.model, {name: made.readers[name] for name in ("sensor", "steps")})
    assert not made.model.training
    assert isinstance(made.encode(text=["a"]), Encoded)
    assert set(READERS) == set(made.modalities)
    for wrong in ({"batch_size": 0}, {"workers": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            made.encode(text=["a"], **wrong)


def test_one_fingerprint_means_the_same_weights_and_readers():
    first, same, other = embedder(), embedder(), embedder(pairwise_plan(NAMES))
    assert first.parts.fingerprint() == same.parts.fingerprint() != other.parts.fingerprint()
    with torch.no_grad():
        next(same.model.parameters()).view(-1)[0] += 1e-6
    assert first.parts.fingerprint() != same.parts.fingerprint()
