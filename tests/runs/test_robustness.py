"""Disturbed queries: what is missing, exchanged, noisy or attacked, on a model whose embeddings can be told by hand."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from confu.data import ArrayDataset, CaptionColumn, SequenceColumn, TensorColumn, WordVocabulary
from confu.data.corrupted import CorruptedDataset, ModalityRows
from confu.inference import embed
from confu.models import MultimodalModel
from confu.nn import build_encoder
from confu.plan import Subset, confu_plan, disjoint_plan, pairwise_plan
from confu.runs.evaluation import evaluate
from confu.runs.robustness import (
    CLEAN,
    MISSING,
    Adversarial,
    Robustness,
    _Measure,
    _queries,
    measure_robustness,
    robustness_table,
)

A, B, C = map(Subset, "abc")


class Scaled(nn.Module):
    """An encoder that gives back its input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out_dim = dim
        self.settings = {}
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.weight


def dataset(n=60, dim=8, names="abc", seed=0, gaps=()):
    """Modalities that say the same up to noise."""
    random = np.random.default_rng(seed)
    content = random.standard_normal((n, dim))
    columns = {}
    for name in names:
        values = torch.from_numpy(content + 0.5 * random.standard_normal((n, dim))).float()
        missing = torch.zeros(n, dtype=torch.bool)
        if name in gaps:
            missing[::4] = True
        columns[name] = TensorColumn(values, missing=missing if name in gaps else None)
    return ArrayDataset(columns)


def model_of(plan, dim=8, seed=0):
    torch.manual_seed(seed)
    model = MultimodalModel(plan, {name: Scaled(dim) for name in plan.modalities}, dim=dim, fusion_dim=16)
    for projection in model.projections.values():
        nn.init.eye_(projection.weight)
        nn.init.zeros_(projection.bias)
    return model.eval()


def measured(data, plan, **options) -> Robustness:
    model = model_of(plan)
    return measure_robustness(model, data, embed(model, data), **options)


@pytest.fixture(scope="module")
def three():
    return measured(dataset(), confu_plan("abc"))


def by_key(result):
    return {(line.query, line.target, line.modality, line.disturbance): line for line in result.lines}


def test_every_query_has_every_disturbance(three):
    lines = by_key(three)
    assert len(lines) == len(three.lines) == 3 * (1 + 2 * 6)
    disturbances = {line.disturbance for line in three.lines}
    assert disturbances == {"clean", "missing", "exchanged", "noise 20 dB", "noise 15 dB", "noise 10 dB", "adversarial"}
    assert {line.count for line in three.lines} == {60} and {line.k for line in three.lines} == {10}
    assert three.averages()[0].disturbance == "clean"
    assert robustness_table(three).row_count == len(three.averages()) + len(three.lines)


def test_a_missing_part_leaves_the_query_of_the_other(three):
    model, data = model_of(confu_plan("abc")), dataset()
    table = embed(model, data)
    line = by_key(three)["a+b", "c", "b", "missing"]
    scores = table[A] @ table[C].T
    expected = ((scores > scores.diagonal()[:, None] + 1e-6).sum(1) < 10).float().mean()
    assert line.fused == line.mean == line.single == pytest.approx(float(expected))
    assert line.best_single == "a"


def test_an_exchanged_part_is_that_of_another_row(three):
    lines = by_key(three)
    clean, exchanged = lines["a+b", "c", "", "clean"], lines["a+b", "c", "b", "exchanged"]
    assert exchanged.mean < clean.mean - 0.1
    assert exchanged.best_single == "a" and exchanged.single == lines["a+b", "c", "b", "missing"].single


def test_more_noise_finds_less_and_an_attack_least(three):
    means = {line.disturbance: line.mean for line in three.averages()}
    assert means["clean"] >= means["noise 20 dB"] >= means["noise 10 dB"]
    assert means["adversarial"] < means["noise 20 dB"]


def test_three_parts_fall_back_on_two():
    names = "abcd"
    model, data = model_of(disjoint_plan(names)), dataset(n=30, names=names)
    table = embed(model, data)
    measure, three, two = _Measure(model, data, table, None, 0.1), Subset("a", "b", "c"), Subset("a", "b")
    missing = measure.line(three, Subset("d"), "c", MISSING, table, without="c")
    left = measure.line(two, Subset("d"), "", CLEAN, table)
    assert (missing.fused, missing.mean, missing.single) == (left.fused, left.mean, left.single)
    assert len(_queries(table)) == 4 * (3 + 1)


def test_a_model_without_fusion_has_the_mean_and_the_best():
    result = measured(dataset(n=20), pairwise_plan("abc"), noise_db=(10,))
    assert result.lines and all(line.fused is None and line.mean is not None for line in result.lines)
    assert result.averages() == [] and result.sentences() == []


def test_rows_with_gaps_are_those_that_have_all_parts():
    result = measured(dataset(n=20, gaps="b"), confu_plan("abc"), noise_db=(10,))
    assert {line.count for line in result.lines} == {15}


