"""Weights spread over two processes train as one process does, and leave files as it does."""

import pytest
import torch
from safetensors.torch import load_file

from confu.models import load_model
from confu.training import TrainSettings
from confu.training.log import read_log
from confu.training.processes import start_accelerator
from confu.training.sharding import sharding_plugin
from confu.training.whole import parted_like, whole
from together import Started, run_together
from training import sharded_cases, two_processes
from training.sharded_cases import SHARD, WRAP, Layers, train, with_layers
from training.two_processes import difference


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What one process trained, what two did with shards, and what these said."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    alone = Started(1, sharded_cases.alone, one)
    said = run_together(2, sharded_cases.sharded, two, **SHARD)[0]
    alone.results()
    return one, two, said


@pytest.mark.parametrize("name", [*sharded_cases.METHODS, "whole", "rare"])
def test_sharded_weights_end_as_those_of_one_process(trained, name):
    folders = trained[:2]
    one, two = ([record["total"] for record in read_log(folder / name)] for folder in folders)
    assert one == pytest.approx(two, rel=5e-6, abs=1e-5)
    assert len({round(loss, 6) for loss in one}) > 15
    for which in ("best", "last"):
        assert difference(*(folder / name / which / "model.safetensors" for folder in folders)) < 2e-5


def test_each_process_holds_half(trained):
    (first, temperature), (second, other) = trained[2]["share"]
    assert (first + second, temperature) == (pytest.approx(1, abs=0.02), other)
    assert first == pytest.approx(0.5, abs=0.02)


def test_layers_that_are_groups_of_their_own_change_nothing(trained):
    one, two, said = trained
    assert (
        difference(one / "whole" / "last" / "model.safetensors", two / "wrapped" / "last" / "model.safetensors") < 2e-5
    )
    assert [part for part, _ in said["wrapped"]] == [pytest.approx(0.5, abs=0.02)] * 2


def test_a_checkpoint_is_that_of_one_process(trained):
    states = [torch.load(folder / "whole" / "state.pt", weights_only=True) for folder in trained[:2]]
    weights, moments = ([state[name] for state in states] for name in ("objective", "optimizer"))
    assert weights[0].keys() == weights[1].keys()
    assert all(type(value) is torch.Tensor for value in weights[1].values())
    assert moments[0]["param_groups"] == moments[1]["param_groups"]
    for number, found in moments[0]["state"].items():
        torch.testing.assert_close(moments[1]["state"][number], found, atol=1e-5, rtol=1e-4)


def test_stopped_and_started_again_it_ends_with_bitwise_the_same_weights(trained):
    _, two, said = trained
    assert "state.pt" in said["left"]
    assert "last" not in said["left"]
    whole_run, cut = (load_file(two / name / "last" / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(value, cut[name]) for name, value in whole_run.items())


@pytest.mark.usefixtures("without_tensorboard")
def test_one_process_goes_on_with_what_several_began(trained):
    one, two, _ = trained
    train(with_layers(seed=5), two / "taken over")
    files = (folder / "last" / "model.safetensors" for folder in (one / "whole", two / "taken over"))
    assert difference(*files) < 2e-5


def test_the_model_is_loaded_on_one_machine(trained):
    _, two, _ = trained
    model = load_model(two / "whole", {name: Layers() for name in two_processes.NAMES})
    vectors = model(sharded_cases.rows(8, 3).batch(torch.arange(8))).vectors
    last = read_log(two / "whole", kind="validation")[-1]
    assert last["epoch"] == 2
    assert all(vector.isfinite().all() for vector in vectors.values())


def test_a_monitor_sees_whole_weights(trained):
    _, two, _ = trained
    model = load_model(two / "whole" / "last", {name: Layers() for name in two_processes.NAMES})
    vectors = model(sharded_cases.rows(8, 3).batch(torch.arange(8))).vectors
    seen = read_log(two / "whole", kind="validation")[-1]["metrics"]["sum"]
    assert seen == pytest.approx(sum(float(one.detach().sum()) for one in vectors.values()), abs=1e-4)


def test_what_would_wait_for_ever_is_an_error_on_both(trained):
    rare, outside = trained[2]["rare"], trained[2]["outside"]
    assert rare == [rare[0]] * 2
    assert "has no row with 'audio' in this batch" in rare[0]
    assert "FSDP_AUTO_WRAP_POLICY=NO_WRAP" in rare[0]
    assert outside == [outside[0]] * 2
    assert "only layers of encoders can be wrapped, but model.projections.image (FSDPLinear) is wrapped" in outside[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"FSDP_VERSION": "1"}, "FSDP_VERSION is 1, .* Set FSDP_VERSION=2, or --fsdp_version 2"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "SIZE_BASED_WRAP would part what holds the encoders.* NO_WRAP"),
    ],
)
def test_what_cannot_be_is_refused(changes, message, monkeypatch):
    for name, value in {**SHARD, **WRAP, **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        sharding_plugin(with_layers())


def test_batches_in_parts_need_whole_models(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="chunk works with a whole model in each process, not with FSDP"):
        start_accelerator(with_layers(), TrainSettings(chunk=2))


def test_what_is_not_parted_stays_as_it_is():
    state = {"a": [torch.ones(2), 1], "b": "x"}
    assert whole(state)["a"][0] is state["a"][0]
    assert parted_like(state["a"][0], torch.zeros(2)) is state["a"][0]
