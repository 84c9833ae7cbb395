"""Zero-shot classification: against a slow loop, with ties, missing rows and bad prompts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from confu._typing import Subset
from confu.embeddings import EmbeddingTable
from confu.evaluation.zero_shot import class_vectors, evaluate_zero_shot, zero_shot_credit, zero_shot_predict
from oracles import zero_shot_oracle

IMAGE, AUDIO, TEXT, BOTH = Subset("image"), Subset("audio"), Subset("text"), Subset("image", "audio")


def unit(n, dim, seed=0):
    return normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(0, 9), classes=st.integers(1, 5), extra=st.integers(0, 6), seed=st.integers(0, 99))
def test_predictions_match_the_slow_loop(n, classes, extra, seed):
    prompt_classes = torch.cat([torch.arange(classes), torch.arange(extra) % classes])
    prompts = unit(len(prompt_classes), 7, seed)
    queries = unit(n, 7, seed + 1)
    predictions, cosines = zero_shot_predict(queries, prompts, prompt_classes)
    assert predictions.tolist() == zero_shot_oracle(queries, prompts, prompt_classes)
    assert cosines.shape == (n, classes)


def test_shuffling_the_prompts_changes_no_prediction():
    prompts, prompt_classes, queries = unit(12, 6), torch.arange(12) % 4, unit(30, 6, seed=1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    before, _ = zero_shot_predict(queries, prompts, prompt_classes)
    after, _ = zero_shot_predict(queries, prompts[order], prompt_classes[order])
    assert torch.equal(before, after)


def test_ties_share_the_credit():
    cosines = torch.tensor([[0.5, 0.5, 0.1], [0.5, 0.5, 0.1], [0.2, 0.2, 0.2], [0.9, 0.1, 0.1]])
    credit = zero_shot_credit(cosines, torch.tensor([0, 2, 1, 0]))
    assert credit.tolist() == pytest.approx([0.5, 0.0, 1 / 3, 1.0])


def test_a_collapsed_model_gets_chance():
    vectors = normalize(torch.ones(20, 4), dim=-1)
    table = EmbeddingTable(tuple(map(str, range(20))), {IMAGE: vectors}, labels=torch.zeros(20, dtype=torch.long))
    result = evaluate_zero_shot(table, vectors[:5], torch.arange(5), TEXT)
    assert result.rows[0].value == pytest.approx(0.2)


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
    assert values == {
        "image": (0.0, 24),
        "audio": (0.0, 20),
        "image+audio": (1.0, 20),
        "mean(image, audio)": (1.0, 20),
    }
    assert {(row.metric, row.target, row.method, row.seed) for row in result.rows} == {("accuracy", "text", "confu", 1)}
    assert result.predictions["image+audio"].tolist() == [-1] * 4 + table.labels[4:].tolist()
    assert result.credit["image+audio"][:4].isnan().all()
    assert result.only_right(BOTH).tolist() == list(range(4, 24))
    assert result.only_right("image").tolist() == []


def test_bad_prompts_and_labels_are_refused():
    table, prompts, prompt_classes = labelled()
    with pytest.raises(ValueError, match="prompts must hold at least one"):
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
