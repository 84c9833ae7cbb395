"""What an evaluation measures: the same numbers as the functions it is made of, and loops over rows."""

from dataclasses import replace

import pytest
import torch

from confu.data.readers import build_reader
from confu.evaluation.classes import class_accuracy
from confu.evaluation.overlap import evaluate_overlap
from confu.evaluation.retrieval import evaluate_retrieval
from confu.evaluation.zero_shot import evaluate_zero_shot
from confu.plan import Subset
from confu.runs.measures import (
    CENTROID,
    GROUP,
    ZERO_SHOT,
    embed_texts,
    label_tensor,
    measure_centroids,
    measure_retrieval,
    measure_zero_shot,
    readable_names,
)
from runs.evaluated import CLASSES, PROMPTS, make_table

TEXT = Subset("text")


def by_names(rows):
    found = {(row.metric, row.query, row.target): row for row in rows}
    assert len(found) == len(rows)  # a number has one name
    return found


@pytest.mark.parametrize(
    ("modalities", "score", "gaps"),
    [
        (2, "cosine", 0.3),
        (3, "cosine", 0.0),
        (3, "cosine", 0.3),
        (3, "multilinear", 0.3),
        (3, "area", 0.3),
        (3, "volume", 0.0),
    ],
)
def test_retrieval_is_that_of_the_metrics(modalities, score, gaps):
    table = make_table(40, modalities, score, gaps)
    found = measure_retrieval(table, preferred=("text",))
    rows = by_names(found.rows)
    expected = [row for row in evaluate_retrieval(table, ks=(1,)) if row.metric != "recall@1" or row.count > 1]
    assert {(q, t) for _, q, t in map(tuple, ((r.metric, r.query, r.target) for r in expected))} == set(found.ranked)
    for row in expected:
        measured = rows[row.metric, row.query, row.target]
        assert (measured.value, measured.count) == (pytest.approx(row.value), row.count)
    assert found.ks[0] == 1
    if score in ("multilinear", "area"):
        assert any("all at once" in text or "exactly" in text for text in found.refused)


def test_the_gain_is_the_difference_on_the_same_rows():
    table = make_table(60, gaps=0.2)
    found = measure_retrieval(table, preferred=("text",))
    rows = by_names(found.rows)
    gain = rows["recall@10 gain", "image+audio", "text"]
    fused, mean = (rows["recall@10", query, "text"] for query in ("image+audio", "mean(image, audio)"))
    assert gain.value == pytest.approx(fused.value - mean.value)
    assert gain.count == fused.count == mean.count
    assert gain.low <= gain.value <= gain.high


def test_the_main_query_is_the_largest_of_the_target():
    table = make_table(30, 4)
    assert measure_retrieval(table, preferred=("text",)).main == (Subset("image", "audio", "depth"), TEXT)
    assert measure_retrieval(make_table(30)).main == (Subset("image", "audio"), TEXT)
    only = make_table(30, 3, fused=False)
    found = measure_retrieval(only, preferred=("text",))
    assert found.main == (Subset("image"), TEXT)
    assert ("mean(image, audio)", "text") in found.ranked
    assert found.overlap.queries == ("mean(image, audio)", "image", "audio")


def test_overlap_without_labels_is_of_hits_among_the_first_k():
    table = make_table(50, labels=False)
    found = measure_retrieval(table, preferred=("text",))
    names = ("image+audio", "image", "audio")
    credit = {name: found.ranked[name, "text"].recall(10) for name in names}
    expected = evaluate_overlap(credit, torch.zeros(50, dtype=torch.long)).shares
    assert found.overlap.shares == pytest.approx(expected)
    assert by_names(found.rows)["share image+audio only (recall@10)", " | ".join(names), "text"].value == pytest.approx(
        expected["image+audio only"]
    )


def test_groups_count_rows_of_the_same_group_as_right():
    table = make_table(40)
    groups = torch.arange(40) // 4
    found = measure_retrieval(table, groups, ("text",))
    rows = by_names(found.rows)
    scores = table["image"] @ table[TEXT].T
    first = scores.topk(5).indices
    expected = (groups[first] == groups[:, None]).any(1).float().mean()
    assert rows[f"recall@5{GROUP}", "image", "text"].value == pytest.approx(float(expected))
    assert rows["recall@5", "image", "text"].value <= float(expected)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_tiny_tables_are_measured_or_say_why_not(n):
    found = measure_retrieval(make_table(n))
    assert (found.main is None) == (n == 1)
    assert bool(found.refused) == (n == 1)
    assert found.ks == (1,)


def test_a_modality_that_no_row_has_leaves_the_others():
    table = make_table(20)
    nobody = {one: torch.zeros(20, dtype=torch.bool) for one in table.subsets if "audio" in one}
    found = measure_retrieval(type(table)(table.ids, table.vectors, nobody), preferred=("text",))
    assert found.main == (Subset("image"), TEXT)
    assert any(text.startswith("audio -> text: fewer than two rows") for text in found.refused)


