"""Every method of the comparison: what it trains, that it learns, and that it is given the same as the others."""

import copy
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints

import pytest
import torch

from confu.losses import CLIPLoss, ConFuLoss, GRAMLoss, SymileLoss, TRIANGLELoss
from confu.methods import (
    AS_RELEASED,
    FAIR,
    METHODS,
    VARIANTS,
    build_objective,
    make_objective,
    paper_name,
    registry,
    tweaked,
)
from confu.nn import Temperature
from confu.nn.encoders import MLPEncoder
from confu.plan import confu_plan
from confu.training import TrainSettings
from confu.training.objective import clamp_temperatures
from confu.training.optimizer import build_optimizer
from confu.types import SCORES
from confu_paper.datasets import xor
from confu_paper.experiments.xor import xor_run

NAMES = ("x1", "x2", "x3")
DATA = xor(p=0.5, num_train=64, num_validation=8, num_test=8).train
every = pytest.mark.parametrize("method", METHODS)


def objective(method, dim=16, **options):
    torch.manual_seed(0)
    encoders = {name: MLPEncoder(5, [32], 32) for name in NAMES}
    return build_objective(method, NAMES, encoders, dim, **options)


def batch(rows=64):
    return DATA.batch(torch.arange(rows))


def frozen(method):
    return () if METHODS[method].train_projections else ("model.projections.",)


def step(module, optimizer):
    optimizer.zero_grad()
    total = module(batch()).total
    total.backward()
    optimizer.step()
    clamp_temperatures(module)
    return total.item()


@every
def test_every_parameter_gets_a_gradient(method):
    module = objective(method)
    module(batch()).total.backward()
    for name, parameter in module.named_parameters():
        if name.startswith(frozen(method)):
            assert not parameter.requires_grad and parameter.grad is None, name
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 1e-7, name


@every
def test_a_few_steps_lower_the_loss_and_move_every_parameter(method):
    module = objective(method)
    before = copy.deepcopy(module.state_dict())
    train = tweaked(TrainSettings(lr=5e-3, batch_size=64), method, {})
    optimizer = build_optimizer(module, train)
    measured = copy.deepcopy(module).eval()(batch()).total.item()
    for _ in range(15):
        step(module, optimizer)
    assert module.eval()(batch()).total.item() < 0.98 * measured
    for name, parameter in module.named_parameters():
        kept = torch.equal(parameter, before[name])
        assert kept == name.startswith(frozen(method)), name


def test_only_one_variant_freezes_its_projections():
    assert [method for method in METHODS if frozen(method)] == ["symile-released"]
    assert len([name for name, _ in objective("symile-released").named_parameters() if "projections" in name]) == 6


@every
def test_a_temperature_that_hits_its_bound_moves_again(method):
    module = objective(method)
    temperature = module.loss.temperature
    assert isinstance(temperature, Temperature)
    if not temperature.learned:
        assert not list(temperature.parameters())
        return
    spec = METHODS[method]
    assert temperature().item() == pytest.approx(spec.temperature)
    optimizer = build_optimizer(module, TrainSettings(lr=1e-4, temperature_lr=spec.temperature_lr))
    with torch.no_grad():
        temperature.log_inverse.fill_(20.0)
    temperature.clamp_()
    assert temperature().item() == pytest.approx(spec.lowest)
    for _ in range(5):  # random embeddings match badly, which a low temperature makes costly
        step(module, optimizer)
    assert temperature().item() > spec.lowest * 1.01


def test_the_encoders_and_projections_begin_alike():
    first = objective("tri-clip").model.state_dict()
    for method in METHODS:
        own = objective(method).model
        for name, value in own.encoders.state_dict(prefix="encoders.").items():
            assert torch.equal(value, first[name]), (method, name)
        for name, value in own.projections.state_dict(prefix="projections.").items():
            assert torch.equal(value, first[name]), (method, name)


@pytest.mark.parametrize("size", ["smoke", "small", "paper"])
def test_training_differs_only_in_the_temperatures_rate(size):
    reference = xor_run("tri-clip", size=size).train.model_dump(exclude={"temperature_lr"})
    for method in (*FAIR, *AS_RELEASED):
        run = xor_run(method, size=size)
        assert run.train.model_dump(exclude={"temperature_lr"}) == reference, method
        assert run.train.temperature_lr == METHODS[method].temperature_lr
    for method in METHODS:  # a variant may have a learning rate of its own, never more epochs
        assert xor_run(method, size=size).train.epochs == reference["epochs"]


