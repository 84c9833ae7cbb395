"""Several processes train what one trains: the same losses and the same weights, on rows with gaps and uneven parts."""

import json

import pytest
import torch

from confu.distributed import agreed_seed, every_rank, gather_embeddings, gather_rows, my_part, rank, world_size
from confu.plan import Subset
from confu.training import TrainSettings
from confu.training.log import read_log
from confu.training.processes import begin_together
from confu.types import Embeddings
from together import Started, started_by_torchrun
from training import two_processes

COUNTS = (2, 4)
WAYS = [*two_processes.METHODS, *(f"ring/{name}" for name in two_processes.RING)]
TRAINED = {2: WAYS, 4: [*two_processes.FOUR]}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """By number of processes, the folder of what they trained, and what each said when they were started unlike."""
    folders = {count: tmp_path_factory.mktemp(f"processes{count}") for count in (1, *COUNTS)}
    ways = {1: [*two_processes.METHODS], **TRAINED}
    under_way = {count: Started(count, two_processes.train_all, place, ways[count]) for count, place in folders.items()}
    try:
        return {count: (folders[count], started.results()) for count, started in under_way.items()}
    finally:
        for started in under_way.values():
            started.end()


@pytest.fixture(scope="module")
def trained(together):
    return {count: folder for count, (folder, _) in together.items()}


@pytest.mark.parametrize(("count", "way"), [(count, way) for count, ways in TRAINED.items() for way in ways])
def test_several_processes_end_with_the_weights_of_one(trained, count, way):
    one, several = trained[1] / way.removeprefix("ring/"), trained[count] / way
    losses = [[record["total"] for record in read_log(folder)] for folder in (one, several)]
    assert len(losses[0]) == two_processes.EPOCHS * (two_processes.STEPS + 1)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert len({round(loss, 6) for loss in losses[0]}) > 15  # it learns: a step that does nothing would be equal too
    for which in ("best", "last"):
        weights = (folder / which / "model.safetensors" for folder in (one, several))
        assert two_processes.difference(*weights) < 2e-5


def test_torchrun_starts_them(trained, tmp_path):
    assert started_by_torchrun(2, two_processes.train_one, tmp_path) == [2, 2]
    files = (folder / "last" / "model.safetensors" for folder in (trained[2] / "tri-clip", tmp_path))
    assert two_processes.difference(*files) == 0


def test_the_rows_that_a_term_used_count_over_all_processes(trained):
    one, two = (read_log(trained[count] / "confu") for count in (1, 2))
    assert one[0]["terms"].keys() == two[0]["terms"].keys()
    assert json.loads((trained[2] / "confu" / "settings.json").read_text())["train"]["sampling"] == "balanced"


@pytest.mark.parametrize("count", COUNTS)
def test_processes_that_were_started_unlike_one_another_say_so(together, count):
    found = together[count][1][0]
    others = ", ".join(f"'gather' on process {number}" for number in range(2, count))
    for messages in found.values():
        assert messages == [messages[0]] * count  # every one of them, so that none waits
    first = {name: messages[0] for name, messages in found.items()}
    assert first["batch size"].startswith(
        "all processes must have the same setting batch_size; got 15 on process 0, 16 on process 1"
    )
    assert first["negatives"] == (
        "all processes must have the same setting negatives; got 'gather' on process 0, 'ring' on process 1"
        f"{', ' * bool(others)}{others}. Start all with the same settings"
    )
    assert first["plan"].startswith("all processes must have the same plan; got {'modalities': ['image', 'audio',")
    assert first["loss"].startswith("all processes must have the same loss; got 'CLIPLoss' on process 0, 'ConFuLoss'")
    assert "must be finite" in first["nan confu"]
    assert "the embeddings of audio" in first["nan confu"]
    assert "audio" in first["nan gram"]
    assert "must be finite" in first["nan gram"]
    assert "no term of the plan has two complete rows in this batch (the most is 1)" in first["one row confu"]
    assert "needs at least 2 rows; got 1" in first["one row gram"]
    assert first["ring"] == (
        'negatives "ring" can do ConFuLoss and CLIPLoss, whose terms compare two embeddings at a time; GRAMLoss '
        'compares all modalities at once. Use negatives "gather"'
    )


def test_one_process_is_as_no_processes():
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
def test_a_start_that_cannot_be_right_is_refused(environment, message, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    data, settings = two_processes.rows(16, 1), TrainSettings()
    with pytest.raises(ValueError, match=message):
        begin_together(two_processes.objective("tri-clip"), settings, data, data)


def test_the_objective_is_told_how_rows_meet():
    data, module = two_processes.rows(16, 1), two_processes.objective("tri-clip")
    begin_together(module, TrainSettings(negatives="ring"), data, data)
    assert module.negatives == "ring"
