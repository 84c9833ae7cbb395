"""The passes of `confu.losses.tiled` over a block on a GPU, in Triton kernels that keep no scores.

Imported on a GPU only. The forward kernel multiplies a tile of left rows with blocks of right rows and adds up exp
scores; the gradient kernel runs for each side and multiplies the scores again: five products in all. Every number is
written by one program, so that results do not depend on which program ends first.

The kernels are used where they were measured to be faster and as exact as torch; once for a device, a type and a rough
shape, which costs some seconds of compiling. CONFU_TRITON decides otherwise: `0` never, `1` wherever they can, `auto`
measures. They cannot do float64, vectors longer than 512, and scores whose exp does not fit.

Legend of the kernels: a program holds one tile of `tile` rows of its own side for good, and streams blocks of `block`
rows of the other past it. `dim` numbers a row, padded to `width`, a power of two. `held` is the type that is
multiplied, `precision` how ("ieee" or "tf32", as `tl.dot` takes it); products add up in float32, and are multiplied by
`factor` to give scores.
"""

import contextlib
import logging
import os
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, no_type_check

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

LOG2E = 1.4426950408889634
MOST_DIM = 512
"""Longer vectors do not fit in a program's registers."""

_LINES = 64  # tiles of left rows in a launch: column sums take so many lines
_EXTRA = 2**25  # numbers that the parts of a gradient may take, 128 MiB; one part is always there
_WAVES = 4  # programs a processor, so that all end at about the same time
_EXACT, _ROUNDED = 1e-4, 2e-2  # most that results may be off, in float32 and in what is rounded on request
_GAIN = 1.1  # less is within the noise of measuring
_log = logging.getLogger(__name__)


