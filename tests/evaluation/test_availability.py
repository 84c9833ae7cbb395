"""Numbers by what rows have: patterns, the subset that answers, and ranks in one gallery."""

import json

import pytest
import torch

from confu.embeddings import EmbeddingTable
from confu.evaluation.availability import (
    EVERY_ROW,
    evaluate_availability,
    largest_query,
    rank_by_availability,
    row_patterns,
)
from confu.plan import Subset, pairwise_plan

from .scoring_oracle import unit

IMAGE, AUDIO, TEXT, BOTH = (Subset.parse(name) for name in ("image", "audio", "text", "image+audio"))


def gappy(n=30, seed=0, score="cosine", fused=True):
    """Rows 0, 3, 6, ... have all; of the others every second lacks the image or the audio; row 4 has a text only."""
    names = [IMAGE, AUDIO, TEXT, *([BOTH, Subset("image", "text"), Subset("audio", "text")] if fused else [])]
    present = {name: torch.ones(n, dtype=torch.bool) for name in ("image", "audio", "text")}
    present["image"][1::3] = False
    present["audio"][2::3] = False
    present["audio"][4] = False
    present["text"][3] = False
    complete = {one: torch.stack([present[name] for name in one]).all(0) for one in names}
    vectors = {one: unit(n, 16, seed + i) for i, one in enumerate(names)}
    plan = json.dumps(pairwise_plan(("image", "audio", "text")).to_dict())
    return EmbeddingTable([f"r{i}" for i in range(n)], vectors, complete, plan=plan, score=score)


def test_patterns_are_what_each_row_has():
    patterns = row_patterns(gappy())
    assert patterns[:6] == [Subset("image", "audio", "text"), Subset("audio", "text"), Subset("image", "text"),
                            Subset("image", "audio"), Subset("text"), Subset("image", "text")]  # fmt: skip


def test_each_row_queries_with_its_largest_subset():
    table = gappy()
    found = rank_by_availability(table, TEXT)
    assert {str(has): str(query) for has, (query, _) in found.ranked.items()} == {
        "image+audio": "image+audio", "audio": "audio", "image": "image"}  # fmt: skip
    assert found.unasked == {None: 1}  # row 4 has nothing beside its text
    assert found.without_target == 1
    gallery = [i for i in range(30) if i != 3]
    for query, ranked in found.ranked.values():
        assert ranked.gallery == 29
        for at, row in enumerate(ranked.rows.tolist()):
            scores = {j: float(table[query][row] @ table[TEXT][j]) for j in gallery}
            assert ranked.better[at] == sum(score > scores[row] + 1e-6 for score in scores.values())
            assert int(ranked.first[at]) == max(scores, key=scores.__getitem__)
    assert sum(len(ranked) for _, ranked in found.ranked.values()) == 28


def test_a_subset_that_is_not_embedded_is_no_query():
    assert largest_query(gappy(fused=False), Subset("image", "audio"), TEXT) == IMAGE
    assert largest_query(gappy(), Subset("text"), TEXT) is None
    assert largest_query(gappy(), None, TEXT) is None


@pytest.mark.parametrize(
    ("score", "asked"),
    [("multilinear", {"image+audio": "image+audio"}), ("area", {"image+audio": "image+audio"}),
     ("volume", {"image+audio": "image+audio", "audio": "audio", "image": "image"})],
)  # fmt: skip
def test_methods_that_compare_all_at_once_answer_what_they_can(score, asked):
    found = rank_by_availability(gappy(score=score, fused=False), TEXT)
    assert {str(has): str(query) for has, (query, _) in found.ranked.items()} == asked
    rest = {"image+audio", "audio", "image"} - set(asked)
    assert {str(has) for has in found.unasked if has is not None} == rest


def test_the_report_rows_add_up():
    rows = evaluate_availability(gappy(), [TEXT], ks=(1, 10, 100), confidence=0.95)
    metrics = {row.metric for row in rows}
    assert metrics == {"recall@1", "recall@10", "median rank", "mean reciprocal rank"}
    tens = [row for row in rows if row.metric == "recall@10"]
    parts = [row for row in tens if row.query != EVERY_ROW]
    (whole,) = (row for row in tens if row.query == EVERY_ROW)
    assert sum(row.count for row in parts) == whole.count == 28
    assert sum(row.count * row.value for row in parts) == pytest.approx(whole.count * whole.value)
    assert whole.note == "1 rows have nothing to ask with"
    assert {row.note for row in parts} == {"asked with image+audio", "asked with audio", "asked with image"}
    assert len({(row.metric, row.query, row.target) for row in rows}) == len(rows)


def test_a_complete_table_has_one_pattern():
    table = EmbeddingTable(("a", "b"), {IMAGE: torch.eye(2), TEXT: torch.eye(2)})
    found = rank_by_availability(table, TEXT)
    assert list(found.ranked) == [IMAGE]
    assert not found.unasked


def test_a_target_that_no_row_has_gives_no_number():
    table = EmbeddingTable(("a",), {IMAGE: torch.eye(1), TEXT: torch.eye(1)}, {TEXT: torch.tensor([False])})
    assert evaluate_availability(table, [TEXT]) == []
