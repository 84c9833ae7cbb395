"""Batches find what single requests find, in servers of their own; nothing is timed here."""

import subprocess
import sys
from pathlib import Path

import pytest

from search.tiny_collection import write_collection


@pytest.mark.heavy
def test_both_ways_find_the_same(tmp_path):
    script = Path(__file__).parents[2] / "benchmarks" / "serve.py"
    command = [sys.executable, script, "--index", write_collection(tmp_path, rounds=1), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "8 answers of both ways are the same" in done.stdout
    assert done.stderr.count("Application shutdown complete") == 2  # stopped by SIGTERM, in order
