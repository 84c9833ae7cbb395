"""Standardising in a run: fitted by training rows, kept with the model, the same wherever it is used."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import confu
from confu.runs import check
from confu.runs.prepare import open_run
from confu.runs.proposal import init
from confu.runs.training import train
from runs.own_data import RUN, make_rows, write_run, write_table

PULSE = """
manifest: pulse.parquet
out: runs/pulse
modalities:
  lab:
    column: lab
    kind: vector
    reader: {scale: standard, clip: 5, missing: mean}
    encoder: {kind: mlp, hidden_dims: [8], out_dim: 8}
  pulse:
    column: pulse
    kind: sequence
    reader: {scale: standard, clip: 5}
    encoder: {kind: sequence, width: 8, heads: 2, layers: 1, hidden_dim: 8, out_dim: 8}
plan: {kind: pairwise}
model: {dim: 8}
train: {epochs: 2, batch_size: 16, lr: 1e-3}
"""


def write_pulse(folder, test_value=0.0):
    """60 rows of a vector with a constant feature and gaps, and of a sequence with one number a step, in mV."""
    random = np.random.default_rng(0)
    level = random.standard_normal(60)
    lab = np.stack([1000 + 50 * level, 0.001 * level, np.full(60, 7.0)], 1)
    lab[::6, 1] = np.nan
    pulse = [(0.002 * level[row] + 0.0005 * random.standard_normal(5 + row % 4))[:, None] for row in range(60)]
    lab[50:, 0] += test_value
    split = ["train"] * 40 + ["validation"] * 10 + ["test"] * 10
    columns = {"lab": lab.tolist(), "pulse": [steps.tolist() for steps in pulse], "split": split}
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "pulse.parquet")
    return write_run(folder, PULSE), lab, pulse


@pytest.fixture(scope="module")
def pulse(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pulse")
    run, lab, steps = write_pulse(folder)
    return train(run, progress=False), lab, steps


def test_training_rows_alone_decide_the_statistics(pulse, tmp_path):
    folder, lab, _ = pulse
    scale = json.loads((folder / "inputs.json").read_text())["readers"]["lab"]["scale"]
    assert np.allclose(scale["mean"], np.nanmean(lab[:40].astype(np.float32), 0))
    assert np.allclose(scale["std"], np.nanstd(lab[:40].astype(np.float64), 0), rtol=1e-4)
    assert scale["std"][2] == 0
    run, *_ = write_pulse(tmp_path, test_value=1e9)
    other = train(run, ["train.epochs=1"], progress=False)
    assert json.loads((other / "inputs.json").read_text())["readers"]["lab"]["scale"] == scale


def test_a_loaded_model_embeds_as_the_training_did(pulse):
    folder, lab, steps = pulse
    opened = open_run(folder)
    with torch.no_grad():
        expected = opened.model(opened.splits.test.batch(torch.arange(10)))
    model = confu.load(folder)
    vectors = model.encode(lab=[[None if np.isnan(x) else x for x in row] for row in lab[50:].tolist()])
    assert np.allclose(vectors.vectors, expected["lab"], atol=1e-6)
    assert np.allclose(model.encode(pulse=steps[50:]).vectors, expected["pulse"], atol=1e-6)
    assert expected["pulse"].std(0).max() > 0.01  # sequences with one feature are told apart


def test_constant_features_are_named_by_check_train_and_init(pulse, tmp_path, capsys):
    run, *_ = write_pulse(tmp_path)
    note = "lab: 1 of 3 features have one value in every training row and are left out: 2 (counted from 0)"
    assert note in check(run, tmp_path, progress=False).notes
    train(run, ["train.epochs=1"])
    assert note in capsys.readouterr().err
    (found,) = (one for one in init(tmp_path / "pulse.parquet", tmp_path / "init.yaml").notes if "lab" in one)
    assert found.startswith("lab: 1 of 3 features have one value in all of the 60 rows that were looked at")


def test_nan_is_refused_unless_it_means_missing(tmp_path):
    run, *_ = write_pulse(tmp_path)
    run.write_text(PULSE.replace(", missing: mean", ""))
    problems = check(run, tmp_path, progress=False).problems.broken
    assert [one.row for one in problems] == list(range(0, 60, 6))
    assert "missing: mean" in problems[0].what


def test_files_are_decoded_once_and_a_run_goes_on_with_its_numbers(tmp_path):
    write_table(tmp_path, make_rows(tmp_path))
    train(write_run(tmp_path, RUN), ["train.epochs=1"], progress=False)
    cached = sorted((tmp_path / "runs" / "cache").glob("*"))
    scaled = ["out=runs/scaled", "train.epochs=1"]
    scaled += [f"modalities.{name}.reader={{scale: standard}}" for name in ("image", "audio")]
    folder = train(tmp_path / "run.yaml", scaled, progress=False)
    assert sorted((tmp_path / "runs" / "cache").glob("*")) == cached
    kept = (folder / "inputs.json").read_text()
    assert len(json.loads(kept)["readers"]["audio"]["scale"]["std"]) == 64
    train(tmp_path / "run.yaml", scaled, progress=False)
    assert (folder / "inputs.json").read_text() == kept


def test_a_pretrained_encoder_keeps_its_own_scale(tmp_path):
    run, *_ = write_pulse(tmp_path)
    frozen = ["modalities.lab.encoder=own_encoders:frozen_wing"]
    with pytest.raises(ValueError, match=r"modalities.lab: reader.scale: its encoder is pretrained"):
        train(run, frozen, progress=False)
