"""A model whose subsets share one fusion network: the same vectors as subset by subset, saved, in part and in ONNX."""

from itertools import combinations

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from confu.inference.onnx import Tower
from confu.losses import ConFuLoss
from confu.models import MultimodalModel, load_model, save_model
from confu.models.multimodal import SharedFusers
from confu.nn.encoders import MLPEncoder
from confu.plan import Plan, Subset, disjoint_plan, pairwise_plan
from confu.types import Batch, Inputs
from models.parts import NAMES, complete_rows, dataset, model

ALL = torch.arange(12)


def four(plan, **settings):
    torch.manual_seed(0)
    encoders = {name: MLPEncoder(3, [], 2 + k) for k, name in enumerate("abcd")}
    return MultimodalModel(plan, encoders, dim=5, fusion="shared", fusion_dim=16, **settings)


def batch_of_four(rows=6):
    torch.manual_seed(1)
    inputs = {name: Inputs(torch.randn(rows, 3), torch.arange(rows)) for name in "abcd"}
    return Batch(inputs, [str(row) for row in range(rows)])


@pytest.mark.parametrize("missing", [False, True])
def test_every_subset_is_what_the_network_makes_of_it_alone(missing):
    net, batch = model(fusion="shared").eval(), dataset(missing=missing).batch(ALL)
    z = net(batch)
    h = {name: net.encode(name, batch.inputs[name]) for name in NAMES}
    for pair in combinations(NAMES, 2):
        rows = complete_rows(*pair) if missing else list(range(12))
        picked = [h[name][batch.inputs[name].rows[rows]] for name in pair]
        expected = normalize(net.fusers["+".join(pair)](picked), dim=1)
        torch.testing.assert_close(z["+".join(pair)][rows], expected, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_subset_by_subset():
    plan = disjoint_plan("abcd")
    net, batch = four(plan), batch_of_four()
    z = net(batch)
    weights = {subset: torch.randn_like(z[subset]) for subset in plan.fused_subsets}
    sum((z[subset] * weights[subset]).sum() for subset in plan.fused_subsets).backward()
    ours = {name: weight.grad.clone() for name, weight in net.fusers.named_parameters()}
    net.zero_grad()
    h = {name: net.encode(name, batch.inputs[name]) for name in "abcd"}
    total = sum(
        (normalize(net.fusers[str(subset)]([h[name] for name in subset]), dim=1) * weights[subset]).sum()
        for subset in plan.fused_subsets
    )
    total.backward()
    for name, weight in net.fusers.named_parameters():
        torch.testing.assert_close(weight.grad, ours[name], atol=1e-5, rtol=1e-4)


def test_there_is_one_network_however_many_subsets():
    few, many = four(disjoint_plan("abcd", max_order=2)), four(disjoint_plan("abcd"))
    assert isinstance(many.fusers, SharedFusers)
    assert (len(few.fusers), len(many.fusers)) == (6, 10)
    assert list(many.fusers) == [str(subset) for subset in many.plan.fused_subsets]
    assert [w.shape for w in few.fusers.parameters()] == [w.shape for w in many.fusers.parameters()]


def test_what_is_asked_for_does_not_change_a_subset():
    net, batch = four(disjoint_plan("abcd")).eval(), batch_of_four()
    z = net(batch)
    for asked in (["b+c"], ["d+c+b", "a"], ["a+b+c", "a+b"]):
        alone = net(batch, asked)
        assert all(torch.equal(alone[subset], z[subset]) for subset in alone)


def test_only_modalities_of_fused_subsets_have_a_map():
    plan = Plan.parse(["a ~ b+c", "a ~ d"])
    net = four(plan)
    assert set(net.fusers.shared.maps) == {"b", "c"}
    ConFuLoss(plan)(net(batch_of_four())).total.backward()
    assert all(weight.grad.abs().max() > 0 for weight in net.parameters())
    assert isinstance(four(pairwise_plan("abcd")).fusers, nn.ModuleDict)  # nothing to share


def test_some_towers_are_loaded_with_their_maps(tmp_path):
    net, batch = four(disjoint_plan("abcd")).eval(), batch_of_four()
    save_model(net, tmp_path)
    some = load_model(tmp_path, modalities=["b", "d", "a"])
    assert set(some.fusers.shared.maps) == {"a", "b", "d"}
    assert "a+b+d" in list(some.fusers) and "a+c" not in list(some.fusers)
    whole, part = net(batch), some(batch)
    assert all(torch.equal(part[subset], whole[subset]) for subset in part)
    alone = load_model(tmp_path, modalities=["c"])
    assert len(alone.fusers) == 0 and torch.equal(alone(batch)["c"], whole["c"])


@pytest.mark.parametrize("missing", [False, True])
def test_features_are_dropped_by_row_also_of_repeats(missing):
    net = model(fusion="shared", mask_ratio=0.5)
    batch = dataset(missing=missing).batch(ALL)
    seen = []
    net.fusers.shared.mask.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    net.train()(batch)
    assert [len(one) for one in seen] == [12, 12, 12]  # once a modality, whatever the number of its subsets
    seen.clear()
    net.eval()(batch)
    assert len(seen[2]) == 3  # captions, not rows: nothing is drawn


def test_a_subset_is_exported_with_its_own_maps_alone():
    net, batch = four(disjoint_plan("abcd")).eval(), batch_of_four()
    tower = Tower(net, Subset("a", "c"), {"a": None, "c": None}).eval()
    assert torch.equal(tower(batch.inputs["a"].values, batch.inputs["c"].values), net(batch)["a+c"])
    assert {tuple(w.shape) for w in tower.head.maps.parameters()} == {(16, 2), (16, 4), (16,)}
