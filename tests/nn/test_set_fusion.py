"""One network for every set of modalities: its formula, that a set has no order, and what it shares."""

import pytest
import torch
from torch import nn

from confu.nn.fusion import OneSet, SetFusion, set_sums

SIZES = {"a": 2, "b": 3, "c": 4}


def fusion(**settings):
    torch.manual_seed(0)
    return SetFusion(SIZES, **{"dim": 5, "hidden_dim": 8, **settings})


def features(*names, rows=6):
    torch.manual_seed(1)
    drawn = {name: torch.randn(rows, size) for name, size in SIZES.items()}
    return {name: drawn[name] for name in names}


@pytest.mark.parametrize("names", ["ab", "abc"])
def test_it_is_its_formula(names):
    net, h = fusion(), features(*names)
    total = torch.zeros(6, 8)
    for name, values in h.items():
        total += values @ net.maps[name].weight.T + net.maps[name].bias
    hidden = (total / len(names) ** 0.5).clamp(min=0)
    expected = hidden @ net.layers[-1].weight.T + net.layers[-1].bias
    torch.testing.assert_close(net(h), expected, atol=1e-5, rtol=1e-5)


def test_a_set_has_no_order():
    net = fusion()
    assert torch.equal(net(features("a", "b", "c")), net(features("c", "a", "b")))


def test_it_knows_which_modalities_it_got():
    """Features of zeros say nothing, but that they are there."""
    net = fusion()
    nothing = {name: torch.zeros(1, size) for name, size in SIZES.items()}
    outputs = [net({name: nothing[name] for name in names}) for names in ("ab", "ac", "bc", "abc")]
    for k, one in enumerate(outputs):
        assert all((one - other).abs().max() > 1e-3 for other in outputs[:k])


@pytest.mark.parametrize("scale", [3, 20])
def test_the_number_of_modalities_does_not_change_the_scale(scale):
    torch.manual_seed(0)
    sizes = {f"m{k}": 32 for k in range(scale)}
    net = SetFusion(sizes, dim=16, hidden_dim=256)
    two = {name: torch.randn(64, 32) for name in list(sizes)[:2]}
    everything = {name: torch.randn(64, 32) for name in sizes}
    assert 0.5 < net(everything).std() / net(two).std() < 2


@pytest.mark.parametrize("names", ["ab", "cb", "abc"])
def test_as_one_set_it_gives_the_same_with_the_same_weights(names):
    net, h = fusion(depth=2), features(*names)
    one = OneSet(net, list(names))
    torch.testing.assert_close(one([h[name] for name in names]), net(h))
    held = {id(weight) for weight in net.parameters()}
    assert all(id(weight) in held for weight in one.parameters())
    without = [name for name in SIZES if name not in names]
    assert len(list(one.parameters())) == len(held) - 2 * len(without)


def test_depth_is_the_number_of_hidden_layers():
    layers = [layer for layer in fusion(depth=3).layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(8, 8), (8, 8), (8, 5)]
    assert isinstance(fusion().layers[0], nn.ReLU)


def test_sums_are_shared_and_exact():
    generator = torch.Generator().manual_seed(0)
    mapped = {name: torch.randn(5, 3, generator=generator) for name in "abcd"}
    sets = ["ab", "abc", "acd", "abcd", "b"]
    for names, total in zip(sets, set_sums(mapped, sets)):
        expected = mapped[names[0]]
        for name in names[1:]:
            expected = expected + mapped[name]
        assert torch.equal(total, expected)


def test_bad_features_say_what_to_do():
    net = fusion()
    with pytest.raises(ValueError, match="features must be of a, b, c; got 'd'"):
        net({**features("a"), "d": torch.zeros(6, 2)})
    with pytest.raises(ValueError, match=r"features must be of at least two modalities to fuse; got \['a'\]"):
        net(features("a"))
    with pytest.raises(ValueError, match=r"in_dim \[2, 3\] and one batch size; got shapes \[\(6, 3\), \(6, 3\)\]"):
        net({"a": torch.zeros(6, 3), "b": torch.zeros(6, 3)})
    with pytest.raises(ValueError, match=r"one batch size; got shapes \[\(6, 2\), \(5, 3\)\]"):
        net({"a": torch.zeros(6, 2), "b": torch.zeros(5, 3)})
    with pytest.raises(ValueError, match="in_dims must hold the sizes of at least two modalities to fuse"):
        SetFusion({"a": 2}, dim=3)
    with pytest.raises(ValueError, match="hidden_dim must be a whole number of at least 1; got 0"):
        SetFusion(SIZES, dim=3, hidden_dim=0)
