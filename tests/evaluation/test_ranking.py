"""Ranks counted tile by tile: whatever the tiles, against slow loops, and never more than a tile at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from confu.evaluation import ranking
from confu.evaluation.ranking import count_ranks
from confu.evaluation.retrieval import retrieval_ranks

from .scoring_oracle import scores_oracle, unit

SCORES = [("cosine", 1, 1), ("multilinear", 2, 1), ("volume", 2, 2), ("area", 1, 2)]


@pytest.mark.parametrize(("score", "asking", "sought"), SCORES)
@settings(max_examples=15)
@given(
    n=st.integers(1, 7), m=st.integers(1, 11), distinct=st.integers(1, 11), chunk=st.integers(1, 8),
    tile=st.integers(1, 12), seed=st.integers(0, 99),
)  # fmt: skip
def test_every_tiling_counts_as_the_slow_loop(score, asking, sought, n, m, distinct, chunk, tile, seed):
    queries = [unit(n, 4, seed + i) for i in range(asking)]
    targets = [unit(distinct, 4, seed + 50 + i)[torch.arange(m) % distinct] for i in range(sought)]
    generator = torch.Generator().manual_seed(seed)
    own, groups = (torch.randint(low, m, (size,), generator=generator) for low, size in ((0, n), (-1, m)))
    better, tied, first, of_group = count_ranks(queries, targets, own, score, groups, chunk_size=chunk, tile_size=tile)
    for i, line in enumerate(scores_oracle(score, queries, targets)):
        width = 1e-6 if score == "cosine" else max(1e-12, 1e-6 * max(map(abs, line)))
        at = line[own[i]]
        assert better[i] == sum(one > at + width for one in line)
        assert tied[i] == sum(abs(one - at) <= width for one in line)
        assert line[first[i]] >= max(line) - width
        assert first[i] == line.index(max(line)) or score != "cosine"
        right = [j for j in range(m) if j == own[i] or (groups[j] == groups[own[i]] and groups[j] >= 0)]
        best = max(line[j] for j in right)
        others = [j for j in range(m) if j not in right]
        assert of_group.better[i] == sum(line[j] > best + width for j in others)
        assert of_group.tied[i] == sum(abs(line[j] - best) <= width for j in others)
        assert of_group.right[i] == sum(abs(line[j] - best) <= width for j in right)
        assert of_group.members[i] == len(right)


def test_of_equal_targets_the_first_is_the_first_in_any_tiling():
    queries, targets = torch.eye(4), torch.eye(4)[[1, 3, 0, 1, 2, 0, 3, 2, 1, 0]]
    for tile in range(1, 11):
        first = count_ranks([queries], [targets], torch.zeros(4, dtype=torch.long), tile_size=tile)[2]
        assert first.tolist() == [2, 0, 4, 1]


@pytest.mark.parametrize("tolerance", [0.0, 1e-6, 0.004])
def test_an_own_target_ties_with_itself_at_any_tolerance(tolerance):
    # Wide and odd, so that a product of another shape is rounded in another way. The cosines are i / 100 but for that.
    generator = torch.Generator().manual_seed(0)
    query, *others = torch.linalg.qr(torch.randn(517, 102, generator=generator))[0].T
    cosines = torch.arange(101)[:, None] / 100
    targets = cosines * query + (1 - cosines.square()).sqrt() * torch.stack(others)
    queries = query.expand(101, 517).contiguous()
    for tile in (7, 64, 101):
        better, tied, _, _ = count_ranks([queries], [targets], torch.arange(101), tolerance=tolerance, tile_size=tile)
        assert better.tolist() == [100 - i for i in range(101)]
        assert tied.tolist() == [1] * 101


def test_no_more_than_a_tile_is_held_at_once(monkeypatch):
    made = []
    plain = ranking.pair_scores
    monkeypatch.setattr(ranking, "_TILE", 4 * 2000)
    monkeypatch.setattr(ranking, "_ROWS", 16)
    monkeypatch.setattr(ranking, "pair_scores", lambda *args: (made.append(plain(*args)), made[-1])[1])
    queries, targets = unit(900, 4), unit(900, 4, seed=1)
    tiled = retrieval_ranks(queries, targets)
    assert max(one.numel() for one in made) <= 2000
    assert sum(one.numel() for one in made) == 900 * 900  # each score once
    monkeypatch.undo()
    whole = retrieval_ranks(queries, targets)
    assert torch.equal(tiled[0], whole[0])
    assert torch.equal(tiled[1], whole[1])


def test_nobody_asks():
    found = count_ranks([unit(0, 4)], [unit(0, 4)], torch.zeros(0, dtype=torch.long), groups=torch.zeros(0).long())
    assert [len(one) for one in found[:3]] == [0, 0, 0]
    assert len(found[3].members) == 0
