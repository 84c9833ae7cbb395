"""Several processes train what one trains: gathered, in a ring, in chunks and with sharded weights."""

from itertools import chain

import pytest
import torch
from safetensors.torch import load_file

from confu.distributed import agreed_seed, every_rank, gather_embeddings, gather_rows, my_part, rank, world_size
from confu.models import load_model
from confu.plan import Subset
from confu.training import TrainSettings
from confu.training.log import read_log
from confu.training.processes import begin_together, start_accelerator
from confu.training.sharding import sharding_plugin
from confu.training.state import shard_like, unsharded
from confu.types import Embeddings
from together import Started, started_by_torchrun
from training import several_processes
from training.several_processes import EPOCHS, SHARD, SIZES, STEPS, WAYS, WRAP, Layers, difference, with_layers

pytestmark = pytest.mark.usefixtures("without_tensorboard")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """By number of processes, the folder of what they trained, and what each of them said."""
    folders = {count: tmp_path_factory.mktemp(f"processes{count}") for count in (1, *WAYS)}
    started = {1: Started(1, several_processes.train_alone, folders[1])}
    started |= {count: Started(count, several_processes.train_together, folders[count]) for count in WAYS}
    try:
        return {count: (folders[count], processes.results()) for count, processes in started.items()}
    finally:
        for processes in started.values():
            processes.end()


def assert_same_training(one, two):
    losses = [[record["total"] for record in read_log(folder)] for folder in (one, two)]
    assert len(losses[0]) == EPOCHS * (STEPS + 1)
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert len({round(loss, 6) for loss in losses[0]}) == len(losses[0])  # a step that does nothing would repeat
    for which in ("best", "last"):
        assert difference(*(folder / which / "model.safetensors" for folder in (one, two))) < 1e-3  # they move by 0.05


@pytest.mark.parametrize(("count", "way"), [(count, way) for count, ways in WAYS.items() for way in ways])
def test_several_processes_train_what_one_trains(trained, count, way):
    assert_same_training(trained[1][0] / WAYS[count][way][0], trained[count][0] / way)


@pytest.mark.parametrize("name", SIZES)
def test_rows_need_not_divide_nor_reach_every_process(trained, name):
    assert_same_training(trained[1][0] / name, trained[3][0] / name)


@pytest.mark.parametrize("count", WAYS)
def test_several_processes_rank_as_one(trained, count):
    alone, together = trained[1][1][0]["selections"], trained[count][1]
    for name, (reference,) in alone.items():
        parts = [result["selections"][name] for result in together]
        if count == 2 and name == "layers":
            parts += [result["sharded selections"][name] for result in together]
        for ranks in chain.from_iterable(parts):
            assert ranks == pytest.approx(reference, rel=1e-3), name
            assert ranks == parts[0][0] or name == "layers"


def test_torchrun_starts_several_processes(trained, tmp_path):
    assert started_by_torchrun(2, several_processes.train_one, tmp_path) == [2, 2]
    files = (folder / "last" / "model.safetensors" for folder in (trained[2][0] / "tri-clip", tmp_path))
    assert difference(*files) == 0


def test_chunks_keep_running_statistics_alike(trained):
    folder, results = trained[2]
    assert [result["norm"] for result in results] == [True, True]
    assert (folder / "norm" / "last" / "model.safetensors").exists()


@pytest.mark.parametrize("count", WAYS)
def test_unlike_processes_are_refused_on_each(trained, count):
    refusals = trained[count][1][0]["refusals"]
    for messages in refusals.values():
        assert messages == [messages[0]] * count  # every one of them, so that none waits
    first = {name: messages[0] for name, messages in refusals.items()}
    assert "must have the same setting batch_size; got 15 on process 0, 16 on process 1" in first["batch size"]
    assert "same setting negatives; got 'gather' on process 0, 'ring' on process 1" in first["negatives"]
    assert "Start all with the same settings" in first["negatives"]
    assert "must have the same plan; got {'modalities': ['image', 'audio'," in first["plan"]
    assert "must have the same loss; got 'CLIPLoss' on process 0, 'ConFuLoss'" in first["loss"]
    assert "must be finite" in first["nan confu"]
    assert "audio" in first["nan confu"]
    assert "must be finite" in first["nan gram"]
    assert "audio" in first["nan gram"]
    assert "no term of the plan has two complete rows in this batch (the most is 1)" in first["one row confu"]
    assert "needs at least 2 rows; got 1" in first["one row gram"]
    assert 'GRAMLoss compares all modalities at once. Use negatives "gather"' in first["ring"]


@pytest.mark.parametrize("name", ["gram", "layers", "rare"])
def test_sharded_weights_train_as_on_one_process(trained, name):
    assert_same_training(trained[1][0] / name, trained[2][0] / "sharded" / name)


