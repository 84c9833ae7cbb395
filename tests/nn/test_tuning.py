"""What of a pretrained network is trained, and what stands still."""

import copy

import pytest
import torch
from torch import nn

from confu.nn.encoders.pretrained import Tuned, check_tune, longest_stack


def network():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "stem": nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)),
            "layers": nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)) for _ in range(3)]),
            "small": nn.ModuleList([nn.Linear(8, 2)]),
        }
    )


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = network()

    def forward(self, values):
        values = self.parts["stem"](values)
        for layer in self.parts["layers"]:
            values = layer(values)
        return values


def trained(module):
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def test_the_longest_stack_is_the_outermost_with_most_parameters():
    whole = Whole()
    assert longest_stack(whole) is whole.parts["layers"]
    stages = nn.ModuleList([nn.ModuleList([nn.Linear(3, 3)]), nn.ModuleList([nn.Linear(3, 3)])])
    assert longest_stack(nn.Sequential(nn.Linear(99, 99), stages)) is stages
    assert longest_stack(nn.ModuleList([stages])) is not stages
    assert longest_stack(nn.Linear(2, 2)) is None


@pytest.mark.parametrize(
    ("tune", "names"),
    [
        ("frozen", set()),
        ("last:1", {"layers.2"}),
        ("last:3", {"layers.0", "layers.1", "layers.2"}),
        ("full", {"stem.0", "stem.1", "layers.0", "layers.1", "layers.2", "small.0"}),
    ],
)
def test_only_what_is_tuned_is_trained_and_in_training_mode(tune, names):
    tuned = Tuned(Whole(), tune)
    found = {name.removeprefix("network.parts.").rpartition(".")[0].removesuffix(".0") for name in trained(tuned)}
    assert {name.removesuffix(".0") for name in names} == {name.removesuffix(".0") for name in found}
    for mode in (True, False):
        outer = nn.Sequential(tuned).train(mode)
        assert tuned.network.parts["stem"][1].training == (mode and tune == "full")
        assert [layer[1].training for layer in tuned.network.parts["layers"]] == [
            mode and f"layers.{i}" in names for i in range(3)
        ]
        assert outer.training == mode


def test_frozen_gives_the_same_in_training_and_no_gradient():
    tuned, values = Tuned(Whole(), "frozen").train(), torch.randn(5, 4, requires_grad=True)
    state = copy.deepcopy(tuned.state_dict())
    assert torch.equal(tuned(values), tuned(values))
    assert not tuned(values).requires_grad
    assert all(torch.equal(value, state[name]) for name, value in tuned.state_dict().items())
    assert tuned.frozen


def test_gradient_reaches_the_last_layers_alone():
    tuned = Tuned(Whole(), "last:2")
    tuned(torch.randn(5, 4)).sum().backward()
    assert {name for name, p in tuned.named_parameters() if p.grad is not None} == trained(tuned)


def test_a_copy_is_tuned_likewise():
    tuned = Tuned(Whole(), "last:1")
    other = copy.deepcopy(tuned).eval()
    assert tuned.network.parts["layers"][2][1].training
    assert other.train().network.parts["layers"][2][1].training
    assert trained(other) == trained(tuned)


def test_adapters_change_nothing_at_first_and_are_trained_alone():
    pytest.importorskip("peft")
    plain, tuned = Whole().eval(), Tuned(Whole(), "lora", rank=2, alpha=6).train()
    values = torch.randn(5, 4)
    assert torch.equal(tuned(values), plain(values))
    assert len(trained(tuned)) == 2 * 3
    assert all("lora_" in name for name in trained(tuned))
    layer = tuned.network.parts["layers"][0][0]
    assert layer.lora_A["default"].weight.shape == (2, 8)
    assert layer.scaling["default"] == 3.0
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=1.0)
    tuned(values).square().sum().backward()
    optimizer.step()
    assert not torch.allclose(tuned(values), plain(values))
    base = {n.replace(".base_layer", ""): v for n, v in tuned.network.state_dict().items() if "lora_" not in n}
    assert all(torch.equal(base[name], value) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("tune", ["last", "last:0", "last:-1", "last:x", "head", "FULL", ""])
def test_other_words_are_refused(tune):
    with pytest.raises(ValueError, match=r"tune must be 'frozen', 'last:N'.*got"):
        check_tune(tune)


def test_impossible_tuning_is_refused():
    with pytest.raises(ValueError, match="tune is 'last:4', but this Whole has a stack of 3 layers"):
        Tuned(Whole(), "last:4")
    with pytest.raises(ValueError, match="tune is 'last:1', but this Linear has a stack of 0 layers"):
        Tuned(nn.Linear(2, 2), "last:1")
    pytest.importorskip("peft")
    with pytest.raises(ValueError, match="tune is 'lora', but the layers of this Conv2d have no Linear"):
        Tuned(nn.Conv2d(2, 2, 1), "lora")
    with pytest.raises(ValueError, match="rank must be a whole number of at least 1; got 0"):
        Tuned(Whole(), "lora", rank=0)
