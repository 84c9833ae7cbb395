"""The peers of search and probe find what confu finds; nothing is timed here."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("name", "says"), [("search", "the same 10 rows"), ("probe", "the objective of scikit-learn")])
def test_every_peer_finds_the_same(name, says):
    pytest.importorskip("sklearn")
    script = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    done = subprocess.run([sys.executable, script, "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(says) >= 2