def test_zero_shot_leaves_unknown_classes_out():
    table = make_table(30, gaps=0.2)
    labels = torch.where(torch.arange(30) < 5, -1, table.labels)
    found = measure_zero_shot(table, labels, CLASSES, PROMPTS)
    assert found.how == ZERO_SHOT
    known = table.select(torch.arange(5, 30))
    expected = {row.query: row for row in evaluate_zero_shot(known, PROMPTS.vectors, PROMPTS.classes, TEXT).rows}
    rows = by_names(found.rows)
    for query, row in expected.items():
        measured = rows["accuracy", query, "text"]
        assert (measured.value, measured.count) == (pytest.approx(row.value), row.count)
    assert (found.result.predictions["image"][:5] == -1).all()
    assert found.notes == ["5 of 30 rows have no known class, and are left out here"]
    whole = [one for one in found.answered if one is not None]
    assert rows["accuracy", "every row", "text"].count == len(whole)
    credit = {name: found.result.credit[name] for name in ("image+audio", "image", "audio")}
    for row, query in enumerate(found.answered):
        largest = next((name for name, values in credit.items() if not values[row].isnan()), None)
        assert str(query) == str(largest)


def test_prompts_that_are_alike_are_named():
    table = make_table(12)
    same = torch.eye(8)[[0, 1, 1]]
    found = measure_zero_shot(table, table.labels, CLASSES, replace(PROMPTS, vectors=same))
    assert "2 classes have prompts that the model cannot tell apart (dog and cow)" in found.notes[0]


def test_centroids_are_named_as_such_and_unseen_classes_are_told():
    table = make_table(12)
    found = measure_centroids(table, table, table.labels, (*CLASSES, "yak"))
    assert found.how == CENTROID
    assert found.prompts == ()
    assert found.notes == ["1 classes have no training row, and are never predicted: yak"]
    assert measure_centroids(table, table, torch.full((12,), -1), CLASSES) is None


def test_class_names_that_a_reader_cannot_read_are_told_apart():
    words = build_reader({"kind": "words", "vocabulary": ["cat", "sea", "lion"]})
    assert readable_names(words, ["cat", "⺀", "sea_lion", "_", "unheard"]) == [0, 2, 4]


@pytest.mark.parametrize("how", [ZERO_SHOT, CENTROID])
def test_rows_of_several_classes_are_right_by_one_of_theirs(how):
    table = make_table(40, gaps=0.2)

    def measure(labels):
        if how == ZERO_SHOT:
            return measure_zero_shot(table, labels, CLASSES, PROMPTS)
        return measure_centroids(table, table, labels, CLASSES, label_tensor(sets, CLASSES, True))

    sets = [(CLASSES[label],) for label in table.labels.tolist()]
    single, same = measure(table.labels), measure(label_tensor(sets, CLASSES, True))
    assert [row.value for row in same.result.rows] == [row.value for row in single.result.rows]
    sets = [(*own, "cow") if row % 2 else () if row % 10 == 0 else own for row, own in enumerate(sets)]
    found = measure(label_tensor(sets, CLASSES, True))
    for query, predictions in found.result.predictions.items():
        expected = [
            float(CLASSES[one] in own) if own and one >= 0 else float("nan")
            for own, one in zip(sets, predictions.tolist())
        ]
        torch.testing.assert_close(found.result.credit[query], torch.tensor(expected), equal_nan=True)
    assert any("may have several classes" in note for note in found.notes)
    accuracy, counts = class_accuracy(found.result.credit["image"], label_tensor(sets, CLASSES, True), len(CLASSES))
    for number, name in enumerate(CLASSES):
        credit = [float(one) for own, one in zip(sets, found.result.credit["image"]) if name in own and not one.isnan()]
        assert (float(accuracy[number]), int(counts[number])) == (pytest.approx(sum(credit) / len(credit)), len(credit))


def test_texts_are_embedded_as_in_training():
    from confu.models import MultimodalModel
    from confu.nn.encoders import build_encoder
    from confu.plan import pairwise_plan

    reader = build_reader({"kind": "words", "vocabulary": ["cat", "dog", "a"]})
    encoders = {
        "text": build_encoder({"kind": "tokens", "vocab_size": 6, "width": 16, "layers": 1, "out_dim": 8}),
        "image": build_encoder({"kind": "mlp", "in_dim": 4, "hidden_dims": [8], "out_dim": 8}),
    }
    model = MultimodalModel(pairwise_plan(("image", "text")), encoders, dim=8)
    found = embed_texts(model, reader, "text", ["a cat", "dog", "a cat"])
    assert found.shape == (3, 8)
    assert torch.allclose(found[0], found[2])
    assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)