def test_each_process_holds_half_of_the_weights(trained):
    results = trained[2][1][0]
    (first, temperature), (second, other) = results["share"]
    assert (first + second, temperature) == (pytest.approx(1, abs=0.02), other)
    for held in (first, *(part for part, _ in results["wrapped"])):
        assert held == pytest.approx(0.5, abs=0.02)


def test_wrapped_layers_change_nothing(trained):
    assert_same_training(trained[1][0] / "layers", trained[2][0] / "sharded" / "wrapped")


def test_a_sharded_checkpoint_holds_whole_tensors(trained):
    folders = trained[1][0] / "layers", trained[2][0] / "sharded" / "layers"
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in folders]
    weights, moments = ([state[name] for state in states] for name in ("objective", "optimizer"))
    assert weights[0].keys() == weights[1].keys()
    assert all(type(value) is torch.Tensor for value in weights[1].values())
    assert moments[0]["param_groups"] == moments[1]["param_groups"]
    for number, expected in moments[0]["state"].items():
        assert {name: value.shape for name, value in moments[1]["state"][number].items()} == {
            name: value.shape for name, value in expected.items()
        }


def test_a_stopped_sharded_run_resumes_bitwise(trained):
    folder, results = trained[2]
    assert "state.pt" in results[0]["left"]
    assert "last" not in results[0]["left"]
    whole, cut = (load_file(folder / "sharded" / name / "last" / "model.safetensors") for name in ("layers", "cut"))
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_one_process_resumes_what_several_began(trained):
    folder = trained[2][0] / "sharded" / "taken over"
    several_processes.train_layers(with_layers(seed=5), folder)
    assert_same_training(trained[1][0] / "layers", folder)


def test_a_sharded_model_loads_and_its_monitor_saw_it(trained):
    folder = trained[2][0] / "sharded" / "layers"
    model = load_model(folder / "last", {name: Layers() for name in several_processes.NAMES})
    vectors = model(several_processes.rows(8, 3, gaps=0).batch(torch.arange(8))).vectors
    seen = read_log(folder, kind="validation")[-1]["metrics"]["sum"]
    assert seen == pytest.approx(sum(float(vector.detach().sum()) for vector in vectors.values()), abs=1e-3)


def test_sharding_that_would_wait_is_an_error_on_both(trained):
    results = trained[2][1][0]
    assert results["waits"] == [results["waits"][0]] * 2
    assert "has no row with 'audio' in this batch" in results["waits"][0]
    assert "FSDP_AUTO_WRAP_POLICY=NO_WRAP" in results["waits"][0]
    assert results["outside"] == [results["outside"][0]] * 2
    assert "can be wrapped, but model.projections.image (FSDPLinear) is wrapped" in results["outside"][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"FSDP_VERSION": "1"}, "FSDP_VERSION is 1, .* Set FSDP_VERSION=2, or --fsdp_version 2"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "SIZE_BASED_WRAP would part what holds the encoders.* NO_WRAP"),
    ],
)
def test_sharding_that_confu_cannot_do_is_refused(changes, message, monkeypatch):
    for name, value in {**SHARD, **WRAP, **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        sharding_plugin(with_layers())


def test_chunks_with_sharding_are_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="chunk works with a whole model in each process, not with FSDP"):
        start_accelerator(with_layers(), TrainSettings(chunk=2))


def test_whole_tensors_stay_as_they_are():
    state = {"a": [torch.ones(2), 1], "b": "x"}
    assert unsharded(state)["a"][0] is state["a"][0]
    assert shard_like(state["a"][0], torch.zeros(2)) is state["a"][0]


def test_one_process_exchanges_nothing():
    rows = torch.randn(5, 3, requires_grad=True)
    assert (world_size(), rank(), every_rank("x")) == (1, 0, ["x"])
    assert gather_rows(rows) is rows
    assert torch.equal(my_part(torch.arange(5)), torch.arange(5))
    embeddings = Embeddings({Subset("a"): rows})
    assert gather_embeddings(embeddings) is embeddings
    torch.manual_seed(3)
    first = agreed_seed()
    assert first != agreed_seed()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "ACCELERATE_USE_DEEPSPEED is set, .* or with ACCELERATE_USE_FSDP=true"),
        (
            {"LOCAL_RANK": "0", "WORLD_SIZE": "4"},
            "4 processes were started, but this one knows of 1: .*ACCELERATE_USE_CPU=true",
        ),
    ],
)
def test_a_wrong_start_is_refused(environment, message, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    data, settings = several_processes.rows(16, 1), TrainSettings()
    with pytest.raises(ValueError, match=message):
        begin_together(several_processes.objective("tri-clip"), settings, data, data)


def test_the_objective_gets_the_negatives_setting():
    data, module = several_processes.rows(16, 1), several_processes.objective("tri-clip")
    begin_together(module, TrainSettings(negatives="ring"), data, data)
    assert module.negatives == "ring"
