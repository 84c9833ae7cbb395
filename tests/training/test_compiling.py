"""Compiled encoders: the same training but for rounding, the same names, and a run that goes on with or without."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import confu
from confu.data import ArrayDataset, TensorColumn
from confu.losses import ConFuLoss
from confu.models import MultimodalModel
from confu.nn.encoders import MLPEncoder
from confu.plan import confu_plan
from confu.training import ContrastiveObjective, TrainSettings, fit
from confu.training import loop as training_loop
from confu.training.compiling import compile_encoders

from .parts import stopped

NAMES = ("image", "sound", "number")
SETTINGS = {"epochs": 2, "batch_size": 16, "lr": 1e-3, "checkpoint_every": 1, "log_every": 1}


def rows(count):
    generator = torch.Generator().manual_seed(count)
    return ArrayDataset({name: TensorColumn(torch.randn(count, 4, generator=generator)) for name in NAMES})


def objective():
    torch.manual_seed(0)
    plan = confu_plan(NAMES)
    encoders = {name: MLPEncoder(4, [6], 5) for name in NAMES}
    return ContrastiveObjective(MultimodalModel(plan, encoders, dim=4, fusion_dim=8), ConFuLoss(plan))


def run(folder, **settings):
    trained = objective()
    fit(trained, rows(48), rows(17), TrainSettings(**SETTINGS, **settings), folder, progress=False)
    return trained


@pytest.fixture
def seen(monkeypatch, as_users_run):
    """The graphs that a backend is given; this one runs them as they are."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(training_loop, "compile_encoders", lambda one: compile_encoders(one, backend=backend))
    return graphs


def test_names_and_weights_are_those_of_a_plain_run(tmp_path, seen):
    plain, compiled = run(tmp_path / "plain"), run(tmp_path / "compiled", compile=True)
    assert seen
    assert list(plain.state_dict()) == list(compiled.state_dict())
    for (name, one), other in zip(plain.state_dict().items(), compiled.state_dict().values()):
        torch.testing.assert_close(one, other, msg=name)
    saved = [load_file(tmp_path / name / "best" / "model.safetensors") for name in ("plain", "compiled")]
    assert saved[0].keys() == saved[1].keys()
    assert confu.load_model(tmp_path / "compiled" / "best").dim == 4
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("plain", "compiled")]
    assert states[0]["objective"].keys() == states[1]["objective"].keys()


def test_a_run_that_was_stopped_goes_on_exactly(tmp_path, seen):
    whole = run(tmp_path / "whole", compile=True)
    stopped(lambda: run(tmp_path / "cut", compile=True))
    resumed = run(tmp_path / "cut", compile=True)
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values()):
        assert torch.equal(one, other), name


def test_an_objective_without_encoders_is_refused():
    with pytest.raises(ValueError, match=r"compile is about the encoders .* and Linear has no `model.encoders`"):
        compile_encoders(nn.Linear(2, 2))


def test_resident_data_trains_as_data_in_memory(tmp_path):
    plain, there = run(tmp_path / "plain"), run(tmp_path / "there", resident=True)
    for (name, one), other in zip(plain.state_dict().items(), there.state_dict().values()):
        torch.testing.assert_close(one, other, msg=name)
