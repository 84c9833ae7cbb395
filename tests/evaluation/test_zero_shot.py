"""Zero-shot classification: against a slow loop, with ties, missing rows and bad prompts, for every score."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.evaluation.zero_shot import (
    class_scores,
    class_vectors,
    evaluate_zero_shot,
    zero_shot_credit,
    zero_shot_predict,
)
from confu.plan import Subset, pairwise_plan
from oracles import unit, zero_shot_oracle

from .scoring_oracle import scores_oracle

IMAGE, AUDIO, TEXT, BOTH = Subset("image"), Subset("audio"), Subset("text"), Subset("image", "audio")


@settings(max_examples=15)
@given(n=st.integers(0, 9), classes=st.integers(1, 5), extra=st.integers(0, 6), seed=st.integers(0, 99))
def test_predictions_match_the_slow_loop(n, classes, extra, seed):
    prompt_classes = torch.cat([torch.arange(classes), torch.arange(extra) % classes])
    prompts = unit(len(prompt_classes), 7, seed)
    queries = unit(n, 7, seed + 1)
    predictions, cosines = zero_shot_predict(queries, prompts, prompt_classes)
    assert predictions.tolist() == zero_shot_oracle(queries, prompts, prompt_classes)
    assert cosines.shape == (n, classes)


def test_ties_share_the_credit():
    cosines = torch.tensor([[0.5, 0.5, 0.1], [0.5, 0.5, 0.1], [0.2, 0.2, 0.2], [0.9, 0.1, 0.1]])
    credit = zero_shot_credit(cosines, torch.tensor([0, 2, 1, 0]))
    assert credit.tolist() == pytest.approx([0.5, 0.0, 1 / 3, 1.0])


def labelled(missing=0):
    """Image tells the first half of the label, audio the second; only both together tell the class."""
    classes = torch.arange(24) % 4
    corners = torch.eye(4)
    image = normalize(corners[classes] + corners[classes ^ 1] * 1.01, dim=-1)  # always a bit nearer to the wrong one
    audio = normalize(corners[classes] + corners[classes ^ 2] * 1.01, dim=-1)
    mask = torch.arange(24) >= missing
    table = EmbeddingTable(
        tuple(map(str, range(24))),
        {IMAGE: image, AUDIO: audio, BOTH: corners[classes], TEXT: corners[classes]},
        {AUDIO: mask, BOTH: mask},
        classes,
    )
    return table, corners, torch.arange(4)


def test_fused_queries_stand_beside_the_mean_of_their_singles():
    table, prompts, prompt_classes = labelled(missing=4)
    result = evaluate_zero_shot(table, prompts, prompt_classes, TEXT, method="confu", seed=1)
    values = {row.query: (row.value, row.count) for row in result.rows}
    assert values == {"image": (0.0, 24), "audio": (0.0, 20), "image+audio": (1.0, 20), "mean(image, audio)": (1.0, 20)}
    assert {(row.metric, row.target, row.method, row.seed) for row in result.rows} == {("accuracy", "text", "confu", 1)}
    assert result.predictions["image+audio"].tolist() == [-1] * 4 + table.labels[4:].tolist()
    assert result.credit["image+audio"][:4].isnan().all()
    assert result.only_right(BOTH).tolist() == list(range(4, 24))
    assert result.only_right("image").tolist() == []


def test_bad_prompts_and_labels_are_refused():
    table, prompts, prompt_classes = labelled()
    with pytest.raises(ValueError, match=r"at least one embedding per class; got none\. Write a sentence for each"):
        evaluate_zero_shot(table, prompts[:0], prompt_classes[:0], TEXT)
    with pytest.raises(ValueError, match="class from 0 to 3 needs a prompt; 2 have none, the first is 1"):
        class_vectors(prompts[:2], torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1, .*; 12 do not, the first is 2 in row 2"):
        evaluate_zero_shot(table, prompts[:2], prompt_classes[:2], TEXT)
    with pytest.raises(ValueError, match="a class per prompt; got 3 for 4"):
        class_vectors(prompts, prompt_classes[:3])
    with pytest.raises(ValueError, match="prompts must be unit vectors"):
        class_vectors(2 * prompts, prompt_classes)
    with pytest.raises(ValueError, match="must be 0 or more; got -1"):
        class_vectors(prompts, prompt_classes - 1)
    with pytest.raises(ValueError, match="queries and prompts must have the same dim"):
        evaluate_zero_shot(table, torch.eye(3), torch.arange(3), TEXT)


def test_bad_queries_and_tables_are_refused():
    table, prompts, prompt_classes = labelled()
    with pytest.raises(ValueError, match=r"query image\+audio and target audio share audio"):
        evaluate_zero_shot(table, prompts, prompt_classes, AUDIO, queries=[BOTH])
    unlabelled = EmbeddingTable(table.ids, table.vectors)
    with pytest.raises(ValueError, match="the table has no labels"):
        evaluate_zero_shot(unlabelled, prompts, prompt_classes, TEXT)
    none_complete, *_ = labelled(missing=24)
    with pytest.raises(ValueError, match="no row is complete for the query audio"):
        evaluate_zero_shot(none_complete, prompts, prompt_classes, TEXT)
    with pytest.raises(ValueError, match="no subset of the table is disjoint"):
        evaluate_zero_shot(
            EmbeddingTable(("a",), {TEXT: torch.eye(1)}, labels=torch.zeros(1).long()),
            torch.eye(1),
            torch.zeros(1).long(),
            TEXT,
        )


METHODS = [("multilinear", 2), ("volume", 1), ("volume", 2), ("volume", 3), ("area", 2)]


@pytest.mark.parametrize(("score", "num_queries"), METHODS)
@settings(max_examples=6)
@given(n=st.integers(0, 6), classes=st.integers(1, 4), extra=st.integers(0, 5), seed=st.integers(0, 99))
def test_class_scores_by_any_method_match_the_slow_loop(score, num_queries, n, classes, extra, seed):
    prompt_classes = torch.cat([torch.arange(classes), torch.arange(extra) % classes])
    prompts = unit(len(prompt_classes), 7, seed)
    queries = [unit(n, 7, seed + 1 + i) for i in range(num_queries)]
    expected = torch.tensor(scores_oracle(score, queries, [class_vectors(prompts, prompt_classes)])).reshape(n, classes)
    predictions, scores = zero_shot_predict(queries, prompts, prompt_classes, score)
    torch.testing.assert_close(scores.float(), expected, atol=1e-6, rtol=0)
    assert torch.equal(predictions, scores.argmax(dim=1))

    each = torch.tensor(scores_oracle(score, queries, [prompts])).reshape(n, len(prompts))
    mean = torch.stack([each[:, prompt_classes == one].mean(dim=1) for one in range(classes)], dim=1)
    _, scores = zero_shot_predict(queries, prompts, prompt_classes, score, ensemble="scores")
    torch.testing.assert_close(scores.float(), mean, atol=1e-6, rtol=0)


def test_a_mean_of_scores_counts_how_well_prompts_agree():
    agree, differ = torch.eye(3)[[0, 0]], torch.eye(3)[[1, 2]]
    prompts, prompt_classes = torch.cat([agree, differ]), torch.tensor([0, 0, 1, 1])
    query = normalize(torch.tensor([[1.0, 0.9, 0.9]]), dim=-1)
    by_vectors, cosines = zero_shot_predict(query, prompts, prompt_classes)
    by_scores, means = zero_shot_predict(query, prompts, prompt_classes, ensemble="scores")
    assert (by_vectors.item(), by_scores.item()) == (1, 0)
    torch.testing.assert_close(means, cosines * torch.tensor([[1.0, 0.5**0.5]]))
    one_each = torch.tensor([0, 1, 2, 3])  # with one prompt a class there is nothing to average
    assert torch.equal(*(class_scores([query], prompts, one_each, ensemble=how) for how in ("vectors", "scores")))


def three(score, names=("image", "audio", "text"), missing=0, modalities=("image", "audio", "text")):
    """Of one-hot classes; what does not stand in `names` is left out of the table."""
    classes = torch.arange(24) % 4
    noise = {name: unit(24, 4, seed) for seed, name in enumerate(modalities)}
    return EmbeddingTable(
        tuple(map(str, range(24))),
        {Subset(name): normalize(torch.eye(4)[classes] + 0.3 * noise[name], dim=-1) for name in names},
        {AUDIO: torch.arange(24) >= missing} if "audio" in names else {},
        classes,
        plan=json.dumps(pairwise_plan(modalities).to_dict()),
        score=score,
    )


ANSWERED = {
    "cosine": {"image", "audio"},
    "multilinear": {"image+audio"},
    "area": {"image+audio"},
    "volume": {"image", "audio", "image+audio"},
}


@pytest.mark.parametrize("score", ANSWERED)
@pytest.mark.parametrize("names", [("image", "audio", "text"), ("image", "audio")])
def test_each_method_answers_the_queries_that_it_can(score, names):
    table = three(score, names, missing=4)
    result = evaluate_zero_shot(table, torch.eye(4), torch.arange(4), TEXT, method=score)
    assert {row.query for row in result.rows} == ANSWERED[score] == set(result.predictions) == set(result.credit)
    for row in result.rows:
        assert row.count == (24 if row.query == "image" else 20)
        assert row.value == 1.0 or score == "multilinear"
        assert result.predictions[row.query][:4].eq(-1).all() == (row.query != "image")


def test_the_accuracy_of_products_is_that_of_the_slow_loop():
    table = three("multilinear")
    (row,) = evaluate_zero_shot(table, torch.eye(4), torch.arange(4), TEXT).rows
    scores = torch.tensor(scores_oracle("multilinear", [table[IMAGE], table[AUDIO]], [torch.eye(4)]))
    assert row.value == float((scores.argmax(dim=1) == table.labels).double().mean())


def test_with_four_modalities_a_product_needs_three_to_ask():
    names = ("image", "audio", "depth", "text")
    for score, expected in [("multilinear", 1), ("volume", 7), ("area", 3)]:
        table = three(score, names[:3], modalities=names)
        rows = evaluate_zero_shot(table, torch.eye(4), torch.arange(4), TEXT).rows
        assert len(rows) == expected
        assert {len(row.query.split("+")) for row in rows} == {
            "multilinear": {3}, "volume": {1, 2, 3}, "area": {2}
        }[score]  # fmt: skip


@pytest.mark.parametrize("score", ANSWERED)
def test_a_collapsed_model_gets_chance_by_any_score(score):
    same = unit(1, 8).expand(20, 8)
    table = EmbeddingTable(
        tuple(map(str, range(20))), {IMAGE: same, AUDIO: same}, labels=torch.zeros(20).long(), score=score
    )
    for how in ("vectors", "scores"):
        result = evaluate_zero_shot(table, same[:5], torch.arange(5), TEXT, ensemble=how)
        assert [row.value for row in result.rows] == pytest.approx([0.2] * len(result.rows))


def test_queries_that_a_method_cannot_answer_are_refused():
    prompts, classes = torch.eye(4), torch.arange(4)
    with pytest.raises(ValueError, match=r"image -> text leaves out audio, .* \(Symile\) .* ask image\+audio -> text"):
        evaluate_zero_shot(three("multilinear"), prompts, classes, TEXT, queries=[IMAGE])
    with pytest.raises(ValueError, match=r"image -> text is 2 modalities, but the area of a triangle \(TRIANGLE\)"):
        evaluate_zero_shot(three("area"), prompts, classes, TEXT, queries=[IMAGE])
    with pytest.raises(ValueError, match="no query for text can be answered: image -> text leaves out audio"):
        evaluate_zero_shot(three("multilinear", ("image", "text")), prompts, classes, TEXT)
    with pytest.raises(ValueError, match=r"compares a vector of every modality, and the target image\+text has 2"):
        evaluate_zero_shot(three("volume"), prompts, classes, Subset("image", "text"))
    with pytest.raises(ValueError, match="no subset 'depth'; it has image, audio, text"):
        evaluate_zero_shot(three("volume"), prompts, classes, TEXT, queries=[Subset("depth")])
    with pytest.raises(ValueError, match="ensemble 'score' is not known; did you mean 'scores'"):
        evaluate_zero_shot(three("volume"), prompts, classes, TEXT, ensemble="score")
    for score in ANSWERED:
        bad = three(score)
        bad[IMAGE][5, 1] = torch.nan
        with pytest.raises(ValueError, match=r"the embeddings of image must be finite; 1 of 96 .* row 5"):
            evaluate_zero_shot(bad, prompts, classes, TEXT)
        with pytest.raises(ValueError, match=r"prompts must be finite; 4 of 16 .* row 2"):
            evaluate_zero_shot(three(score), prompts / torch.tensor([[1], [1], [0], [1]]), classes, TEXT)


def test_only_right_says_which_results_it_lacks():
    result = evaluate_zero_shot(three("multilinear"), torch.eye(4), torch.arange(4), TEXT)
    with pytest.raises(ValueError, match=r"no result for image, audio, only for image\+audio; put it into `queries`"):
        result.only_right(BOTH)


def test_intervals_are_asked_for_and_hold_the_value():
    table, prompts, prompt_classes = labelled()
    table[IMAGE][:10] = prompts[prompt_classes[torch.arange(10) % 4]]
    plain = evaluate_zero_shot(table, prompts, prompt_classes, TEXT).rows
    bounded = evaluate_zero_shot(table, prompts, prompt_classes, TEXT, confidence=0.95).rows
    assert [row.value for row in plain] == [row.value for row in bounded]
    assert {row.low for row in plain} == {None}
    image = bounded[0]
    assert image.value == pytest.approx(10 / 24)
    assert 0.15 < image.low < 0.3 < 0.5 < image.high < 0.7
    assert image.confidence == 0.95
