"""Recall and ranks: against slow loops, when everything ties, and under permutation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from confu._typing import Subset
from confu.embeddings import EmbeddingTable
from confu.evaluation.retrieval import (
    evaluate_retrieval,
    median_rank,
    recall_at_k,
    retrieval_ranks,
)
from confu.evaluation.scoring import disjoint_pairs, mean_vectors
from oracles import ranks_oracle, recall_at_k_oracle

IMAGE, AUDIO, TEXT, BOTH = Subset("image"), Subset("audio"), Subset("text"), Subset("image", "audio")


def unit(n, dim, seed=0):
    return normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 12),
    dim=st.integers(1, 5),
    distinct=st.integers(1, 12),
    chunk=st.integers(1, 13),
    seed=st.integers(0, 99),
)
def test_ranks_and_recall_match_the_slow_loop(n, dim, distinct, chunk, seed):
    queries = unit(n, dim, seed)
    targets = unit(distinct, dim, seed + 1)[torch.arange(n) % distinct]  # captions that repeat
    better, tied = retrieval_ranks(queries, targets, chunk_size=chunk)
    assert (better.tolist(), tied.tolist()) == ranks_oracle(queries, targets)
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
    # Wide vectors and an odd number of rows: where a matrix product rounds equal rows differently.
    n, dim = 1001, 517
    queries = unit(n, dim)
    targets = unit(7, dim, seed=1)[torch.arange(n) % 7]
    _, tied = retrieval_ranks(queries, targets, chunk_size=97)
    expected = torch.bincount(torch.arange(n) % 7)[torch.arange(n) % 7]
    assert torch.equal(tied, expected)


def test_perfect_and_reversed_models():
    eye = torch.eye(6)
    assert recall_at_k(*retrieval_ranks(eye, eye), 1) == 1.0
    assert recall_at_k(*retrieval_ranks(eye, -eye), 1) == 0.0
    assert median_rank(*retrieval_ranks(eye, -eye)) == 6.0


def test_permuting_the_pairs_permutes_the_ranks():
    queries, targets = unit(50, 8), unit(50, 8, seed=1)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(2))
    better, tied = retrieval_ranks(queries, targets)
    better_moved, tied_moved = retrieval_ranks(queries[order], targets[order])
    assert torch.equal(better_moved, better[order])
    assert torch.equal(tied_moved, tied[order])


def test_rotating_the_space_changes_nothing():
    queries, targets = unit(50, 8), unit(50, 8, seed=1)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(2)))
    before, after = retrieval_ranks(queries, targets), retrieval_ranks(queries @ rotation, targets @ rotation)
    assert torch.equal(before[0], after[0])


def test_bad_inputs_are_refused():
    with pytest.raises(ValueError, match=r"same dim; got queries \(3, 4\) and targets \(3, 5\)"):
        retrieval_ranks(unit(3, 4), unit(3, 5))
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
    with pytest.raises(ValueError, match="median rank needs at least 1 row"):
        median_rank(better[:0], tied[:0])


def table(n=20, missing=0):
    mask = torch.arange(n) >= missing
    return EmbeddingTable(
        tuple(map(str, range(n))),
        {subset: unit(n, 6, seed) for seed, subset in enumerate((IMAGE, AUDIO, TEXT, BOTH))},
        {AUDIO: mask, BOTH: mask},
    )


def test_every_disjoint_pair_is_measured_and_the_mean_stands_beside_the_fused_query():
    rows = evaluate_retrieval(table(), ks=(1, 5), method="confu", seed=3)
    asked = {(row.query, row.target) for row in rows}
    assert asked == {(str(query), str(target)) for query, target in disjoint_pairs(table().subsets)} | {
        ("mean(image, audio)", "text")
    }
    assert ("text", "image+audio") in asked
    assert {row.metric for row in rows} == {"recall@1", "recall@5", "median rank", "mean reciprocal rank"}
    assert {(row.method, row.seed, row.count) for row in rows} == {("confu", 3, 20)}


def test_a_pair_is_measured_on_the_rows_that_are_complete_for_both():
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
