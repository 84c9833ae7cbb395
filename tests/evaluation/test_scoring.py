"""Ways of comparing: against slow loops; what each can answer, listed; and what it says when it cannot."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.evaluation.scoring import (
    answers,
    disjoint_pairs,
    pair_scores,
    query_chunks,
    query_vectors,
    queryable_subsets,
    sides,
    singles_of,
    tie_widths,
    why_not,
)
from confu.plan import Subset, pairwise_plan
from oracles import unit

from .scoring_oracle import scores_oracle

SHAPES = [
    ("cosine", 1, 1),
    ("multilinear", 1, 1),
    ("multilinear", 2, 1),
    ("multilinear", 1, 3),
    ("volume", 1, 1),
    ("volume", 2, 1),
    ("volume", 1, 2),
    ("volume", 2, 2),
    ("volume", 1, 3),
    ("area", 2, 1),
    ("area", 1, 2),
]


def table(score, names="xyz", fused=(), plan=True, n=4):
    subsets = [Subset(name) for name in names] + [Subset.parse(one) for one in fused]
    return EmbeddingTable(
        tuple(map(str, range(n))),
        {subset: unit(n, 8, seed) for seed, subset in enumerate(subsets)},
        plan=json.dumps(pairwise_plan(tuple(names)).to_dict()) if plan else "",
        score=score,
    )


@pytest.mark.parametrize(("score", "num_queries", "num_targets"), SHAPES)
@settings(max_examples=10)
@given(n=st.integers(1, 4), m=st.integers(1, 5), dim=st.integers(1, 7), seed=st.integers(0, 99))
def test_scores_match_the_slow_loop(score, num_queries, num_targets, n, m, dim, seed):
    queries = [unit(n, dim, seed + i) for i in range(num_queries)]
    targets = [unit(m, dim, seed + 50 + i) for i in range(num_targets)]
    expected = torch.tensor(scores_oracle(score, queries, targets), dtype=torch.float64)
    found = pair_scores(score, queries, targets)
    assert found.dtype == (torch.float32 if score == "cosine" else torch.float64)
    torch.testing.assert_close(found.double(), expected, atol=1e-6 if score == "cosine" else 1e-12, rtol=0)


@pytest.mark.parametrize(("score", "num_queries", "num_targets"), SHAPES)
def test_identical_targets_have_equal_scores_wherever_they_stand(score, num_queries, num_targets):
    n, dim = 61, 259  # odd, so that a matrix product rounds equal columns differently
    queries = [unit(n, dim, i) for i in range(num_queries)]
    targets = [unit(7, dim, 9 + i)[torch.arange(n) % 7] for i in range(num_targets)]
    scores = pair_scores(score, queries, targets)
    width = tie_widths(score, scores)
    assert bool(((scores[:, 7:] - scores[:, :-7]).abs() <= width).all())
    distinct = scores[:, :7].sort(dim=1).values.diff(dim=1)
    assert float((distinct <= width).double().mean()) < 0.01  # and others hardly ever do


def test_a_scale_shared_by_a_query_s_scores_makes_no_ties():
    near = normalize(unit(20, 16, 0) + 3e-4 * unit(20, 16, 1), dim=-1)
    queries, targets = [unit(20, 16, 0), near], [unit(20, 16, 2)]
    scores = pair_scores("volume", queries, targets)
    assert float(scores.abs().max()) < 1e-6  # an absolute width of 1e-6 would make all of them equal
    gaps = scores.sort(dim=1).values.diff(dim=1)
    assert bool((gaps > tie_widths("volume", scores)).double().mean() > 0.99)


def test_a_collapsed_row_ties_whatever_rounding_leaves_of_it():
    same = unit(1, 300).expand(50, 300)
    for score, queries in (("multilinear", 2), ("volume", 1), ("volume", 2), ("area", 2)):
        scores = pair_scores(score, [same] * queries, [same])
        assert bool(((scores - scores[:, :1]).abs() <= tie_widths(score, scores)).all())


@given(n=st.integers(0, 40), m=st.integers(0, 3_000_000), k=st.integers(2, 5))
def test_chunks_cover_every_query_once(n, m, k):
    covered = [i for rows in query_chunks(n, m, k) for i in range(n)[rows]]
    assert covered == list(range(n))
    assert all(rows.stop - rows.start <= 3 for rows in query_chunks(n, m, k, chunk_size=3))


def test_what_cannot_be_compared_is_refused():
    x = unit(3, 4)
    with pytest.raises(ValueError, match="score 'cosin' is not known; did you mean 'cosine'"):
        pair_scores("cosin", [x], [x])
    with pytest.raises(ValueError, match="a cosine compares one vector with one; got 2 for the query and 1 for the"):
        pair_scores("cosine", [x, x], [x])
    with pytest.raises(ValueError, match="exactly three vectors; got 1 on the query's side and 1"):
        pair_scores("area", [x], [x])


PAIRS = {  # what each method answers, with three modalities and with four
    ("cosine", "xyz"): "x>y x>z y>x y>z z>x z>y x+y>z z>x+y",  # the table holds x+y beside the single ones
    ("multilinear", "xyz"): "x+y>z x+z>y y+z>x x>y+z y>x+z z>x+y",
    ("area", "xyz"): "x+y>z x+z>y y+z>x x>y+z y>x+z z>x+y",
    ("volume", "xyz"): "x>y x>z y>x y>z z>x z>y x+y>z x+z>y y+z>x x>y+z y>x+z z>x+y",
    ("cosine", "wxyz"): "w>x w>y w>z x>w x>y x>z y>w y>x y>z z>w z>x z>y w>x+y z>x+y x+y>w x+y>z",
    ("multilinear", "wxyz"): (
        "w>x+y+z x>w+y+z y>w+x+z z>w+x+y w+x>y+z w+y>x+z w+z>x+y x+y>w+z x+z>w+y y+z>w+x "
        "w+x+y>z w+x+z>y w+y+z>x x+y+z>w"
    ),
    ("area", "wxyz"): (
        "w+x>y w+x>z w+y>x w+y>z w+z>x w+z>y x+y>w x+y>z x+z>w x+z>y y+z>w y+z>x "
        "y>w+x z>w+x x>w+y z>w+y x>w+z y>w+z w>x+y z>x+y w>x+z y>x+z w>y+z x>y+z"
    ),
    ("volume", "wxyz"): (
        "w>x w>y w>z x>w x>y x>z y>w y>x y>z z>w z>x z>y "
        "w+x>y w+x>z w+y>x w+y>z w+z>x w+z>y x+y>w x+y>z x+z>w x+z>y y+z>w y+z>x "
        "y>w+x z>w+x x>w+y z>w+y x>w+z y>w+z w>x+y z>x+y w>x+z y>x+z w>y+z x>y+z "
        "w+x>y+z w+y>x+z w+z>x+y x+y>w+z x+z>w+y y+z>w+x "
        "w>x+y+z x>w+y+z y>w+x+z z>w+x+y w+x+y>z w+x+z>y w+y+z>x x+y+z>w"
    ),
}


@pytest.mark.parametrize(("score", "names"), PAIRS, ids=lambda value: value)
@pytest.mark.parametrize("plan", [True, False])
def test_what_each_method_answers(score, names, plan):
    one = table(score, names, ["x+y"] if score == "cosine" else [], plan)
    every = [Subset(*(n for i, n in enumerate(names) if bits >> i & 1)) for bits in range(1, 2 ** len(names))]
    found = {f"{q}>{t}" for q in every for t in every if answers(one, q, t)}
    assert found == set(PAIRS[score, names].split())
    listed = [(q, t) for q, t in disjoint_pairs(queryable_subsets(one)) if answers(one, q, t)]
    assert {f"{q}>{t}" for q, t in listed} == found
    assert len(listed) == len(found)
    for q, t in listed:  # and what is said to be answered can be computed
        assert pair_scores(score, sides(one, q), sides(one, t)).shape == (4, 4)


@pytest.mark.parametrize(
    ("score", "query", "target", "reason"),
    [
        ("cosine", "x+y", "z", "the table has no subset 'x+y'; it has x, y, z"),
        ("cosine", "x", "depth", "the table has no subset 'depth'; it has x, y, z"),
        ("volume", "x+depth", "z", "the table has no subset 'depth'; it has x, y, z"),
        (
            "volume",
            "x+y",
            "y",
            "query x+y and target y share y, which tells the answer; ask with a subset that is disjoint from the "
            "target",
        ),
        (
            "multilinear",
            "x",
            "z",
            "x -> z leaves out y, but a multilinear product (Symile) compares x, y, z all at once; ask x+y -> z",
        ),
        (
            "area",
            "x",
            "z",
            "x -> z is 2 modalities, but the area of a triangle (TRIANGLE) is between exactly three, query and target "
            "together; ask with more modalities",
        ),
        ("volume", "x", "z", None),
    ],
)
def test_why_a_query_cannot_be_answered(score, query, target, reason):
    query, target = Subset.parse(query), Subset.parse(target)
    assert why_not(table(score), query, target) == reason
    assert answers(table(score), query, target) == (reason is None)


def test_four_modalities_are_too_many_for_a_triangle():
    reason = why_not(table("area", "wxyz"), Subset("w", "x"), Subset("y", "z"))
    assert reason == (
        "w+x -> y+z is 4 modalities, but the area of a triangle (TRIANGLE) is between exactly three, query and target "
        "together; ask with fewer modalities"
    )


def test_the_model_knows_modalities_that_the_table_may_lack():
    held = table("multilinear", "xyz")
    without_z = EmbeddingTable(held.ids, {s: held[s] for s in held.subsets[:2]}, plan=held.plan, score="multilinear")
    x, y, z, both = Subset("x"), Subset("y"), Subset("z"), Subset("x", "y")
    assert not answers(without_z, x, y)  # z takes part in every product of this model
    assert why_not(without_z, both, z) == "the table has no subset 'z'; it has x, y"
    assert answers(without_z, both, z, target_given=True)
    assert not answers(without_z, x, z, target_given=True)
    planless = EmbeddingTable(held.ids, without_z.vectors, score="multilinear")
    assert answers(planless, both, z, target_given=True)
    assert not answers(planless, x, z, target_given=True)
    for plan in ("{}", "no json", "[]"):
        broken = EmbeddingTable(held.ids, held.vectors, plan=plan, score="multilinear")
        with pytest.raises(ValueError, match=r"the table's plan does not say the model's modalities .* embed again"):
            answers(broken, x, y)


def test_the_mean_of_single_embeddings_is_for_cosines_only():
    x, y, z, both = Subset("x"), Subset("y"), Subset("z"), Subset("x", "y")
    assert singles_of(table("cosine"), both) == [x, y]
    assert singles_of(table("cosine"), x) == []
    assert singles_of(table("volume"), both) == []
    assert list(query_vectors(table("cosine", fused=["x+y"]), both, z)[1]) == ["x+y", "mean(x, y)"]
    assert list(query_vectors(table("cosine"), both, z)[1]) == ["mean(x, y)"]
    assert list(query_vectors(table("volume"), both, z)[1]) == ["x+y"]
    with pytest.raises(ValueError, match="query x\\+y and target x share x"):
        query_vectors(table("cosine"), both, x)
    with pytest.raises(ValueError, match="no subset 'depth'"):
        query_vectors(table("cosine"), both, Subset("depth"))


@pytest.mark.parametrize("score", ["cosine", "multilinear", "volume", "area"])
def test_bad_embeddings_are_named(score):
    one = table(score, fused=["x+y"] if score == "cosine" else [])
    query, target = Subset("x", "y"), Subset("z")
    one[Subset("y")][2, 3] = torch.nan
    with pytest.raises(
        ValueError, match=r"the embeddings of y must be finite; 1 of 32 numbers .* first in row 2\. Check"
    ):
        query_vectors(one, query, target)
    one[Subset("y")][2] = 2 * unit(1, 8)
    with pytest.raises(ValueError, match="the embeddings of y must be unit vectors; row 2 has length 2"):
        query_vectors(one, query, target)
