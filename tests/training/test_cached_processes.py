"""Two processes that encode their rows in parts train what one does that encodes them all at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from confu.training.log import read_log
from training import cached_processes
from training.two_processes import difference


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    script = Path(cached_processes.__file__)
    # gloo on the loopback, no rendezvous beyond this machine
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, folder]
    source = os.pathsep.join([str(script.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": source,
    }  # fmt: skip
    done = subprocess.run(launch, env=environment, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.usefixtures("without_tensorboard")
@pytest.mark.parametrize("name", [*cached_processes.METHODS, "uneven", "ring"])
def test_two_processes_in_parts_end_with_the_weights_of_one_that_is_whole(trained, tmp_path, name):
    method = {"uneven": "confu-positives", "ring": "confu-excluded"}.get(name, name)
    cached_processes.train(method, tmp_path / name)
    one, two = ([record["total"] for record in read_log(folder / name)] for folder in (tmp_path, trained))
    assert one == pytest.approx(two, abs=2e-5)
    assert len({round(loss, 6) for loss in one}) > 5
    for which in ("best", "last"):
        file = Path(name) / which / "model.safetensors"
        assert difference(tmp_path / file, trained / file) < 5e-5


def test_running_statistics_are_the_same_on_both(trained):
    # that they are is checked by the processes themselves
    assert (trained / "norm" / "last" / "model.safetensors").exists()
