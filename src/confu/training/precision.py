"""Which precision a run computes in: bfloat16 only where the machine is faster with it and every encoder can do it."""

import os
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import nn

from confu.data import Dataset
from confu.distributed import every_rank
from confu.nn.precision import autocast_error

GAIN = 1.15
"""A ratio of times nearer to one than this is within the noise of measuring."""

CHOICES = {"CONFU_MATMUL": ("default", "onednn"), "CONFU_TRITON": ("0", "1", "auto")}
"""The values of environment variables that choose how confu computes."""


@dataclass(frozen=True)
class Precision:
    """What a run computes in.

    Attributes:
        name: float32, or bfloat16 autocast for the encoders and fusion networks.
        reason: why; empty where it is what the settings ask for.
    """

    name: Literal["float32", "bfloat16"]
    reason: str = ""

    def autocast(self, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
        """What makes the context in which a model runs."""
        if self.name == "float32":
            return nullcontext
        return partial(torch.autocast, device.type, dtype=torch.bfloat16)


def check_environment() -> None:
    """Refuse environment variables that confu does not understand, before anything is computed.

    Raises:
        ValueError: naming the variable and its values.
    """
    for name, values in CHOICES.items():
        if (value := os.environ.get(name, "")) and value not in values:
            raise ValueError(f"{name} must be {', '.join(map(repr, values[:-1]))} or {values[-1]!r}; got {value!r}")


def choose_precision(requested: str, objective: nn.Module, train: Dataset, device: torch.device) -> Precision:
    """The precision of a run on this machine; to be called by all processes, which agree on the first one's choice.

    Args:
        requested: `"float32"`, `"bfloat16"`, or `"auto"`: bfloat16 where a matrix product is faster in it and every
            encoder can run in it.
        objective: on the device; the encoders of its `model` are tried with a row each.
        train: gives these rows.
        device: of the model.

    Returns:
        the precision, with a warning if bfloat16 is requested and slower than float32.

    Raises:
        ValueError: if bfloat16 is requested and an encoder cannot run in it.
    """
    if requested == "float32":
        return Precision("float32")
    factor, reason = every_rank(_speed(device))[0]
    if requested == "auto" and not factor < 1 / GAIN:
        return Precision("float32", reason)
    failures = [failure for failure in every_rank(_failing_encoder(objective, train, device)) if failure]
    if failures and requested == "auto":
        return Precision("float32", failures[0])
    if failures:
        raise ValueError(f"{failures[0]}. Set precision to float32, or to auto, which finds out what runs here")
    if factor > GAIN:
        warnings.warn(f"precision bfloat16 is slower than float32 here: {reason}. Set precision to auto", stacklevel=3)
    return Precision("bfloat16", reason)


def legacy_precision(requested: str, device: torch.device) -> Literal["float32", "bfloat16"]:
    """What a checkpoint that does not name its precision was computed in."""
    supported = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return "bfloat16" if requested == "bfloat16" or (requested == "auto" and supported) else "float32"


def _speed(device: torch.device) -> tuple[float, str]:
    """The time of a bfloat16 product to that of a float32 one, 1 if it is not known; and this in words."""
    if device.type == "cpu":
        factor = bfloat16_factor()
        return factor, f"a bfloat16 product takes {factor:.2g} times as long on this CPU"
    if device.type != "cuda":
        return 1.0, f"bfloat16 is not chosen by itself on {device.type}"
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return 0.0, "this GPU has bfloat16 arithmetic"
    return float("inf"), "this GPU has no bfloat16 arithmetic"


@cache
def bfloat16_factor(size: int = 192, rounds: int = 5, budget: float = 0.02) -> float:
    """The time of a bfloat16 matrix product on this CPU to that of a float32 one; measured once a process.

    The best of some rounds, after one that does not count; fewer where a product takes long.
    """
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(2, size, size, generator=generator)
    best: list[float] = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b = matrices.to(dtype)
        torch.mm(a, b)
        times: list[float] = []
        while len(times) < rounds and sum(times) < budget:
            started = time.perf_counter()
            torch.mm(a, b)
            times.append(time.perf_counter() - started)
        best.append(min(times))
    return best[1] / best[0]


def _failing_encoder(objective: nn.Module, train: Dataset, device: torch.device) -> str:
    """What the first encoder says that cannot run in bfloat16 on this device; nothing changes by trying."""
    model: Any = getattr(objective, "model", None)
    encoders = getattr(model, "encoders", None)
    if not isinstance(encoders, nn.ModuleDict):
        return ""
    present = getattr(train, "present", {})
    rows = {int(mask.nonzero()[0]) for mask in present.values() if bool(mask.any())} or {0}
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        batch = train.batch(torch.tensor(sorted(rows))).to(device)
        for name, encoder in encoders.items():
            if message := autocast_error(encoder, batch.inputs[name].values):
                return f"the encoder of {name!r} ({type(encoder).__name__}) cannot run in bfloat16 here ({message})"
    return ""
