"""Writers that are killed at any moment: the index is what it was before a write, or what it is after it."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import confu
from confu.index import Index
from index.kill_index import state


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.heavy)])
def test_writer_may_be_killed_at_any_moment(tmp_path, kills):
    folder, chance = tmp_path / "index", random.Random(kills)
    paths = [str(Path(confu.__file__).parents[1]), str(Path(__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "index.kill_index", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdin and parent.stdout and parent.stdout.readline() == "ready\n"
        for _ in range(kills):
            # Seconds of the writer's own time, so that a busy machine does not matter.
            parent.stdin.write(f"{chance.uniform(0.0, 0.08)}\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == f"ended by signal {int(signal.SIGPROF)}\n"
            with Index.open(folder) as index:
                assert index.verify() == []
                write = index.about.source.get("write", 0)
                media = index.fetch(list(index.ids())).media
                held = dict(zip(index.ids(), media.get("text", [])))
                assert held in (state(write, after=False), state(write, after=True))
        assert write > 0
