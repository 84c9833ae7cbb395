"""The Triton kernels of the loss: interpreted on the CPU, compiled without a GPU, and run on one where there is one."""

import importlib.util
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from confu.losses import info_nce, tiled
from confu.losses.tiled import tf32_is_allowed
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
        [sys.executable, str(HERE / program), *arguments], env=told, capture_output=True, text=True, timeout=1200
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


def test_the_environment_is_checked(monkeypatch):
    monkeypatch.setattr(tiled, "KERNEL_DEVICES", ("cpu",))
    monkeypatch.setattr(tiled, "STACKED", 0)
    z = torch.nn.functional.normalize(torch.randn(8, 4), dim=1)
    monkeypatch.setenv("CONFU_TRITON", "yes")
    with pytest.raises(ValueError, match="CONFU_TRITON must be '0', '1' or 'auto'; got 'yes'"):
        info_nce(z, z)
    for mode in ("0", "auto"):  # so few rows are not worth it
        monkeypatch.setenv("CONFU_TRITON", mode)
        assert info_nce(z, z).isfinite()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("CONFU_TRITON", "1")
    assert info_nce(z, z).isfinite()


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
