"""The benchmarks' peers compute what confu computes, and the table of goals says what was measured."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SAYS = {
    "loss_ways": ("value and gradients within", 9),
    "methods": ("value and gradients within", 5),
    "cached_gradients": ("value and gradients within", 3),
    "step": ("loss and gradient within", 10),
    "many_modalities": ("together = one by one", 6),
    "search": ("the same 10 rows", 2),
    "supply": ("the same batches", 3),
    "av_mnist_small": ("loss and gradient within", 1),
    "profile_step": ("calls of operators", 1),
}


@pytest.fixture(scope="module")
def quick():
    command = [sys.executable, FOLDER / "run_all.py", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {part.partition("\n")[0]: part for part in done.stdout.split("== ")[1:]}


@pytest.mark.parametrize("name", ["loss_ways", "methods"])
def test_the_losses_peers_compute_the_same(monkeypatch, capsys, name):
    monkeypatch.syspath_prepend(str(FOLDER))
    importlib.import_module(name).check_equal()
    says, least = SAYS[name]
    assert capsys.readouterr().out.count(says) >= least


@pytest.mark.heavy
@pytest.mark.parametrize("name", SAYS)
def test_every_peer_computes_the_same(quick, name):
    says, least = SAYS[name]
    assert quick[name].count(says) >= least


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import run_all

    return run_all


def spread(median):
    return {"cpu_ms": {"median": median}, "wall_ms": {"median": median / 2}}


def shares(ratio):
    return {"ratio": ratio, "low": ratio - 0.01, "high": ratio + 0.01}


def write_part(folder, name, threads=1, arguments=(), **results):
    content = {"settings": {"threads": threads, "rows": 256}, "versions": {"commit": "abc"},
               "run": {"arguments": list(arguments), "seconds": 1.0}, **results}  # fmt: skip
    (folder / f"{name}-{threads}t.json").write_text(json.dumps(content))


def test_goals_are_judged_by_the_worse_thread_count(benchmarks, tmp_path):
    ways = {"released code's way": 1.0, "confu": 0.55}
    for threads, more in ((1, 0.0), (2, 0.1)):
        rows = [{"what": "N = 256", "n": 256, "way": way, "ms": 10.0, **shares(ratio + more)}
                for way, ratio in ways.items()]  # fmt: skip
        write_part(tmp_path, "loss", threads, rows=rows, missing=["a peer: not installed"])
    supply = {"kind": "bytes in memory", "supply": "DataLoader, 2 workers", "ms a batch": 20.0}
    write_part(tmp_path, "supply", rows=[supply | {"confu's ratio": shares(0.07)}])
    write_part(tmp_path, "cached-gradients", rows=[
        {"way": "plain step", **spread(100.0), **shares(1.0)}, {"way": "in parts of 64", **spread(1), **shares(1.37)},
    ])  # fmt: skip
    write_part(tmp_path, "loss-memory", peak_memory_mib=[{"way": "confu", "n": 16384, "mib": 250.0}])
    gpu = {"n": 4096, "way": "confu", "to floor of four products": shares(1.3), "to Inf-CL's arithmetic": shares(0.5)}
    content = {"settings": {"device": "a GPU"}, "versions": {}, "loss": [gpu]}
    (tmp_path / "gpu-loss.json").write_text(json.dumps(content))
    found = benchmarks.read(tmp_path)
    rows = {row["what"]: row for row in benchmarks.measured_goals(found)}
    from goals_table import goals_table, missing_peers, standing

    assert rows["loss / released code's way, N = 256"]["ours"]["1"]["ratio"] == 0.55
    assert {what: standing(row) for what, row in rows.items() if standing(row) != "not measured"} == {
        "loss / released code's way, N = 256": "missed",  # with two threads
        "batch supply, bytes in memory / DataLoader, 2 workers": "ambitious",
        "cached gradients, 4 parts / plain step": "first",
        "peak memory at N = 16384": "first",
        "GPU loss / cuBLAS bf16, four products, N = 4096": "ambitious",
        "GPU loss / Inf-CL's arithmetic, N = 4096": "first",
    }
    assert missing_peers(found) == ["a peer: not installed"]
    assert goals_table(list(rows.values())).row_count == len(rows)
    files = benchmarks.draw(list(rows.values()), found, tmp_path)
    assert [file.name for file in files] == ["goals.svg", "loss.svg"]
    assert all(file.stat().st_size for file in files)


def test_a_part_is_run_again_only_if_asked_otherwise(benchmarks, tmp_path):
    options = argparse.Namespace(folder=tmp_path, long=False)
    assert not benchmarks.is_done("loss", 1, options)
    write_part(tmp_path, "supply")
    write_part(tmp_path, "loss", arguments=["--rows", "64"])
    assert benchmarks.is_done("supply", 1, options)
    assert not benchmarks.is_done("supply", 2, options)
    assert not benchmarks.is_done("loss", 1, options)  # of other arguments


def test_a_part_that_is_there_without_its_run_was_broken_off(benchmarks, tmp_path):
    (tmp_path / "loss-1t.json").write_text("{}")
    assert benchmarks.read(tmp_path) == {}
    assert not benchmarks.is_done("loss", 1, argparse.Namespace(folder=tmp_path, long=False))
