"""The optimizer holds every trainable parameter, and the learning rate follows its formula."""

import math

import pytest
import torch
from torch import nn

from confu.training import TrainSettings
from confu.training.optimizer import build_optimizer, build_schedule, clip_gradients
from training.random_training import data, objective


def test_every_trainable_parameter_is_held_once():
    module = objective()
    module.model.encoders["x1"].requires_grad_(False)
    optimizer = build_optimizer(module, TrainSettings(weight_decay=0.1, lr=1e-3, temperature_lr=0.02))
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    assert len(held) == len(groups) == sum(parameter.requires_grad for parameter in module.parameters())
    for name, parameter in module.named_parameters():
        if name.startswith("model.encoders.x1"):
            assert id(parameter) not in groups
            continue
        temperature = name.endswith("temperature.log_inverse")  # which alone has no weight decay
        assert groups[id(parameter)]["weight_decay"] == (0.0 if temperature else 0.1)
        assert groups[id(parameter)]["lr"] == (0.02 if temperature else 1e-3)
    same = build_optimizer(module, TrainSettings(lr=1e-3))
    assert {group["lr"] for group in same.param_groups} == {1e-3}


def test_fused_adamw_moves_every_parameter_as_the_plain_one_does():
    ended = []
    for fused in (True, False):
        module = objective()
        before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
        optimizer = build_optimizer(module, TrainSettings(lr=1e-2, weight_decay=0.1, fused_adamw=fused))
        assert all(group["fused"] == fused for group in optimizer.param_groups)
        torch.manual_seed(2)
        for start in (0, 64):
            optimizer.zero_grad()
            module(data().train.batch(torch.arange(start, start + 64))).total.backward()
            optimizer.step()
        for name, parameter in module.named_parameters():
            assert not torch.equal(parameter, before[name]), name
        ended.append(module.state_dict())
    for name, value in ended[0].items():
        torch.testing.assert_close(value, ended[1][name], atol=1e-3, rtol=1e-2)


def test_gradients_are_clipped_by_the_norm_of_all():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    before = [torch.full_like(weight, 2.0) for weight in module.parameters()]
    for limit in (1.5, 100.0):
        for weight, gradient in zip(module.parameters(), before):
            weight.grad = gradient.clone()
        assert float(clip_gradients(module.parameters(), limit)) == pytest.approx(2 * 3)  # nine numbers of 2
        for weight in module.parameters():
            torch.testing.assert_close(weight.grad, torch.full_like(weight, 2.0 * min(1.0, limit / 6)))


@pytest.mark.parametrize("warmup", [0, 1, 10])
def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine(warmup):
    settings = TrainSettings(lr=0.02, min_lr=0.002, warmup_steps=warmup)
    optimizer = build_optimizer(nn.Linear(2, 2), settings)
    schedule = build_schedule(optimizer, settings, total_steps=50)
    used = []
    for _ in range(53):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    for step, lr in enumerate(used[:50]):
        if step < warmup:
            expected = 0.02 * (step + 1) / warmup
        else:
            expected = 0.002 + 0.018 * (1 + math.cos(math.pi * (step - warmup) / (50 - warmup))) / 2
        assert lr == pytest.approx(expected, rel=1e-9), step
    assert max(used) == pytest.approx(0.02)
    assert used[max(warmup - 1, 0)] == pytest.approx(0.02)
    assert used[50:] == pytest.approx([0.002] * 3)  # after the last step it stays


def test_more_warmup_than_steps_only_rises():
    settings = TrainSettings(lr=0.02, warmup_steps=100)
    schedule = build_schedule(build_optimizer(nn.Linear(2, 2), settings), settings, total_steps=10)
    assert [schedule.lr_lambdas[0](step) for step in range(10)] == [(step + 1) / 100 for step in range(10)]


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
