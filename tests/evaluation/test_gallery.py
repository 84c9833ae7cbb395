"""Ranks in a gallery, against loops over every order in which ties can be broken."""

from itertools import combinations, permutations

import pytest
import torch

from confu.embeddings import EmbeddingTable
from confu.evaluation.ranking import chance_recall, first_hit_credit, usual_ks
from confu.evaluation.retrieval import evaluate_retrieval, rank_pair
from confu.plan import Subset

from .scoring_oracle import unit


def vectors(n, seed=0):
    return unit(n, 16, seed)


def table(n=12, names=("image", "audio", "text", "image+audio"), **more):
    return EmbeddingTable(
        tuple(f"r{i}" for i in range(n)), {Subset.parse(s): vectors(n, seed=i) for i, s in enumerate(names)}, **more
    )


@pytest.mark.parametrize(
    ("better", "tied", "right"), [(0, 0, 1), (1, 2, 1), (0, 2, 2), (2, 1, 3), (0, 3, 1), (4, 0, 1)]
)
def test_the_first_hit_is_counted_over_every_order_of_the_ties(better, tied, right):
    for k in range(1, 8):
        orders = list(permutations([False] * tied + [True] * right))
        places = [better + 1 + order.index(True) for order in orders]
        expected = sum(place <= k for place in places) / len(orders)
        found = first_hit_credit(torch.tensor([better]), torch.tensor([tied]), torch.tensor([right]), k)
        assert float(found[0]) == pytest.approx(expected, abs=1e-9)


def test_groups_of_one_give_the_numbers_of_own_targets():
    ranked = rank_pair(table(), Subset("image"), Subset("text"), torch.arange(12))["image"]
    for k in (1, 3, 12):
        assert torch.allclose(ranked.recall(k), ranked.group_recall(k))


def test_a_ranked_pair_agrees_with_the_report():
    gaps = {"audio": [True] * 9 + [False] * 3, "text": [False] + [True] * 11}
    gaps["image+audio"] = gaps["audio"]
    one = table(complete={Subset.parse(name): torch.tensor(mask) for name, mask in gaps.items()})
    query = Subset("image", "audio")
    found = rank_pair(one, query, Subset("text"))
    assert list(found) == ["image+audio", "mean(image, audio)"]
    rows = evaluate_retrieval(one, ks=(1, 5), pairs=[(query, Subset("text"))])
    for row in rows:
        ranked = found[row.query]
        values = {
            "recall@1": ranked.recall(1).mean(),
            "recall@5": ranked.recall(5).mean(),
            "median rank": ranked.ranks().quantile(0.5),
            "mean reciprocal rank": ranked.reciprocal().mean(),
        }
        assert float(values[row.metric]) == pytest.approx(row.value)
        assert len(ranked) == row.count == 8
    ranked = found["image+audio"]
    assert ranked.rows.tolist() == list(range(1, 9))
    assert set(ranked.first.tolist()) <= set(range(1, 9))
    spread = ranked.spread(ranked.recall(1), 12)
    assert spread.isnan().tolist() == [True] + [False] * 8 + [True] * 3


def test_nothing_complete_is_nothing_found_and_bad_k_is_refused():
    nobody = table(4, ("image", "text"), complete={Subset("image"): torch.zeros(4, dtype=torch.bool)})
    assert rank_pair(nobody, Subset("image"), Subset("text")) == {}
    ranked = rank_pair(table(4), Subset("image"), Subset("text"))["image"]
    with pytest.raises(ValueError, match="k must lie between 1 and the size of the gallery, 4; got 5"):
        ranked.recall(5)
    with pytest.raises(ValueError, match="there are no groups"):
        ranked.group_recall(1)


def test_chance_is_the_recall_of_a_random_order():
    members = torch.tensor([1, 3])
    assert chance_recall(20, 4) == pytest.approx(0.2)
    orders = list(combinations(range(7), 3))  # the first three of a gallery of seven
    expected = [sum(any(place < g for place in order) for order in orders) / len(orders) for g in members.tolist()]
    assert chance_recall(7, 3, members) == pytest.approx(sum(expected) / 2)
    assert usual_ks([]) == (1,)
