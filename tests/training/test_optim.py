"""The optimizer holds every trainable parameter, and the learning rate follows its formula."""

import math

import pytest
import torch
from torch import nn
from torch.optim import SGD

from confu.training import TrainSettings
from confu.training.objective import clamp_temperatures
from confu.training.optim import build_optimizer, build_schedule, check_every_parameter_is_trained
from training.kill_target import objective


def by_parameter(optimizer):
    return {id(p): group for group in optimizer.param_groups for p in group["params"]}


def test_every_trainable_parameter_is_held_once_and_only_the_temperature_has_no_decay():
    module = objective()
    module.model.encoders["x1"].requires_grad_(False)
    optimizer = build_optimizer(module, TrainSettings(weight_decay=0.1, lr=1e-3, temperature_lr=0.02))
    held = [p for group in optimizer.param_groups for p in group["params"]]
    groups = by_parameter(optimizer)
    assert len(held) == len(groups)
    for name, parameter in module.named_parameters():
        if name.startswith("model.encoders.x1"):
            assert id(parameter) not in groups
            continue
        temperature = name.endswith("temperature.log_inverse")
        assert groups[id(parameter)]["weight_decay"] == (0.0 if temperature else 0.1)
        assert groups[id(parameter)]["lr"] == (0.02 if temperature else 1e-3)
    assert len(held) == sum(parameter.requires_grad for parameter in module.parameters())
    same = build_optimizer(module, TrainSettings(lr=1e-3))
    assert {group["lr"] for group in same.param_groups} == {1e-3}


def test_every_held_parameter_moves_in_a_step():
    from training.kill_target import data

    module = objective()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = build_optimizer(module, TrainSettings(lr=1e-2, weight_decay=0.0))
    module(data().train.batch(torch.arange(64))).total.backward()
    optimizer.step()
    for name, parameter in module.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_one_kernel_or_many_is_the_same_adamw():
    from training.kill_target import data

    ended = []
    for fused in (True, False):
        module = objective()
        optimizer = build_optimizer(module, TrainSettings(lr=1e-2, weight_decay=0.1, fused_adamw=fused))
        assert all(group["fused"] == fused for group in optimizer.param_groups)
        torch.manual_seed(2)
        for start in (0, 64, 128):
            optimizer.zero_grad()
            module(data().train.batch(torch.arange(start, start + 64))).total.backward()
            optimizer.step()
        ended.append(module.state_dict())
    for name, value in ended[0].items():
        torch.testing.assert_close(value, ended[1][name], atol=1e-5, rtol=1e-4)


def test_a_parameter_that_is_left_out_is_named():
    module = objective()
    forgotten = SGD(module.model.encoders.parameters(), lr=0.1)
    with pytest.raises(
        ValueError, match=r"does not hold \d+ trainable parameters: model.projections.x1.weight, .*, \.\.\."
    ):
        check_every_parameter_is_trained(module, forgotten)
    module.model.fusers.requires_grad_(False)
    module.model.projections.requires_grad_(False)
    with pytest.raises(
        ValueError, match=r"does not hold 1 trainable parameters: loss.temperature.log_inverse; add them"
    ):
        check_every_parameter_is_trained(module, forgotten)
    module.loss.requires_grad_(False)
    check_every_parameter_is_trained(module, forgotten)


def test_a_foreign_parameter_is_refused():
    module = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="the optimizer holds 1 parameters that are not part of the objective"):
        check_every_parameter_is_trained(module, SGD([*module.parameters(), nn.Parameter(torch.ones(1))], lr=0.1))


@pytest.mark.parametrize("warmup", [0, 1, 10])
def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine(warmup):
    settings = TrainSettings(lr=0.02, min_lr=0.002, warmup_steps=warmup)
    module = nn.Linear(2, 2)
    optimizer = build_optimizer(module, settings)
    schedule = build_schedule(optimizer, settings, total_steps=50)
    used = []
    for _ in range(50):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    for step, lr in enumerate(used):
        if step < warmup:
            expected = 0.02 * (step + 1) / warmup
        else:
            expected = 0.002 + 0.018 * (1 + math.cos(math.pi * (step - warmup) / (50 - warmup))) / 2
        assert lr == pytest.approx(expected, rel=1e-9), step
    assert max(used) == pytest.approx(0.02)
    assert used[max(warmup - 1, 0)] == pytest.approx(0.02)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.002)  # after the last step, and it stays
    for _ in range(3):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.002)


def test_more_warmup_than_steps_only_rises():
    settings = TrainSettings(lr=0.02, warmup_steps=100)
    optimizer = build_optimizer(nn.Linear(2, 2), settings)
    schedule = build_schedule(optimizer, settings, total_steps=10)
    factors = [schedule.lr_lambdas[0](step) for step in range(10)]
    assert factors == [(step + 1) / 100 for step in range(10)]


def test_temperatures_are_brought_back_into_their_range():
    module = objective()
    with torch.no_grad():
        module.loss.temperature.log_inverse.fill_(50.0)
    clamp_temperatures(module)
    assert module.loss.temperature().item() == pytest.approx(0.01)
    assert module.loss.temperature.log_inverse.item() == pytest.approx(math.log(100))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"lr": 0.0}, "lr"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"precision": "float8"}, "precision"),
        ({"learning_rate": 0.1}, "learning_rate"),
        ({"lr": 1e-7}, "min_lr 1e-06 is above lr 1e-07: the learning rate would rise; lower min_lr"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        TrainSettings(**changes)
