"""Which library multiplies float32 matrices on a CPU: the faster of the two that torch has, found out once.

torch's default (MKL) is about 2.4 times slower than oneDNN on some processors. torch lets oneDNN multiply if bf16 is
allowed, which on some processors (with AMX) really computes in bf16: so it is used only where its result is as close to
float64 as the default's is, and where it is faster.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

_log = logging.getLogger(__name__)
_SIZE = 384
_GAIN = 1.15  # less is within the noise of measuring, and not worth a switch


@dataclass(frozen=True)
class Backend:
    """What was found.

    Attributes:
        name: `"default"` or `"onednn"`.
        ratio: the time of oneDNN's product to the default's; NaN if it was not measured.
        why: the choice in a sentence.
    """

    name: str
    ratio: float
    why: str


@cache
def matmul_backend() -> Backend:
    """Which library multiplies float32 matrices on the CPU here; measured once a process, in some milliseconds.

    The environment variable CONFU_MATMUL, `default` or `onednn`, decides without measuring; `onednn` is still checked
    for its precision.
    """
    found = _choose(os.environ.get("CONFU_MATMUL", ""))
    _log.info("float32 products on the CPU: %s (%s)", found.name, found.why)
    return found


@contextlib.contextmanager
def products(like: Tensor) -> Iterator[None]:
    """Multiply with the chosen library inside the block.

    Args:
        like: what is multiplied; nothing changes unless it is float32 on a CPU.
    """
    if like.device.type != "cpu" or like.dtype != torch.float32 or matmul_backend().name == "default":
        yield
        return
    with _onednn():
        yield


def _choose(asked: str) -> Backend:
    nothing = float("nan")
    if asked not in ("", "default", "onednn"):
        raise ValueError(f"CONFU_MATMUL must be 'default' or 'onednn'; got {asked!r}")
    if asked == "default":
        return Backend("default", nothing, "asked for by CONFU_MATMUL")
    if _switch() is None or not torch.backends.mkldnn.is_available():
        return Backend("default", nothing, "this torch cannot choose")
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, _SIZE, _SIZE, generator=generator)
    exact = a.double() @ b.double()

    def error() -> float:
        return float((a @ b - exact).abs().max())

    usual = error()
    with _onednn():
        other = error()
    if not other <= 4 * usual:
        return Backend("default", nothing, f"oneDNN is less exact here: {other:.1e} off, not {usual:.1e}")
    if asked:
        return Backend("onednn", nothing, "asked for by CONFU_MATMUL")
    times: dict[str, list[float]] = {"default": [], "onednn": []}
    for _ in range(5):  # in turn, so that a busy machine slows both
        times["default"].append(_seconds(a, b))
        with _onednn():
            times["onednn"].append(_seconds(a, b))
    ratio = min(times["onednn"]) / min(times["default"])
    name = "onednn" if ratio < 1 / _GAIN else "default"
    return Backend(name, ratio, f"oneDNN takes {ratio:.2f} of the default's time, and is as exact")


def _seconds(a: Tensor, b: Tensor) -> float:
    started = time.perf_counter()
    torch.mm(a, b)
    return time.perf_counter() - started


def _switch() -> Any:
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    return matmul if hasattr(matmul, "fp32_precision") else None


@contextlib.contextmanager
def _onednn() -> Iterator[None]:
    switch = _switch()
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        yield
    finally:
        switch.fp32_precision = before
