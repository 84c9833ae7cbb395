"""The benchmarks' peers compute what confu computes; nothing is timed here."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("name", "compared"), [("methods", 5), ("loss", 10), ("cached_gradients", 3)])
def test_every_peer_computes_the_same_loss(name, compared):
    script = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    done = subprocess.run([sys.executable, script, "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("value and gradients within") >= compared
