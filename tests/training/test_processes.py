"""Two processes train what one trains: the same losses and the same weights, on rows with gaps and uneven parts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from confu._typing import Embeddings, Subset
from confu.distributed import agreed_seed, every_rank, gather_embeddings, gather_rows, my_part, rank, world_size
from confu.training.log import read_log
from training import two_processes

SCRIPT = Path(two_processes.__file__)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    # gloo on the loopback, no rendezvous beyond this machine
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(SCRIPT)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    both = [
        subprocess.Popen([*command, str(folder)], env=environment, stderr=subprocess.PIPE, text=True)
        for command, folder in (([sys.executable, str(SCRIPT)], one), (launch, two))
    ]
    for process in both:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    return one, two


@pytest.mark.parametrize("method", two_processes.METHODS)
def test_two_processes_end_with_the_weights_of_one(trained, method):
    one, two = (folder / method for folder in trained)
    losses = [[record["total"] for record in read_log(folder)] for folder in (one, two)]
    assert len(losses[0]) == 2 * 4 + 2
    assert losses[0] == pytest.approx(losses[1], abs=2e-5)
    assert len({round(loss, 6) for loss in losses[0]}) > 5  # it learns: a step that does nothing would be equal too
    for which in ("best", "last"):
        assert two_processes.difference(one / which / "model.safetensors", two / which / "model.safetensors") < 5e-5


def test_the_rows_that_a_term_used_count_over_all_processes(trained):
    one, two = (read_log(folder / "confu") for folder in trained)
    assert one[0]["terms"].keys() == two[0]["terms"].keys()
    assert json.loads((trained[1] / "confu" / "settings.json").read_text())["train"]["sampling"] == "balanced"


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
