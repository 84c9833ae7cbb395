"""The benchmarks' peers compute what confu computes; nothing is timed here."""

import subprocess
import sys
from pathlib import Path


def test_every_peer_computes_the_same_loss():
    script = Path(__file__).parents[1] / "benchmarks" / "methods.py"
    done = subprocess.run([sys.executable, script, "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("value and gradients within") == 5
