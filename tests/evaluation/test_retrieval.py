"""Recall and ranks: against slow loops, when everything ties, under permutation, for every way of comparing."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.evaluation.report import ReportRow
from confu.evaluation.retrieval import (
    evaluate_retrieval,
    mean_reciprocal_rank,
    median_rank,
    rank_pair,
    recall_at_k,
    reciprocal_ranks,
    retrieval_means,
    retrieval_ranks,
)
from confu.evaluation.scoring import disjoint_pairs, mean_vectors
from confu.plan import Subset, pairwise_plan
from oracles import first_right_place_oracle, recall_at_k_oracle

from .scoring_oracle import score_ranks_oracle, unit

IMAGE, AUDIO, TEXT, BOTH = Subset("image"), Subset("audio"), Subset("text"), Subset("image", "audio")


@settings(max_examples=20)
@given(
    n=st.integers(1, 12),
    dim=st.sampled_from([1, 4, 16]),
    distinct=st.integers(1, 12),
    chunk=st.integers(1, 13),
    seed=st.integers(0, 99),
)
def test_ranks_and_recall_match_the_slow_loop(n, dim, distinct, chunk, seed):
    queries = unit(n, dim, seed)
    targets = unit(distinct, dim, seed + 1)[torch.arange(n) % distinct]  # captions that repeat
    better, tied = retrieval_ranks(queries, targets, chunk_size=chunk)
    assert (better.tolist(), tied.tolist()) == score_ranks_oracle("cosine", [queries], [targets])
    for k in range(1, n + 1):
        assert recall_at_k(better, tied, k) == pytest.approx(recall_at_k_oracle(better.tolist(), tied.tolist(), k))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_collapsed_model_gets_chance_and_not_one(value):
    n, dim = 40, 16
    collapsed = normalize(torch.full((n, dim), value), dim=-1)
    better, tied = retrieval_ranks(collapsed, collapsed)
    assert tied.tolist() == [n] * n
    for k in (1, 5, 10):
        assert recall_at_k(better, tied, k) == pytest.approx(k / n)
    assert median_rank(better, tied) == (n + 1) / 2


def test_identical_targets_tie_wherever_they_stand():
    # Wide vectors and an odd number of rows: where a matrix product rounds equal rows differently. A query's cosines
    # with the distinct targets are 0, 1, ... 6 in some order, over ten.
    n, dim = 501, 517
    basis = torch.linalg.qr(torch.randn(dim, 8, generator=torch.Generator().manual_seed(0)))[0].T
    cosines = (torch.arange(n)[:, None] * 3 + torch.arange(7)) % 7 / 10
    queries = cosines @ basis[:7] + (1 - cosines.square().sum(1, keepdim=True)).sqrt() * basis[7]
    targets = basis[torch.arange(n) % 7]
    _, tied = retrieval_ranks(queries, targets, chunk_size=97)
    expected = torch.bincount(torch.arange(n) % 7)[torch.arange(n) % 7]
    assert torch.equal(tied, expected)


@pytest.mark.parametrize("collapsed", [True, False])
def test_a_target_equal_to_the_own_one_is_found_as_well(collapsed):
    """Wherever its vector was rounded to; and what chance finds counts them too."""
    contents = {"image": torch.arange(6), "text": torch.tensor([3, 8, 3, -1, 8, -1])}
    generator = torch.Generator().manual_seed(4)
    queries = normalize(torch.randn(6, 2, generator=generator), dim=1)
    targets = torch.eye(2)[[0] * 6 if collapsed else [0, 1, 0, 1, 1, 0]]
    scores = (queries @ targets.T).tolist()
    targets[4] = normalize(targets[4] + torch.tensor([0.0, 1e-4]), dim=0)  # embedded in another batch than its equal
    table = EmbeddingTable([str(row) for row in range(6)], {IMAGE: queries, TEXT: targets})
    numbers = contents["text"].tolist()
    right = [[m == n or numbers[m] == numbers[n] >= 0 for n in range(6)] for m in range(6)]
    ranked = rank_pair(table, IMAGE, TEXT, contents=contents)["image"]
    places = [first_right_place_oracle(*pair) for pair in zip(scores, right)]
    for k in range(1, 7):
        assert ranked.recall(k).tolist() == pytest.approx([sum(one[:k]) for one in places])
    assert ranked.ranks().tolist() == pytest.approx([sum(p * (r + 1) for r, p in enumerate(one)) for one in places])
    assert ranked.reciprocal().tolist() == pytest.approx(
        [sum(p / (r + 1) for r, p in enumerate(one)) for one in places]
    )
    flat = [first_right_place_oracle([0] * 6, one) for one in right]
    assert ranked.chance(2) == pytest.approx(sum(sum(one[:2]) for one in flat) / 6)
    (row, *_) = evaluate_retrieval(table, (1,), [(IMAGE, TEXT)], contents=contents)
    assert row.value == pytest.approx(float(ranked.recall(1).mean()))
    back, plain = (rank_pair(table, TEXT, IMAGE, contents=given)["text"] for given in (contents, None))
    assert back.right is None and torch.equal(back.better, plain.better)  # no two images are equal


def test_bad_inputs_are_refused():
    with pytest.raises(ValueError, match=r"same dim; got queries \(3, 4\) and targets \(3, 16\)"):
        retrieval_ranks(unit(3, 4), unit(3, 16))
    with pytest.raises(ValueError, match="same number of rows"):
        retrieval_ranks(unit(3, 4), unit(2, 4))
    with pytest.raises(ValueError, match="queries must be unit vectors; row 0 has length 2"):
        retrieval_ranks(2 * unit(3, 4), unit(3, 4))
    bad = unit(3, 4)
    bad[1, 2] = float("nan")
    with pytest.raises(ValueError, match=r"targets must be finite; 1 of 12 .* row 1"):
        retrieval_ranks(unit(3, 4), bad)
    better, tied = retrieval_ranks(unit(3, 4), unit(3, 4))
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k must lie between 1 and the size of the gallery, 3; got {k}"):
            recall_at_k(better, tied, k)
    for measure, name in ((median_rank, "median rank"), (mean_reciprocal_rank, "mean reciprocal rank")):
        with pytest.raises(ValueError, match=f"{name} needs at least 1 row"):
            measure(better[:0], tied[:0])


def table(n=20, missing=0):
    mask = torch.arange(n) >= missing
    return EmbeddingTable(
        tuple(map(str, range(n))),
        {subset: unit(n, 16, seed) for seed, subset in enumerate((IMAGE, AUDIO, TEXT, BOTH))},
        {AUDIO: mask, BOTH: mask},
    )


def test_every_disjoint_pair_and_the_mean_are_measured():
    rows = evaluate_retrieval(table(), ks=(1, 5), method="confu", seed=3)
    asked = {(row.query, row.target) for row in rows}
    assert asked == {(str(query), str(target)) for query, target in disjoint_pairs(table().subsets)} | {
        ("mean(image, audio)", "text")
    }
    assert ("text", "image+audio") in asked
    assert {row.metric for row in rows} == {"recall@1", "recall@5", "median rank", "mean reciprocal rank"}
    assert {(row.method, row.seed, row.count) for row in rows} == {("confu", 3, 20)}


def test_a_pair_is_measured_on_its_complete_rows():
    full, holes = table(), table(missing=8)
    rows = {(row.query, row.target, row.metric): row for row in evaluate_retrieval(holes, ks=(1,))}
    assert rows["image", "text", "recall@1"].count == 20
    for query in ("image+audio", "mean(image, audio)", "audio"):
        assert rows[query, "text", "recall@1"].count == 12
    kept = full.select(torch.arange(8, 20))
    better, tied = retrieval_ranks(mean_vectors([kept[IMAGE], kept[AUDIO]]), kept[TEXT])
    assert rows["mean(image, audio)", "text", "median rank"].value == median_rank(better, tied)


def test_evaluate_retrieval_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match=r"k = 30 is larger than the gallery of .*20 complete rows"):
        evaluate_retrieval(table(), ks=(1, 30))
    with pytest.raises(ValueError, match=r"query image\+audio and target image share image"):
        evaluate_retrieval(table(), pairs=[(BOTH, IMAGE)])
    with pytest.raises(ValueError, match="no subset 'depth'"):
        evaluate_retrieval(table(), pairs=[(Subset("depth"), IMAGE)])


def test_sides_of_several_vectors_are_checked_one_by_one():
    x = unit(3, 4)
    with pytest.raises(ValueError, match=r"queries\[1\] must be unit vectors; row 0 has length 2"):
        retrieval_ranks([x, 2 * x], [x], score="volume")
    with pytest.raises(ValueError, match="same number of rows"):
        retrieval_ranks([x, x[:2]], [x], score="volume")
    with pytest.raises(ValueError, match="targets must hold one"):
        retrieval_ranks([x], [], score="volume")


@given(ranks=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=9))
def test_reciprocal_ranks_match_the_mean_over_tied_places(ranks):
    better, tied = torch.tensor(ranks).T
    expected = [sum(1 / place for place in range(b + 1, b + t + 1)) / t for b, t in ranks]
    assert reciprocal_ranks(better, tied).tolist() == pytest.approx(expected)
    assert mean_reciprocal_rank(better, tied) == pytest.approx(sum(expected) / len(expected))


def singles(score, names=("image", "audio", "text"), n=20, missing=0):
    return EmbeddingTable(
        tuple(map(str, range(n))),
        {Subset(name): unit(n, 16, seed) for seed, name in enumerate(names)},
        {AUDIO: torch.arange(n) >= missing},
        plan=json.dumps(pairwise_plan(names).to_dict()),
        score=score,
    )


@pytest.mark.parametrize(("score", "pairs"), [("multilinear", 6), ("area", 6), ("volume", 12)])
def test_a_method_is_measured_on_every_pair_that_it_answers(score, pairs):
    one = singles(score)
    rows = {(row.query, row.target, row.metric): row for row in evaluate_retrieval(one, ks=(1, 5))}
    assert len({key[:2] for key in rows}) == pairs
    assert not any(query.startswith("mean(") for query, *_ in rows)
    assert ("image", "text", "recall@1") in rows or score != "volume"
    better, tied = score_ranks_oracle(score, [one[IMAGE], one[AUDIO]], [one[TEXT]])
    assert rows["image+audio", "text", "recall@5"].value == pytest.approx(recall_at_k_oracle(better, tied, 5))
    better, tied = score_ranks_oracle(score, [one[TEXT]], [one[IMAGE], one[AUDIO]])
    assert rows["text", "image+audio", "recall@5"].value == pytest.approx(recall_at_k_oracle(better, tied, 5))


@pytest.mark.parametrize("score", ["multilinear", "area", "volume"])
def test_a_method_is_measured_on_rows_with_all_it_compares(score):
    rows = {(row.query, row.target): row for row in evaluate_retrieval(singles(score, missing=8), ks=(1,))}
    assert rows["image+audio", "text"].count == rows["text", "image+audio"].count == 12
    if score == "volume":
        assert rows["image", "text"].count == 20


def test_a_query_that_cannot_be_answered_is_refused():
    with pytest.raises(ValueError, match=r"image -> text leaves out audio, but .*ask image\+audio -> text"):
        evaluate_retrieval(singles("multilinear"), pairs=[(IMAGE, TEXT)])
    with pytest.raises(ValueError, match="image -> text is 2 modalities, but the area of a triangle"):
        evaluate_retrieval(singles("area"), pairs=[(IMAGE, TEXT)])
    with pytest.raises(ValueError, match=r"query image\+audio and target audio share audio"):
        evaluate_retrieval(singles("volume"), pairs=[(BOTH, AUDIO)])
    with pytest.raises(ValueError, match=r"no subset 'image\+audio'; it has image, audio, text"):
        evaluate_retrieval(singles("cosine"), pairs=[(TEXT, BOTH)])
    bad = singles("volume")
    bad[AUDIO][4, 2] = torch.nan
    with pytest.raises(ValueError, match=r"the embeddings of audio must be finite; 1 of 320 .* row 4"):
        evaluate_retrieval(bad)
    with pytest.raises(ValueError, match=r"k = 21 is larger than the gallery of audio -> image, 20 complete rows"):
        evaluate_retrieval(singles("volume"), ks=(21,))


def test_a_fused_query_without_fusion_uses_the_mean():
    rows = evaluate_retrieval(singles("cosine"), ks=(1,), pairs=[(BOTH, TEXT)])
    assert {row.query for row in rows} == {"mean(image, audio)"}
    assert not any("+" in row.query for row in evaluate_retrieval(singles("cosine"), ks=(1,)))


def test_intervals_are_asked_for_and_hold_the_value():
    plain, bounded = evaluate_retrieval(table(60)), evaluate_retrieval(table(60), confidence=0.9)
    assert [row.value for row in plain] == [row.value for row in bounded]
    assert {row.low for row in plain} == {None}
    assert all(row.low <= row.value <= row.high and row.confidence == 0.9 for row in bounded)
    assert any(row.low < row.high for row in bounded)
    assert bounded == evaluate_retrieval(table(60), confidence=0.9)


def test_the_means_of_table_2_follow_from_its_cells():
    # ConFu on MOSI. Printed beside these cells are 19.3 and 19.6; the first is 19.5.
    cells = {
        ("y", "x"): 21.0, ("z", "x"): 16.4, ("y+z", "x"): 16.7, ("x", "y"): 19.2, ("z", "y"): 21.0, ("x+z", "y"): 21.6,
        ("x", "z"): 16.1, ("y", "z"): 23.5, ("x+y", "z"): 20.5,
    }  # fmt: skip
    rows = [
        ReportRow("recall@10", query, target, value / 100, 686, "confu", 1) for (query, target), value in cells.items()
    ]
    others = [
        ReportRow("recall@10", "mean(x, y)", "z", 0.9, 686, "confu", 1),
        ReportRow("recall@10", "z", "x+y", 0.9, 686, "confu", 1),
        ReportRow("accuracy", "x", "z", 0.9, 686, "confu", 1),
    ]
    one, two = retrieval_means(rows + others)
    assert (one.query, one.target, one.metric, one.method, one.seed) == ("1 -> 1", "mean", "recall@10", "confu", 1)
    assert (two.query, two.count, two.note) == ("2 -> 1", 3 * 686, "mean of 3 pairs")
    assert one.value == pytest.approx(0.19533, abs=1e-5)
    assert two.value == pytest.approx(0.196)
    assert retrieval_means([one, two]) == []  # a mean is not averaged again


def test_means_are_by_metric_method_seed_and_size():
    rows = [
        row
        for seed in (0, 1)
        for row in evaluate_retrieval(singles("volume", ("w", "x", "audio", "z")), ks=(1,), method="gram", seed=seed)
    ]
    means = retrieval_means(rows)
    assert [(row.query, row.metric) for row in means if row.seed == 1 and row.metric == "recall@1"] == [
        (f"{size} -> 1", "recall@1") for size in (1, 2, 3)
    ]
    assert len(means) == 2 * 3 * 3
    (three,) = [row for row in means if (row.query, row.metric, row.seed) == ("3 -> 1", "median rank", 0)]
    cells = [row.value for row in rows if row.query.count("+") == 2 and row.metric == "median rank" and row.seed == 0]
    assert three.value == pytest.approx(sum(cells) / 4)
    assert retrieval_means([]) == []
    symile = retrieval_means(evaluate_retrieval(singles("multilinear"), ks=(1,)))
    assert {row.query for row in symile} == {"2 -> 1"}  # where a method answers nothing there is no row
