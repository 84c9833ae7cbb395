"""Whether `log_sums` takes its Triton kernels on a GPU: where they were measured to be faster there, and are as exact.

Measured once for a device, a type and a rough shape, on the vectors at hand; that costs some seconds, as the kernels
are compiled. The environment variable CONFU_TRITON decides otherwise: `0` never, `1` wherever they can, `auto` is this.
They cannot do float64, vectors longer than 512, and scores so large that exp of them does not fit: those are torch's.
"""

import importlib.util
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from confu.losses.triton_launch import MOST_DIM, Tiling, tilings
from confu.losses.triton_sums import triton_log_sums

DEVICES = ("cuda",)
"""Types of devices; on no other is Triton so much as imported."""

Sums = tuple[Tensor, Tensor]

_log = logging.getLogger(__name__)
_LEAST_ROWS = 1024  # below, starting kernels costs more than what they do
_EXACT, _ROUNDED = 1e-4, 2e-2  # most that results may be off, in float32 and in what is rounded on request
_GAIN = 1.1  # less is within the noise of measuring


@dataclass(frozen=True)
class Choice:
    """What was found.

    Attributes:
        tiling: of the kernels; None is torch's way.
        ratio: the time of the kernels to torch's, forward and backward; NaN if it was not measured.
        why: the choice in a sentence.
    """

    tiling: Tiling | None
    ratio: float
    why: str


_choices: dict[tuple[object, ...], Choice] = {}


def asked() -> str:
    """What CONFU_TRITON says.

    Raises:
        ValueError: if it is none of `0`, `1` and `auto`.
    """
    found = os.environ.get("CONFU_TRITON", "auto")
    if found not in ("0", "1", "auto"):
        raise ValueError(f"CONFU_TRITON must be '0', '1' or 'auto'; got {found!r}")
    return found


@cache
def triton_is_there() -> bool:
    """Whether Triton is installed, as it is with torch for CUDA; without importing it."""
    return importlib.util.find_spec("triton") is not None


def in_bfloat16(vectors: Tensor) -> bool:
    """Whether these vectors, on a GPU and of bfloat16, are so many that their sums are worth the kernels."""
    able = vectors.device.type in DEVICES and vectors.dtype == torch.bfloat16
    return able and len(vectors) >= _LEAST_ROWS and triton_is_there() and asked() != "0"


def gpu_sums(
    left: Tensor,
    right: Tensor,
    ends: Sequence[int],
    columns: bool,
    same: tuple[Tensor, Tensor] | None,
    otherwise: Callable[[Tensor, Tensor], Sums],
    low: tuple[Tensor, Tensor | float] | None,
) -> Sums | None:
    """What `log_sums` gives, by the kernels; None if torch's way is to be taken.

    Args:
        left: (n, dim), divided by the temperature.
        right: (m, dim).
        ends: of the right sides.
        columns: whether column sums are wanted.
        same: numbers of rows whose pairs are left out.
        otherwise: torch's way, to compare with.
        low: the left side before it was divided, and the temperature, if all numbers are bfloat16's.
    """
    if not _able(left, right):
        return None
    precision = "tf32" if low is None and tf32_is_allowed() else "ieee"
    dtype = torch.float32 if low is None else torch.bfloat16
    whole, temperature = (left, None) if low is None else low
    temperature = None if temperature is None else torch.as_tensor(temperature, dtype=left.dtype, device=left.device)

    def by(tiling: Tiling) -> Callable[[Tensor, Tensor], Sums]:
        return lambda left, right: triton_log_sums(
            left, right, ends, temperature, columns=columns, same=same, dtype=dtype, precision=precision, tiling=tiling
        )

    ways = tilings(left.shape[1], dtype, precision)
    if not ways:
        return None
    if asked() == "1":
        return by(ways[0])(whole, right)
    key = (left.device, dtype, precision, len(left).bit_length(), len(right).bit_length(), left.shape[1], len(ends),
           columns, same is not None)  # fmt: skip
    if key not in _choices:
        most_off = _EXACT if (dtype, precision) == (torch.float32, "ieee") else _ROUNDED
        _choices[key] = choose(left, whole, right, otherwise, {one: by(one) for one in ways}, most_off)
        _log.info("log-sums of %d x %d x %d in %s on %s: %s", len(left), len(right), left.shape[1], dtype, left.device,
                  _choices[key].why)  # fmt: skip
    chosen = _choices[key].tiling
    return None if chosen is None else by(chosen)(whole, right)


def _able(left: Tensor, right: Tensor) -> bool:
    fits = left.numel() > 0 and right.numel() > 0 and left.shape[1] <= MOST_DIM
    return fits and left.dtype == torch.float32 and triton_is_there() and asked() != "0"


def choose(
    left: Tensor, whole: Tensor, right: Tensor, torch_way: Callable[[Tensor, Tensor], Sums],
    ways: Mapping[Tiling, Callable[[Tensor, Tensor], Sums]], most_off: float,
) -> Choice:  # fmt: skip
    """Which way is the fastest of those that give what torch's gives.

    Args:
        left: as torch's way takes it.
        whole: as the kernels take it.
        right: the same for all.
        torch_way: sums of the two.
        ways: the kernels, cut in several ways.
        most_off: how far results may be apart.
    """
    expected = _results(torch_way, left, right)
    good: dict[Tiling | None, Callable[[], object]] = {None: lambda: _results(torch_way, left, right)}
    said = []
    for tiling, way in ways.items():
        try:
            off = torch.stack([(a - b).abs().max() for a, b in zip(_results(way, whole, right), expected)]).max()
        except Exception as error:  # a compiler and a driver raise errors of many kinds
            said.append(f"{tiling} failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            continue
        if float(off) <= most_off:  # not if it is NaN
            good[tiling] = lambda way=way: _results(way, whole, right)
        else:
            said.append(f"{tiling} is {float(off):.1e} off")
    for one in said:
        _log.warning("a Triton kernel of the log-sums is not used: %s", one)
    if len(good) == 1:
        return Choice(None, float("nan"), f"torch's way ({'; '.join(said)})")
    times = dict.fromkeys(good, float("inf"))
    for _ in range(3):  # in turn, so that a busy machine slows all
        for tiling, way in good.items():
            times[tiling] = min(times[tiling], _seconds(way, left.device))
    best = min((tiling for tiling in good if tiling is not None), key=times.__getitem__)
    ratio = times[best] / times[None]
    if ratio < 1 / _GAIN:
        return Choice(best, ratio, f"Triton, {best}: {ratio:.2f} of the time of torch's way")
    return Choice(None, ratio, f"torch's way: Triton takes {ratio:.2f} of its time")


def _results(way: Callable[[Tensor, Tensor], Sums], left: Tensor, right: Tensor) -> list[Tensor]:
    """What is compared: the sums, and the gradients in units of their own length."""
    left, right = (side.detach().requires_grad_() for side in (left, right))
    with torch.enable_grad():
        sums = [one[one.isfinite()] for one in way(left, right)]
        gradients = torch.autograd.grad(torch.cat(sums).sum(), [left, right])
    return [*(one.detach() for one in sums if len(one)), *(one / one.norm().clamp(min=1e-30) for one in gradients)]


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def tf32_is_allowed() -> bool:
    """Whether torch may round what it multiplies on a GPU to 10 bits, by its own switch."""
    matmul = torch.backends.cuda.matmul
    precision = getattr(matmul, "fp32_precision", None)  # newer torch refuses to read the old switch beside the new
    return precision == "tf32" if precision is not None else bool(matmul.allow_tf32)
