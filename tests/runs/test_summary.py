"""What is said of a trained model: chance, fused queries beside their parts, and queries that learned nothing."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.evaluation.ranking import chance_recall
from confu.evaluation.retrieval import Ranked
from confu.plan import Subset
from confu.runs.measures import rank_queries
from confu.runs.page import page_summary
from confu.runs.run_file import RunFile
from confu.runs.summary import (
    QuerySummary,
    chance_of,
    information_sentences,
    summarise,
    summary_sentences,
    summary_table,
    what_to_try,
)
from runs.evaluated import make_evaluated

IMAGE, AUDIO, TEXT = map(Subset, ("image", "audio", "text"))
BOTH = Subset("image", "audio")


def run_of(reader: dict | None = None, encoder: str | dict = "conv", **train) -> RunFile:
    return RunFile(
        manifest="rows.csv",
        out="runs/x",
        modalities={
            "image": {"column": "image", "kind": "image", "encoder": encoder, "reader": reader},
            "text": {"column": "text", "kind": "text", "encoder": "minilm"},
        },
        train=train,
    )


def table(noise: dict[Subset, float], n: int = 400, seed: int = 0, **more) -> EmbeddingTable:
    """Embeddings of one content, each with so much noise; infinite noise is nothing but noise."""
    generator = torch.Generator().manual_seed(seed)
    content = torch.randn(n, 16, generator=generator)
    vectors = {}
    for subset, level in noise.items():
        drawn = torch.randn(n, 16, generator=generator)
        vectors[subset] = normalize(drawn if math.isinf(level) else content + level * drawn, dim=1)
    return EmbeddingTable([f"r{i}" for i in range(n)], vectors, **more)


def lines(of: EmbeddingTable) -> dict[tuple[str, str], QuerySummary]:
    return {(line.query, line.target): line for line in summarise(of, rank_queries(of)[0])}


@pytest.mark.parametrize("right", [1, 4])
def test_chance_is_that_of_random_orders(right):
    orders = torch.stack([torch.randperm(30, generator=torch.Generator().manual_seed(i)) for i in range(4000)])
    first = orders[:, :right].amin(1) + 1.0
    n, one = torch.arange(30), torch.ones(30, dtype=torch.long)
    outcome = Ranked(n, n, one, n, 30, right=None if right == 1 else right * one)
    (recall, error), (mrr, mrr_error) = chance_of(outcome, 5)
    assert recall == pytest.approx(chance_recall(30, 5, right * one)) == pytest.approx(outcome.chance(5))
    assert recall == pytest.approx(float((first <= 5).float().mean()), abs=0.03)
    assert mrr == pytest.approx(float((1 / first).mean()), abs=0.02)
    assert error * 30**0.5 == pytest.approx(float((first <= 5).float().std()), rel=0.1)
    assert mrr_error * 30**0.5 == pytest.approx(float((1 / first).std()), rel=0.1)


def test_equal_targets_are_right_and_chance_knows_it():
    texts = torch.arange(400) // 40
    one = table({IMAGE: math.inf, TEXT: 0.0})
    one.vectors[TEXT][:] = one.vectors[TEXT][40 * texts]
    ranked, _ = rank_queries(one, contents={"text": texts, "image": torch.arange(400)})
    found = {line.target: line for line in summarise(one, ranked)}
    assert found["text"].chance == pytest.approx(0.65, abs=0.01) and not found["text"].learned
    assert found["image"].chance == pytest.approx(0.025)


def test_noise_is_at_chance_and_little_signal_is_not():
    found = lines(table({IMAGE: math.inf, TEXT: 0.0}))
    assert not any(line.learned for line in found.values())
    said = summary_sentences(list(found.values()), "runs/x", run_of())
    assert said[0].startswith(
        "text -> image and image -> text are at chance: nothing was learned (recall@10 at most 0.0"
    )
    one = summary_sentences([found["image", "text"]], "runs/x", run_of())
    assert one[0].startswith("image -> text is at chance: nothing was learned (recall@10 0.0")
    assert "by chance 0.025" in one[0] and "confu doctor runs/x" in said[-1]
    weak = lines(table({IMAGE: 3.0, TEXT: 0.0}))
    assert all(line.learned for line in weak.values()) and weak["image", "text"].recall < 0.3
    assert summary_sentences(list(weak.values()), "runs/x", run_of()) == []


def test_only_what_a_run_does_not_have_is_advised():
    plain = "; ".join(what_to_try(run_of()))
    assert "encoder of image gets" in plain and "scale: standard" in plain and "pretrained encoder of image (" in plain
    assert "dropout" in plain and "select: retrieval" in plain and "equal_inputs" in plain
    conv = {"kind": "conv", "dropout": 0.2}
    proposed = run_of({"kind": "image", "size": 8, "scale": "standard"}, conv, select="retrieval")
    loss = proposed.loss.model_copy(update={"equal_inputs": "positives"})
    advice = "; ".join(what_to_try(proposed.model_copy(update={"loss": loss})))
    assert not any(word in advice for word in ("scale", "dropout", "select", "equal_inputs"))
    assert "pretrained encoder of image (" in advice and "smaller encoders" in advice and "more rows" in advice
    frozen = "; ".join(what_to_try(run_of(encoder="efficientnet-lite0")))
    assert not any(word in frozen for word in ("scale", "pretrained", "smaller"))


def test_false_alarms_of_learning_are_rare():
    learned = sum(
        line.learned for seed in range(40) for line in lines(table({IMAGE: math.inf, TEXT: 0.0}, 60, seed)).values()
    )
    assert learned <= 3  # of 80 at 3 standard errors of two numbers


def test_the_page_and_its_report_say_what_is_at_chance(tmp_path):
    evaluated = make_evaluated(tmp_path, table({IMAGE: math.inf, TEXT: 0.0, AUDIO: 0.5, BOTH: 0.5}, n=60))
    assert "image -> text are at chance: nothing was learned (recall@10 at most" in page_summary(evaluated)


def test_few_rows_are_not_called_unlearned():
    found = lines(table({IMAGE: math.inf, TEXT: 0.0}, 12))
    assert "cannot be told from chance among 12 rows" in summary_sentences(list(found.values()), "runs/x", run_of())[0]


def test_a_fused_query_stands_beside_its_parts_on_its_rows():
    present = torch.arange(400) % 4 > 0
    gaps = {AUDIO: present, BOTH: present}
    one = table({IMAGE: 0.5, AUDIO: 2.0, BOTH: 1.0, TEXT: 0.1}, complete=gaps)
    found = lines(one)
    assert ("mean(image, audio)", "text") not in found and {target for _, target in found} == {"image", "audio", "text"}
    fused, rows = found["image+audio", "text"], one.select(present.nonzero()[:, 0])
    alone = lines(rows)["image", "text"]
    assert (fused.best_single, fused.single, fused.single_mrr) == ("image", alone.recall, alone.mrr)
    assert fused.single < found["image", "text"].recall or fused.count < found["image", "text"].count
    assert fused.mean == pytest.approx(float(rank_queries(rows)[0]["mean(image, audio)", "text"].recall(10).mean()))
    assert any(
        "finds less than image alone" in one for one in summary_sentences(list(found.values()), "runs/x", run_of())
    )
    assert summary_table(list(found.values())).row_count == len(found)
    assert [QuerySummary(**line.to_dict()) for line in found.values()] == list(found.values())


def test_many_sentences_on_information_are_left_to_the_report():
    assert information_sentences({"sentences": ["one."]}) == ["one."]
    said = information_sentences({"sentences": [f"{i}." for i in range(20)]})
    assert len(said) == 17 and said[-1].startswith("4 further sentences")
