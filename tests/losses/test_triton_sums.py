"""The Triton kernels of the loss: interpreted on the CPU, compiled without a GPU, and run on one where there is one."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from confu.losses import gpu_sums
from confu.losses.gpu_sums import asked, choose, in_bfloat16, tf32_is_allowed
from confu.losses.triton_launch import Tiling, _table
from losses.triton_cases import CASES

HERE = Path(__file__).parent
VERSION = version("triton") if importlib.util.find_spec("triton") is not None else "0.0"
needs_triton = pytest.mark.skipif(VERSION == "0.0", reason="Triton is not installed")
# The interpreter of older ones does not know NumPy 2, and their compiler is called in another way.
needs_tools = pytest.mark.skipif(tuple(map(int, VERSION.split(".")[:2])) < (3, 7), reason="no Triton from 3.7 on")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def run(program, folder, *arguments, **environment):
    """A program in an interpreter of its own: what Triton is told counts when it is imported."""
    paths = os.pathsep.join([str(HERE.parent), *(path for path in sys.path if path)])
    told = {**os.environ, "PYTHONPATH": paths, "TRITON_CACHE_DIR": str(folder / "cache"), **environment}
    done = subprocess.run(
        [sys.executable, str(HERE / program), *arguments], env=told, capture_output=True, text=True, timeout=300
    )
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    run("triton_cases.py", folder, str(folder / "failed.json"), TRITON_INTERPRET="1")
    return json.loads((folder / "failed.json").read_text())


@needs_tools
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_interpreted(case, interpreted):
    assert not interpreted[case.__name__], interpreted[case.__name__]


@needs_triton
@needs_gpu
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_on_a_gpu(case, as_users_run):
    case("cuda")


@needs_tools
@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_compiled_for_gpus_that_are_not_there(tmp_path):
    lines = [line.split() for line in run("triton_compiled.py", tmp_path, TRITON_INTERPRET="0").splitlines()]
    assert len(lines) == 2
    for name, there, shared in lines:
        assert there == "True", name
        assert int(shared) <= 227 * 1024


def sums(left, right, factor=1.0):
    scores = left @ right.T * factor
    return scores.logsumexp(1)[:, None], scores.logsumexp(0)


def test_kernels_that_fail_or_differ_are_not_taken_and_the_log_says_so(monkeypatch, caplog):
    def fails(left, right):
        raise RuntimeError("out of shared memory\nand so on")

    left, right = torch.randn(2, 6, 3)
    ways = {Tiling(16, 16): fails, Tiling(32, 16): lambda left, right: sums(left, right, 1.01)}
    with caplog.at_level(logging.WARNING):
        choice = choose(left, left, right, sums, ways, 1e-4)
    assert choice.tiling is None
    assert "failed: RuntimeError: out of shared memory" in caplog.text and "off" in caplog.text
    times = iter([2.0, 1.0] * 3)
    monkeypatch.setattr(gpu_sums, "_seconds", lambda work, device: next(times))
    ways[Tiling(16, 32)] = lambda left, right: sums(left, right, torch.nan)
    assert choose(left, left, right, sums, {**ways, Tiling(64, 16): sums}, 1e-4).tiling == Tiling(64, 16)


def test_what_the_environment_asks_for(monkeypatch):
    monkeypatch.setenv("CONFU_TRITON", "yes")
    with pytest.raises(ValueError, match="CONFU_TRITON must be '0', '1' or 'auto'; got 'yes'"):
        asked()
    monkeypatch.setenv("CONFU_TRITON", "0")
    monkeypatch.setattr(gpu_sums, "DEVICES", ("cpu",))
    vectors = torch.ones(2000, 4)
    assert gpu_sums.gpu_sums(vectors, vectors, [2000], True, None, sums, None) is None
    assert not in_bfloat16(vectors.bfloat16())
    monkeypatch.delenv("CONFU_TRITON")
    monkeypatch.setattr(gpu_sums, "triton_is_there", lambda: True)
    assert in_bfloat16(vectors.bfloat16()) and not in_bfloat16(vectors) and not in_bfloat16(vectors[:9].bfloat16())


def test_float32_is_rounded_only_where_torch_may_round_it():
    matmul = torch.backends.cuda.matmul
    # Newer torch has another switch, and refuses to read the old one after that was set.
    name, off, on = ("fp32_precision", "ieee", "tf32") if has_new_switch(matmul) else ("allow_tf32", False, True)
    before = getattr(matmul, name)
    try:
        for value in (off, on):
            setattr(matmul, name, value)
            assert tf32_is_allowed() == (value == on)
    finally:
        setattr(matmul, name, before)


def has_new_switch(matmul):
    return getattr(matmul, "fp32_precision", None) is not None


@pytest.mark.parametrize("ends", [(5,), (3, 3, 20), (0, 4), (16, 40, 41)])
@pytest.mark.parametrize("size", [1, 4, 16])
def test_tables_cover_every_row_once_within_its_side(ends, size):
    table = _table(ends, size, torch.device("cpu"))
    covered = [(row, side) for start, stop, side in table.lines for row in range(start, stop)]
    starts = (0, *ends)
    assert covered == [(row, side) for side, end in enumerate(ends) for row in range(starts[side], end)]
    for part in range(len(table.parts) - 1):
        lines = table.lines[table.parts[part] : table.parts[part + 1]]
        assert 0 < lines[-1][1] - lines[0][0] <= size
    assert table.parts[0] == 0 and table.parts[-1] == len(table.lines)
