"""Writers that are killed at any moment: the index is what it was before a write, or what it is after it."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import confu
from confu.index import Index
from index.kill_index import state

KILLS = 20


def test_a_writer_may_be_killed_at_any_moment(tmp_path):
    folder, chance = tmp_path / "index", random.Random(0)
    paths = [str(Path(confu.__file__).parents[1]), str(Path(__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "index.kill_index", str(folder)]
    seen = set()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdin and parent.stdout and parent.stdout.readline() == "ready\n"
        for _ in range(KILLS):
            parent.stdin.write("write\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            time.sleep(chance.uniform(0.0, 0.25))
            os.kill(child, signal.SIGKILL)
            assert parent.stdout.readline() == "ended\n"
            with Index.open(folder) as index:
                assert index.verify() == []
                write = index.about.source.get("write", 0)
                media = index.fetch(list(index.ids())).media
                held = dict(zip(index.ids(), media.get("text", [])))
                assert held in (state(write, after=False), state(write, after=True))
                seen.add((write, len(held)))
    assert len(seen) > KILLS // 3  # they did write
