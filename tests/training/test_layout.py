"""Weights with the channels last: the same training but for rounding, saved as ever, and gone on with exactly."""

import pytest
import torch
from safetensors.torch import load_file

from confu.data import ArrayDataset, TensorColumn
from confu.losses import ConFuLoss
from confu.models import MultimodalModel
from confu.nn.encoders import ConvEncoder, MLPEncoder
from confu.plan import confu_plan
from confu.training import ContrastiveObjective, TrainSettings, fit
from confu.training.layout import lay_channels_last

from .parts import stopped

NAMES = ("image", "sound", "number")
SETTINGS = {"epochs": 2, "batch_size": 16, "lr": 1e-3, "checkpoint_every": 1, "log_every": 1}


def rows(count):
    generator = torch.Generator().manual_seed(count)
    shapes = {"image": (3, 8, 8), "sound": (1, 6, 10), "number": (4,)}
    columns = {name: TensorColumn(torch.randn(count, *shape, generator=generator)) for name, shape in shapes.items()}
    return ArrayDataset(columns)


def objective():
    torch.manual_seed(0)
    encoders = {
        "image": ConvEncoder(3, (4, 6), 5, norm="group"),
        "sound": ConvEncoder(1, (4, 6), 5, norm="group"),
        "number": MLPEncoder(4, [], 5),
    }
    plan = confu_plan(NAMES)
    return ContrastiveObjective(MultimodalModel(plan, encoders, dim=4, fusion_dim=8), ConFuLoss(plan))


def run(folder, **settings):
    trained = objective()
    fit(trained, rows(48), rows(17), TrainSettings(**SETTINGS, **settings), folder, progress=False)
    return trained


def test_training_is_the_same_but_for_rounding(tmp_path):
    plain, last = run(tmp_path / "plain"), run(tmp_path / "last", channels_last=True)
    weight = last.model.encoders["image"].layers[3].weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    for (name, one), other in zip(plain.state_dict().items(), last.state_dict().values()):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3, msg=name)
    saved = load_file(tmp_path / "last" / "best" / "model.safetensors")
    assert all(value.is_contiguous() for value in saved.values())


def test_a_run_that_was_stopped_goes_on_exactly(tmp_path):
    whole = run(tmp_path / "whole", channels_last=True)
    stopped(lambda: run(tmp_path / "cut", channels_last=True))
    resumed = run(tmp_path / "cut", channels_last=True)
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values()):
        assert torch.equal(one, other), name


def test_values_and_parameters_stay():
    net = objective()
    before = {name: (id(weight), weight.detach().clone()) for name, weight in net.named_parameters()}
    lay_channels_last(net)
    for name, weight in net.named_parameters():
        assert id(weight) == before[name][0] and torch.equal(weight, before[name][1])


def test_a_model_without_convolutions_is_refused():
    with pytest.raises(ValueError, match=r"channels_last is about .* convolutions, and this model has none; leave it"):
        lay_channels_last(MLPEncoder(4, [], 5))