@triton.jit(do_not_specialize=["first", "n", "m", "chunk"])
@no_type_check
def sums_kernel(
    left, right, factor, left_group, right_group, left_row, right_row, row_sums, column_sums, first, n, m, dim, chunk,
    tile: tl.constexpr, block: tl.constexpr, width: tl.constexpr, apart: tl.constexpr, columns: tl.constexpr,
    held: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """Sums of exp scores of a tile of left rows (axis 0, from row `first` on) with a chunk of right rows (axis 1).

    Row sums go to (chunks, n), column sums to (tiles, m).
    """
    number = tl.program_id(0)
    rows = (first + number * tile + tl.arange(0, tile)).to(tl.int64)
    k = tl.arange(0, width)
    inside_rows = rows < n
    own = tl.load(left + rows[:, None] * dim + k[None, :], mask=inside_rows[:, None] & (k < dim)[None, :], other=0.0)
    own = own.to(held)
    scale = tl.load(factor)
    if apart:
        own_group = tl.load(left_group + rows, mask=inside_rows, other=-1)
        own_row = tl.load(left_row + rows, mask=inside_rows, other=-1)
    total = tl.zeros((tile,), dtype=tl.float32)
    begin = tl.program_id(1) * chunk
    stop = tl.minimum(begin + chunk, m)
    for start in range(begin, stop, block):
        others = (start + tl.arange(0, block)).to(tl.int64)
        inside = others < stop
        streamed = tl.load(
            right + others[:, None] * dim + k[None, :], mask=inside[:, None] & (k < dim)[None, :], other=0.0
        ).to(held)
        made = tl.exp2(tl.dot(own, tl.trans(streamed), input_precision=precision) * scale)
        counted = inside_rows[:, None] & inside[None, :]
        if apart:
            group = tl.load(right_group + others, mask=inside, other=-1)
            row = tl.load(right_row + others, mask=inside, other=-2)
            left_out = (own_group[:, None] == group[None, :]) & (own_group >= 0)[:, None]
            counted = counted & ~(left_out & (own_row[:, None] != row[None, :]))
        made = tl.where(counted, made, 0.0)
        total += tl.sum(made, axis=1)
        if columns:
            tl.store(column_sums + number.to(tl.int64) * m + others, tl.sum(made, axis=0), mask=inside)
    tl.store(row_sums + tl.program_id(1).to(tl.int64) * n + rows, total, mask=inside_rows)


@triton.jit(do_not_specialize=["n", "m", "chunk"])
@no_type_check
def gradient_kernel(
    left, right, factor, left_group, right_group, left_row, right_row, left_share, right_share, gradient, n, m, dim,
    chunk,
    tile: tl.constexpr, block: tl.constexpr, width: tl.constexpr, apart: tl.constexpr, held: tl.constexpr,
    stored: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """Of a tile of left rows (axis 0), sum_j exp(score_ij) (left_share_i + right_share_j) right_j of a chunk (axis 1).

    The result goes to (chunks, n, dim).
    """
    rows = (tl.program_id(0) * tile + tl.arange(0, tile)).to(tl.int64)
    k = tl.arange(0, width)
    inside_rows = rows < n
    where = rows[:, None] * dim + k[None, :]
    exists = inside_rows[:, None] & (k < dim)[None, :]
    own = tl.load(left + where, mask=exists, other=0.0).to(held)
    share = tl.load(left_share + rows, mask=inside_rows, other=0.0)
    scale = tl.load(factor)
    if apart:
        own_group = tl.load(left_group + rows, mask=inside_rows, other=-1)
        own_row = tl.load(left_row + rows, mask=inside_rows, other=-1)
    total = tl.zeros((tile, width), dtype=tl.float32)
    begin = tl.program_id(1) * chunk
    stop = tl.minimum(begin + chunk, m)
    for start in range(begin, stop, block):
        others = (start + tl.arange(0, block)).to(tl.int64)
        inside = others < stop
        streamed = tl.load(
            right + others[:, None] * dim + k[None, :], mask=inside[:, None] & (k < dim)[None, :], other=0.0
        ).to(held)
        other_share = tl.load(right_share + others, mask=inside, other=0.0)
        weights = tl.exp2(tl.dot(own, tl.trans(streamed), input_precision=precision) * scale)
        weights = weights * (share[:, None] + other_share[None, :])
        if apart:
            group = tl.load(right_group + others, mask=inside, other=-1)
            row = tl.load(right_row + others, mask=inside, other=-2)
            left_out = (own_group[:, None] == group[None, :]) & (own_group >= 0)[:, None]
            weights = tl.where(left_out & (own_row[:, None] != row[None, :]), 0.0, weights)
        # Rows past the end are zeros: whatever their weights are, they add nothing.
        total = tl.dot(weights.to(stored).to(held), streamed, total, input_precision=precision)
    tl.store(gradient + tl.program_id(1).to(tl.int64) * n * dim + where, total, mask=exists)


@dataclass(frozen=True)
class Kernels:
    """The two kernels, cut in one way: an engine that a block of `confu.losses.tiled` can use.

    Attributes:
        tile: rows that a program keeps.
        block: rows that stream past it at once.
        warps: of 32 threads.
        stages: blocks on their way at once.
        dtype: that is multiplied. bfloat16 is for vectors whose numbers are bfloat16's: scores are then exact to
            float32, and only the weights of the gradient are rounded.
        precision: of float32 products: `"ieee"`, or `"tf32"`, rounded to 10 bits before.
    """

    tile: int
    block: int
    warps: int = 8
    stages: int = 2
    dtype: torch.dtype = torch.float32
    precision: str = "ieee"

    def log_sums(self, block: Any) -> tuple[Tensor, Tensor | None]:
        """Logarithms of the sums of exp scores, by row and by column."""
        left, right, device = self._sides(block)
        n, m, columns = len(left), len(right), block.column_weights is not None
        tiles = -(-n // self.tile)
        lines = min(_LINES, tiles)
        chunk = self._chunk(m, _programs(device) // lines)
        row_sums = torch.empty(-(-m // chunk), n, dtype=torch.float32, device=device)
        column_sums = torch.empty(lines, m if columns else 0, dtype=torch.float32, device=device)
        total = torch.zeros(m if columns else 0, dtype=torch.float32, device=device)
        for first in range(0, tiles, lines):
            now = min(lines, tiles - first)
            with _on(device):
                sizes = [first * self.tile, n, m, left.shape[1], chunk]
                arguments = [left, right, *self._pointers(block), row_sums, column_sums, *sizes]
                sums_kernel[(now, len(row_sums))](*arguments, columns=columns, **self._constants(block))
            total += column_sums[:now].sum(dim=0)
        return row_sums.sum(dim=0).log_(), total.log_() if columns else None

    def add_softmax(self, block: Any, rows: Tensor, columns: Tensor | None, into: tuple[Tensor, Tensor]) -> None:
        """Add the gradients of both sides; as `_Block.add_softmax`."""
        left, right, device = self._sides(block)
        row_share = (block.row_weights * (-rows).exp()).contiguous()
        column_share = torch.zeros(len(right), dtype=torch.float32, device=device)
        if columns is not None:
            column_share = (block.column_weights * (-columns).exp()).contiguous()
        factor, *pointers = self._pointers(block)
        turned = [pointers[1], pointers[0], pointers[3], pointers[2]]
        self._gradient(block, left, right, [factor, *pointers], row_share, column_share, into[0])
        self._gradient(block, right, left, [factor, *turned], column_share, row_share, into[1])

    def _gradient(
        self,
        block: Any,
        left: Tensor,
        right: Tensor,
        pointers: list[Tensor],
        share: Tensor,
        other_share: Tensor,
        into: Tensor,
    ) -> None:
        tiles = -(-len(left) // self.tile)
        most = min(-(-_programs(left.device) // tiles), 1 + _EXTRA // left.numel())
        chunk = self._chunk(len(right), most)
        parts = torch.empty(-(-len(right) // chunk), *left.shape, dtype=torch.float32, device=left.device)
        with _on(left.device):
            sizes = [len(left), len(right), left.shape[1], chunk]
            arguments = [left, right, *pointers, share, other_share, parts, *sizes]
            gradient_kernel[(tiles, len(parts))](*arguments, stored=_triton_type(self.dtype), **self._constants(block))
        into += parts[0] if len(parts) == 1 else parts.sum(dim=0)

    def _sides(self, block: Any) -> tuple[Tensor, Tensor, torch.device]:
        left, right = (side.to(self.dtype).contiguous() for side in (block.left, block.right))
        return left, right, left.device

    def _pointers(self, block: Any) -> list[Tensor]:
        factor = (block.inverse * LOG2E).float()
        # Without groups any pointer will do: it is not read.
        return [factor, *([factor] * 4 if block.apart is None else [one.contiguous() for one in block.apart])]

    def _chunk(self, rows: int, parts: int) -> int:
        """Rows of a part, a multiple of `block`, for about so many parts."""
        return self.block * -(-rows // (self.block * max(1, parts)))

    def _constants(self, block: Any) -> dict[str, Any]:
        """What the kernels are compiled for."""
        # The interpreter multiplies bfloat16 as if it were whole numbers; the products are the same in float32.
        held = torch.float32 if INTERPRETED else self.dtype
        return {
            "tile": self.tile,
            "block": self.block,
            "width": max(16, 1 << (block.left.shape[1] - 1).bit_length()),
            "apart": block.apart is not None,
            "held": _triton_type(held),
            "precision": self.precision,
            "num_warps": self.warps,
            "num_stages": self.stages,
        }


INTERPRETED = not isinstance(sums_kernel, triton.JITFunction)
"""Whether Python runs the kernels, on a CPU, to test them (TRITON_INTERPRET=1)."""

# By type and longest vector, what is worth trying, the usual choice first. Chosen by what the compiler says for
# capabilities 8.0 and 9.0 (registers, spills, shared memory), not by measuring.
_CUTS = {
    (torch.bfloat16, "ieee"): {
        128: [(128, 128, 8, 3), (128, 64, 8, 3)],
        256: [(128, 64, 8, 2), (128, 64, 8, 3), (64, 64, 4, 2)],
        512: [(64, 32, 8, 2), (64, 64, 8, 2)],
    },
    (torch.float32, "ieee"): {
        128: [(64, 32, 8, 2), (32, 32, 4, 2)],
        256: [(32, 32, 8, 2), (32, 16, 4, 2)],
        512: [(16, 16, 4, 2)],
    },
    (torch.float32, "tf32"): {
        128: [(64, 64, 8, 2), (64, 32, 4, 2)],
        256: [(64, 32, 8, 2), (32, 32, 4, 2)],
        512: [(32, 32, 8, 2)],
    },
}


def candidates(dim: int, dtype: torch.dtype, precision: str) -> list[Kernels]:
    """What is worth trying for vectors of this length; none if none fits.

    >>> candidates(256, torch.bfloat16, "ieee")[0].tile
    128
    """
    cuts = next((cuts for most, cuts in _CUTS[dtype, precision].items() if dim <= most), [])
    return [Kernels(*cut, dtype=dtype, precision=precision) for cut in cuts]


@dataclass(frozen=True)
class Choice:
    """What was measured: the kernels (None is torch's way), their time over torch's (NaN if not measured), and why."""

    kernels: Kernels | None
    ratio: float
    why: str


_choices: dict[tuple[object, ...], Choice] = {}


def chosen(block: Any, bfloat16: bool, precision: str) -> Kernels | None:
    """The kernels to use for a block; None for torch's way."""
    left, right = block.left, block.right
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    kernels = candidates(left.shape[1], dtype, precision)
    if not kernels:
        return None
    if os.environ.get("CONFU_TRITON") == "1":
        return kernels[0]
    sizes = len(left).bit_length(), len(right).bit_length(), left.shape[1]
    key = (left.device, dtype, precision, *sizes, block.column_weights is None, block.apart is None)
    if key not in _choices:
        _choices[key] = choose(block, kernels, _EXACT if (dtype, precision) == (torch.float32, "ieee") else _ROUNDED)
        shape = " x ".join(map(str, (len(left), len(right), left.shape[1])))
        _log.info("contrasts of %s in %s on %s: %s", shape, dtype, left.device, _choices[key].why)
    return _choices[key].kernels


def choose(block: Any, kernels: list[Kernels], tolerance: float) -> Choice:
    """The fastest of those whose results differ from torch's by no more than the tolerance."""
    expected = _results(block, None)
    good: list[Kernels | None] = [None]
    problems = []
    for one in kernels:
        try:
            off = float(torch.stack([(a - b).abs().max() for a, b in zip(_results(block, one), expected)]).max())
        except Exception as error:  # a compiler and a driver raise errors of many kinds
            text = str(error).splitlines()[0] if str(error) else ""
            problems.append(f"{one} failed: {type(error).__name__}: {text}")
            continue
        if off <= tolerance:  # not if it is NaN
            good.append(one)
        else:
            problems.append(f"{one} is {off:.1e} off")
    for problem in problems:
        _log.warning("a Triton kernel of the loss is not used: %s", problem)
    if len(good) == 1:
        return Choice(None, float("nan"), f"torch's way ({'; '.join(problems)})")
    times = dict.fromkeys(good, float("inf"))
    for _ in range(3):  # in turn, so that a busy machine slows all
        for one in good:
            times[one] = min(times[one], _seconds(block, one))
    best = min((one for one in good if one is not None), key=times.__getitem__)
    ratio = times[best] / times[None]
    if ratio < 1 / _GAIN:
        return Choice(best, ratio, f"Triton, {best}: {ratio:.2f} of the time of torch's way")
    return Choice(None, ratio, f"torch's way: Triton takes {ratio:.2f} of its time")


def _results(block: Any, kernels: Kernels | None) -> list[Tensor]:
    """What is compared: the sums, and the gradients in units of their own length."""
    block.kernels = kernels
    rows, columns, kept = block.log_sums()
    into = torch.zeros_like(block.left), torch.zeros_like(block.right)
    block.add_softmax(rows, columns, kept, into)
    sums = [one[one.isfinite()] for one in (rows, columns) if one is not None]
    return [*(one for one in sums if len(one)), *(one / one.norm().clamp(min=1e-30) for one in into)]


def _seconds(block: Any, kernels: Kernels | None) -> float:
    if block.left.device.type == "cuda":
        torch.cuda.synchronize(block.left.device)
    started = time.perf_counter()
    _results(block, kernels)
    if block.left.device.type == "cuda":
        torch.cuda.synchronize(block.left.device)
    return time.perf_counter() - started


def _triton_type(dtype: torch.dtype) -> Any:
    return {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16}[dtype]


@lru_cache(maxsize=16)
def _programs(device: torch.device) -> int:
    """How many programs keep a device busy."""
    if device.type != "cuda":
        return 2 * _WAVES
    return _WAVES * torch.cuda.get_device_properties(device).multi_processor_count


def _on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