def test_what_cannot_be_made_noisy_is_said():
    texts = ["one", "two three", "four"]
    captions = CaptionColumn(texts, torch.arange(30) % 3, WordVocabulary.from_texts(texts))
    random = np.random.default_rng(0)
    columns = {name: TensorColumn(torch.from_numpy(random.standard_normal((30, 4))).float()) for name in "ac"}
    data = ArrayDataset({"a": columns["a"], "b": captions, "c": columns["c"]})
    torch.manual_seed(0)
    encoder = {"kind": "bag", "vocab_size": 16, "width": 8, "out_dim": 4}
    encoders = {"a": Scaled(4), "b": build_encoder(encoder), "c": Scaled(4)}
    model = MultimodalModel(confu_plan("abc"), encoders, dim=4, fusion_dim=8).eval()
    result = measure_robustness(model, data, embed(model, data))
    assert {line.disturbance for line in result.lines if line.modality == "b"} == {"missing", "exchanged"}
    assert any("expected 'b' to hold numbers" in note for note in result.notes)
    assert result.sentences()[1:] == result.notes


def test_an_attack_keeps_its_bound_and_its_modality():
    data, plan = dataset(), confu_plan("abc")
    model, both = model_of(plan), Subset("a", "b")
    bound = 0.1
    attacked = CorruptedDataset(data, {"a": Adversarial(model, [both], C, bound)})
    rows = torch.arange(60)
    before, after = data.batch(rows).inputs, attacked.batch(rows).inputs
    moved = (after["a"].values - before["a"].values).abs()
    assert float(moved.max()) <= bound + 1e-6 and float(moved.mean()) > bound / 2
    assert torch.equal(after["b"].values, before["b"].values)
    table, disturbed = embed(model, data), embed(model, attacked)
    cosines = [(one[both] * table[C]).sum(1) for one in (table, disturbed)]
    assert bool((cosines[1] < cosines[0]).all())
    signs = torch.from_numpy(np.random.default_rng(0).choice([-bound, bound], (60, 8))).float()
    noisy = ArrayDataset({**data.columns, "a": TensorColumn(before["a"].values + signs)})
    assert float(cosines[1].mean()) < float((embed(model, noisy)[both] * table[C]).sum(1).mean())
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_an_attack_on_the_best_linear_model_is_the_sign_of_the_target():
    """One step from x along the gradient of the cosine: c / |x| |c| less its part along x."""
    data = dataset(n=5)
    model = model_of(confu_plan("abc"))
    x, c = (data.batch(torch.arange(5)).inputs[name].values for name in "ac")
    cosine = torch.nn.functional.cosine_similarity(x, c)[:, None]
    gradient = c / c.norm(dim=1, keepdim=True) - cosine * x / x.norm(dim=1, keepdim=True)
    source = ModalityRows(data, "a")
    moved = Adversarial(model, [A], C, 0.01, steps=1).corrupt(
        data.batch(torch.arange(5)).inputs["a"], torch.arange(5), source
    )
    assert torch.allclose(moved.values, x - 0.01 * gradient.sign(), atol=1e-6)


def test_only_real_steps_of_sequences_are_attacked():
    random = np.random.default_rng(0)
    sequences = [torch.from_numpy(random.standard_normal((length, 3))).float() for length in (2, 5, 3, 4) * 3]
    columns = {name: TensorColumn(torch.from_numpy(random.standard_normal((12, 4))).float()) for name in "bc"}
    data = ArrayDataset({"a": SequenceColumn(sequences), **columns})
    torch.manual_seed(0)
    encoders = {
        "a": build_encoder({"kind": "recurrent", "in_dim": 3, "width": 4, "out_dim": 4}),
        "b": Scaled(4),
        "c": Scaled(4),
    }
    model = MultimodalModel(confu_plan("abc"), encoders, dim=4, fusion_dim=8).eval()
    attacked = CorruptedDataset(data, {"a": Adversarial(model, [Subset("a", "b")], C, 0.1)})
    before, after = (one.batch(torch.arange(12)).inputs["a"].values for one in (data, attacked))
    moved = (after["values"] - before["values"]).abs().amax(2)
    assert torch.equal(moved > 0, before["mask"].bool())


def test_an_evaluation_prints_stores_and_draws_it(clips, clips_report):
    report = evaluate(clips / "runs" / "clips", progress=False, part="validation", robustness=True)
    result = Robustness.from_dict(report.settings["robustness"])
    assert result.lines and json.loads(json.dumps(result.to_dict())) == result.to_dict()
    stored = {(row.metric, row.query, row.target): row.value for row in report.rows}
    line = next(line for line in result.lines if line.disturbance == "exchanged" and line.query == "image+audio")
    assert stored[f"recall@{line.k}, {line.modality} exchanged", "image+audio", "text"] == line.fused
    assert "When a part is disturbed" in (clips / "runs" / "clips" / "validation.html").read_text()
    assert "robustness" not in clips_report.settings
