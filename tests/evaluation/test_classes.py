"""Class centroids, confusions and the accuracy of each class, against loops."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.evaluation.classes import answer_with_largest, class_accuracy, confusion, evaluate_centroids
from confu.plan import Subset

IMAGE, AUDIO, BOTH = Subset("image"), Subset("audio"), Subset("image", "audio")


def table(n, seed, labels, complete=None, names=(IMAGE, AUDIO, BOTH), score="cosine"):
    generator = torch.Generator().manual_seed(seed)
    vectors = {one: normalize(torch.randn(n, 4, generator=generator), dim=-1) for one in names}
    return EmbeddingTable([str(i) for i in range(n)], vectors, complete or {}, labels, score=score)


def nearest(train, test, subset, classes):
    """By a loop: the class whose mean training vector has the largest cosine."""
    found = []
    for query in test[subset]:
        scores = []
        for label in range(classes):
            rows = [i for i in range(len(train)) if int(train.labels[i]) == label and bool(train.complete[subset][i])]
            mean = sum(train[subset][i] for i in rows) / len(rows)
            scores.append(float(query @ mean) / math.sqrt(float(mean @ mean)))
        found.append(scores.index(max(scores)))
    return found


def test_the_nearest_centroid_matches_a_loop_without_gaps():
    masks = {AUDIO: torch.tensor([False] * 3 + [True] * 27)}
    masks[BOTH] = masks[AUDIO]
    train = table(30, 0, torch.arange(30) % 3, masks)
    test = table(8, 1, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]), {AUDIO: torch.tensor([True] * 6 + [False] * 2)})
    result = evaluate_centroids(train, test, 3, "confu", 4, confidence=0.9)
    assert [row.query for row in result.rows] == ["image", "audio", "image+audio", "mean(image, audio)"]
    for subset in (IMAGE, BOTH):
        assert result.predictions[str(subset)].tolist() == nearest(train, test, subset, 3)
    assert result.predictions["audio"][6:].tolist() == [-1, -1]
    assert result.credit["audio"][6:].isnan().all()
    by_query = {row.query: row for row in result.rows}
    right = (result.predictions["image"] == test.labels).float().mean()
    assert by_query["image"].value == pytest.approx(float(right))
    assert (by_query["image"].target, by_query["image"].seed, by_query["audio"].count) == ("label", 4, 6)
    assert by_query["mean(image, audio)"].count == 6


def test_a_class_that_no_training_row_has_is_never_predicted():
    train = table(6, 0, torch.tensor([0, 0, 0, 2, 2, 2]))
    test = table(9, 1, torch.arange(9) % 3)
    result = evaluate_centroids(train, test, 3)
    assert not (result.predictions["image"] == 1).any()
    assert (result.credit["image"][test.labels == 1] == 0).all()


def test_the_mean_of_all_modalities_is_asked_without_a_fused_subset():
    train = table(30, 0, torch.arange(30) % 3, names=(IMAGE, AUDIO))
    result = evaluate_centroids(train, train, 3)
    assert [row.query for row in result.rows] == ["image", "audio", "mean(image, audio)"]
    both = {BOTH: normalize(train["image"] + train["audio"], dim=1)}
    fused = EmbeddingTable(train.ids, both, {}, train.labels)
    assert result.predictions["mean(image, audio)"].tolist() == nearest(fused, fused, BOTH, 3)


def test_other_scores_have_centroids_of_single_embeddings():
    train = table(6, 0, torch.arange(6) % 2, names=(IMAGE, AUDIO), score="volume")
    assert [row.query for row in evaluate_centroids(train, train, 2).rows] == ["image", "audio"]


def test_labels_are_checked(as_users_run):
    bare = table(4, 0, None)
    whole = table(4, 0, torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="the train table has no labels"):
        evaluate_centroids(bare, whole, 2)
    with pytest.raises(ValueError, match="the evaluated table has no labels"):
        evaluate_centroids(whole, bare, 2)
    with pytest.raises(ValueError, match=r"labels of the train table must lie in 0\.\.0; got 0 to 1"):
        evaluate_centroids(whole, whole, 1)


def test_confusions_and_class_accuracies_are_counts():
    predictions, labels = torch.tensor([0, 1, 2, 2, -1, 0]), torch.tensor([0, 1, 1, 2, 2, 2])
    found = confusion(predictions, labels, 4)
    for i in range(4):
        for j in range(4):
            assert found[i, j] == sum(a == i and b == j for a, b in zip(labels.tolist(), predictions.tolist()))
    accuracy, counts = class_accuracy(torch.tensor([1.0, 1, 0, 0.5, torch.nan, 0]), labels, 4)
    assert accuracy[:3].tolist() == [1.0, 0.5, 0.25]
    assert accuracy[3].isnan()
    assert counts.tolist() == [1, 2, 2, 0]


def test_the_largest_subset_answers():
    nan = float("nan")
    credit = {IMAGE: torch.tensor([0.0, 0, nan, nan]), AUDIO: torch.tensor([1.0, nan, 1, nan]),
              BOTH: torch.tensor([0.25, nan, nan, nan])}  # fmt: skip
    values, answered = answer_with_largest(credit)
    assert values[:3].tolist() == [0.25, 0.0, 1.0]
    assert values[3].isnan()
    assert answered == [BOTH, IMAGE, AUDIO, None]
    with pytest.raises(ValueError, match="credit must hold at least one query"):
        answer_with_largest({})
