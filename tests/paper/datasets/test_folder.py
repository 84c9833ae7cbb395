import os
import signal
import subprocess
import sys

import pytest

from confu_paper.datasets.av_mnist_build import whole_folder

ABANDONED = """
import os, signal, sys
from pathlib import Path
from confu_paper.datasets.av_mnist_build import whole_folder
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print("writing", flush=True)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def write(out, end):
    return subprocess.Popen(
        [sys.executable, "-c", ABANDONED, str(out), end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "deep" / "data") as folder:
        (folder / "half").write_text("half")
        raise RuntimeError
    assert not list((tmp_path / "deep").iterdir())


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    killed = write(tmp_path / "data", "die")
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "data").exists()
    assert (tmp_path / ".data.unfinished" / "half").exists()
    with whole_folder(tmp_path / "data") as folder:
        (folder / "whole").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["whole"]


def test_what_another_process_still_writes_is_left_alone(tmp_path):
    other = write(tmp_path / "data", "wait")
    assert other.stdout is not None
    assert other.stdout.readline() == b"writing\n"
    with pytest.raises(ValueError, match="another process is writing it"), whole_folder(tmp_path / "data"):
        pass
    other.communicate()
    assert other.returncode == 0
    assert (tmp_path / "data" / "half").read_text() == "half"


def test_a_folder_with_files_is_not_replaced(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ValueError, match="exists already"), whole_folder(tmp_path):
        pass
    assert (tmp_path / "mine").read_text() == "mine"