@every
def test_every_method_has_the_same_encoders_in_a_recipe(method):
    model = xor_run(method).objective().model
    assert {name: encoder.settings for name, encoder in model.encoders.items()} == {
        name: MLPEncoder(5, [128], 128).settings for name in NAMES
    }
    assert {name: (one.in_features, one.out_features) for name, one in model.projections.items()} == dict.fromkeys(
        NAMES, (128, 128)
    )
    assert model.score == METHODS[method].score
    assert bool(len(model.fusers)) == METHODS[method].fused


def test_the_losses_are_those_that_the_names_say():
    kinds = {name: type(objective(name).loss) for name in METHODS}
    by_paper = {
        "clip": CLIPLoss,
        "tri-clip": CLIPLoss,
        "symile": SymileLoss,
        "gram": GRAMLoss,
        "triangle": TRIANGLELoss,
        "confu": ConFuLoss,
    }
    assert {name: by_paper[paper_name(name)] for name in METHODS} == kinds
    assert objective("symile-n2").loss.negatives == "n_squared"
    for name in ("gram", "triangle"):
        fair, released = objective(name).loss, objective(f"{name}-released").loss
        assert (fair.anchors, fair.label_smoothing, fair.temperature.learned) == (NAMES, 0.0, True)
        assert (released.anchors, released.label_smoothing, released.temperature.learned) == (("x1",), 0.1, False)
        assert released.temperature().item() == pytest.approx(0.07)
    assert objective("triangle").loss.formula == "published"
    assert objective("triangle-released").loss.formula == "released"
    assert objective("confu").loss.weighting == "paper"
    assert objective("confu-released").loss.weighting == "released"


def test_the_variants_hold_each_paper_method_once():
    assert len(FAIR) == len(AS_RELEASED) == 6
    assert [paper_name(method) for method in FAIR] == [paper_name(method) for method in AS_RELEASED] == list(FAIR)
    assert sorted(VARIANTS["both"]) == sorted({*FAIR, *AS_RELEASED})
    assert set(METHODS) >= set(VARIANTS["both"])
    assert {spec.score for spec in METHODS.values()} == set(SCORES)
    assert all(spec.about for spec in METHODS.values())


@every
def test_an_experiment_may_learn_an_open_temperature(method):
    learned = objective(method, learned_temperature=True).loss.temperature.learned
    assert learned == (METHODS[method].learned is not False)


def test_wrong_names_and_settings_are_refused():
    with pytest.raises(ValueError, match="method 'symil' is not known; did you mean 'symile'"):
        objective("symil")
    with pytest.raises(ValueError, match="exactly three modalities; got 2"):
        build_objective("triangle", NAMES[:2], {name: MLPEncoder(5, [8], 8) for name in NAMES[:2]}, 4)
    for name, value in {"fused_weight": 0.3, "fusion_depth": 2, "fusion_dim": 64, "mask_ratio": 0.3}.items():
        with pytest.raises(ValueError, match=f"gram has no fusion networks, so {name} changes nothing"):
            objective("gram", tweaks={name: value})
    with pytest.raises(ValueError, match="'fused_weights' is not known; did you mean 'fused_weight'"):
        objective("confu", tweaks={"fused_weights": 0.3})


def test_another_packages_method_is_one_row(monkeypatch):
    own = replace(METHODS["gram"], loss=lambda plan, temperature: CLIPLoss(plan.modalities, temperature))
    entries = EntryPoints([EntryPoint("own", "tests:own", "confu.methods"), EntryPoint("bad", "b:b", "confu.methods")])
    monkeypatch.setattr(EntryPoint, "load", lambda entry: own if entry.name == "own" else "no method")
    monkeypatch.setattr(registry, "entry_points", lambda **options: entries.select(**options))
    assert METHODS["own"] is own
    assert list(METHODS)[-2:] == ["bad", "own"]
    assert type(objective("own").loss) is CLIPLoss
    with pytest.raises(ValueError, match=r"entry point 'bad' of confu\.methods must be a Method; got 'no method'"):
        METHODS["bad"]
    with pytest.raises(KeyError):
        METHODS["unknown"]


def test_a_setting_left_open_is_the_methods_own():
    encoders = {name: MLPEncoder(5, [8], 8) for name in NAMES}
    made = make_objective("confu-bilinear", confu_plan(NAMES), encoders, {"dim": 4, "fusion": None})
    assert (made.model.settings["fusion"], made.loss.temperature.learned) == ("bilinear", True)
    other = make_objective(
        "confu", confu_plan(NAMES), encoders, {"dim": 4, "fusion": "bilinear"}, 2.0, True, "positives"
    )
    assert (other.model.settings["fusion"], other.loss.same_group) == ("bilinear", "positives")
    assert other.loss.temperature().item() == pytest.approx(2.0)  # outside the usual bounds, but asked for
    with pytest.raises(ValueError, match="gram compares all modalities at once and takes no same_group"):
        objective("gram", same_group="positives")
