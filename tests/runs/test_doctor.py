"""Causes why a run finds little: each is found where it was planted, and nowhere else."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.functional import normalize
from typer.testing import CliRunner

from confu.cli import app
from confu.data import ArrayDataset, TensorColumn
from confu.plan import Subset, pairwise_plan
from confu.runs import diagnose, train
from confu.runs.doctor import (
    check_classes,
    check_contents,
    check_rows,
    check_scale,
    check_spread,
    check_training,
    effective_rank,
)

N = 640
RUN = """
manifest: rows.parquet
out: run
modalities:
  a: {column: a, kind: vector, encoder: {kind: mlp, hidden_dims: [32], out_dim: 16}}
  b: {column: b, kind: vector, encoder: {kind: mlp, hidden_dims: [32], out_dim: 16}}
  c: {column: c, kind: vector, encoder: {kind: mlp, hidden_dims: [32], out_dim: 16}}
model: {dim: 16, fusion_dim: 16}
train: {epochs: 4, batch_size: 64, lr: 1e-2}
"""


def run_of(folder, columns, split=None, progress=False):
    """A trained run of three vectors a row."""
    table = {name: values.astype(np.float32).tolist() for name, values in columns.items()}
    if split is not None:
        table["split"] = split
    pq.write_table(pa.table(table), folder / "rows.parquet")
    (folder / "run.yaml").write_text(RUN)
    return train(folder / "run.yaml", progress=progress)


def columns(n=N, seed=0):
    random = np.random.default_rng(seed)
    content = random.standard_normal((n, 4))
    return {name: content @ random.standard_normal((4, 6)) / 2 for name in "abc"}


def causes(findings):
    return {finding.cause for finding in findings}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("sound"), columns())


def test_a_sound_run_has_no_cause(sound):
    assert causes(diagnose(sound)) <= {"few rows", "unfinished"}


def test_planted_causes_are_found_in_a_run(tmp_path, capsys):
    data = columns()
    data["a"][576:] = data["a"][:64]  # the test rows are copies of training rows
    data["b"][576:] = data["b"][:64]
    data["c"][:] = 300 * np.random.default_rng(1).standard_normal((N, 6))  # and c is large and has no meaning
    data["c"][576:] = data["c"][:64]
    folder = run_of(tmp_path, data, ["train"] * 512 + ["validation"] * 64 + ["test"] * 64, progress=True)
    printed = capsys.readouterr().err
    assert "What queries find among 64 validation rows" in printed and "at chance: nothing was learned" in printed
    found = diagnose(folder)
    assert {"leak", "scale", "at chance"} <= causes(found)
    leak = next(one for one in found if one.cause == "leak")
    assert leak.numbers == {"part": "test", "rows": 64, "of": 64}
    assert {one.numbers["modality"] for one in found if one.cause == "scale"} == {"c"}
    result = CliRunner().invoke(app, ["doctor", str(folder), "--json"], catch_exceptions=False)
    assert json.loads(result.output) == json.loads(json.dumps([one.to_dict() for one in found]))
    said = CliRunner().invoke(app, ["doctor", str(folder)], catch_exceptions=False).output
    assert "leak: 64 of 64 test rows are copies of a training row, in all modalities." in said


def test_a_part_that_fusion_ignores_is_named(sound):
    from confu.runs.doctor import check_parts
    from confu.runs.prepare import open_run

    opened = open_run(sound)
    assert check_parts(opened.model, opened.splits.test) == []
    for weight in opened.model.encoders["b"].parameters():
        weight.data.zero_()  # then b is the same vector in every row
    found = {(one.numbers["subset"], one.numbers["modality"]) for one in check_parts(opened.model, opened.splits.test)}
    assert found == {("a+b", "b"), ("b+c", "b")}


def test_contents_that_repeat_are_told_apart():
    unique, half = torch.arange(100), torch.arange(100) // 4
    keys = {"training": {"a": unique, "b": half}, "test": {"a": unique[:20] + 100, "b": half[:20]}}
    assert causes(check_contents(keys)) == {"false negatives"}  # b repeats by its nature, and is no leak
    assert check_contents(keys, grouped=True) == []
    keys["test"]["a"] = torch.arange(90, 110)
    assert next(one.evidence for one in check_contents(keys, True)).startswith("10 of 20 test rows have the same a")
    keys["training"] = {"a": unique % 90, "b": torch.cat([half[:90], half[:10]])}
    assert causes(check_contents({"training": keys["training"]}, True)) == {"duplicates"}
    constant = {"training": {"a": unique, "b": torch.tensor([5] * 60 + [-1] * 40)}}
    assert [one.numbers for one in check_contents(constant)] == [{"modality": "b", "rows": 60}]


@pytest.mark.parametrize(
    ("scale", "shift", "named"), [(1, 0, False), (100, 0, True), (1, 50, True), (0.001, 0, True), (3, 1, False)]
)
def test_inputs_that_are_not_scaled_are_named(scale, shift, named):
    values = scale * torch.randn(300, 5, generator=torch.Generator().manual_seed(0)) + shift
    assert bool(check_scale(ArrayDataset({"x": TensorColumn(values)}))) == named


def test_one_feature_that_hides_the_others_is_named():
    values = torch.randn(300, 40, generator=torch.Generator().manual_seed(0)) * 0.1
    values[:, 7] *= 300
    (found,) = check_scale(ArrayDataset({"x": TensorColumn(values)}))
    assert found.numbers["feature"] == 7


def test_collapsed_embeddings_are_named():
    draw = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    spread, close = normalize(draw, dim=1), normalize(1 + 0.05 * draw, dim=1)
    flat = normalize(draw[:, :1] * torch.eye(16)[0] + 1e-4 * draw, dim=1)
    found = check_spread({Subset("a"): spread, Subset("b"): close, Subset("c"): flat})
    assert [one.numbers["subset"] for one in found] == ["b", "c"]
    assert effective_rank(spread.double()) > 14


def test_the_log_tells_overfitting_from_an_early_end():
    def records(train, validation):
        return (
            [{"epoch": epoch, "total": loss} for epoch, loss in enumerate(train, 1)],
            [{"epoch": epoch, "total": loss} for epoch, loss in enumerate(validation, 1)],
        )

    assert causes(check_training(*records([4, 3, 2, 1], [4, 3, 3.5, 4.2]))) == {"overfit"}
    assert causes(check_training(*records([4, 3, 2, 1.2], [4, 3, 2.9, 2.89]))) == {"overfit"}
    assert causes(check_training(*records([4, 3.6, 3.2, 3], [4, 3.7, 3.4, 3.2]))) == {"unfinished"}
    assert check_training(*records([4, 3, 2.9, 2.9], [4, 3.1, 3.0, 3.0])) == []
    assert check_training([], []) == []


def test_sparse_terms_few_rows_and_rare_classes_are_named():
    values, plan = torch.randn(600, 3), pairwise_plan(("a", "b"))
    missing = torch.arange(600) % 20 > 0
    data = ArrayDataset({"a": TensorColumn(values), "b": TensorColumn(values, missing)})
    (found,) = check_rows(data, plan)
    assert found.cause == "sparse" and found.numbers["rows"] == {"a ~ b": 30} and "balanced" in found.advice
    assert "balanced" not in check_rows(data, plan, "balanced")[0].advice
    assert causes(check_rows(ArrayDataset({"a": TensorColumn(values[:99]), "b": TensorColumn(values[:99])}), plan)) == {
        "few rows"
    }
    train_labels, test_labels = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 3, -1])
    (rare,) = check_classes(train_labels, test_labels, ["w", "x", "y", "z"])
    assert rare.numbers == {"classes": 2, "rows": 2} and "(x and z)" in rare.evidence
    assert check_classes(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1])) == []
