"""Several processes train what one trains: the same losses and the same weights, on rows with gaps and uneven parts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from confu._typing import Embeddings, Subset
from confu.distributed import agreed_seed, every_rank, gather_embeddings, gather_rows, my_part, rank, world_size
from confu.training import TrainSettings
from confu.training.log import read_log
from confu.training.processes import begin_together
from training import two_processes

SCRIPT = Path(two_processes.__file__)


COUNTS = (2, 4)
WAYS = [*two_processes.METHODS, *(f"ring/{name}" for name in two_processes.RING)]
TRAINED = [(2, way) for way in WAYS] + [(4, way) for way in two_processes.FOUR]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """By number of processes, the folder of what they trained."""
    folders = {count: tmp_path_factory.mktemp(f"processes{count}") for count in (1, *COUNTS)}
    # gloo on the loopback, no rendezvous beyond this machine
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    commands = [[sys.executable, str(SCRIPT), str(folders[1])]]
    commands += [[*torchrun, f"--nproc-per-node={count}", str(SCRIPT), str(folders[count]), "ring"] for count in COUNTS]
    started = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        for process in started:
            _, error = process.communicate(timeout=300)
            assert process.returncode == 0, error
    finally:
        for process in started:
            process.terminate()  # torchrun ends its processes, too
    return folders


@pytest.mark.parametrize(("count", "way"), TRAINED)
def test_several_processes_end_with_the_weights_of_one(trained, count, way):
    one, several = trained[1] / way.removeprefix("ring/"), trained[count] / way
    losses = [[record["total"] for record in read_log(folder)] for folder in (one, several)]
    assert len(losses[0]) == two_processes.EPOCHS * (two_processes.STEPS + 1)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert len({round(loss, 6) for loss in losses[0]}) > 15  # it learns: a step that does nothing would be equal too
    for which in ("best", "last"):
        weights = (folder / which / "model.safetensors" for folder in (one, several))
        assert two_processes.difference(*weights) < 2e-5


def test_the_rows_that_a_term_used_count_over_all_processes(trained):
    one, two = (read_log(trained[count] / "confu") for count in (1, 2))
    assert one[0]["terms"].keys() == two[0]["terms"].keys()
    assert json.loads((trained[2] / "confu" / "settings.json").read_text())["train"]["sampling"] == "balanced"


@pytest.mark.parametrize("count", COUNTS)
def test_processes_that_were_started_unlike_one_another_say_so(trained, count):
    found = json.loads((trained[count] / "wrong_starts.json").read_text())
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
        ({"ACCELERATE_USE_FSDP": "true"}, "ACCELERATE_USE_FSDP is set, but .* need the whole model in each process"),
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
