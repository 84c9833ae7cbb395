"""How the kernels of `triton_kernels` are started: which program does what, and in which room."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

LOG2E = math.log2(math.e)
MOST_DIM = 512
"""Longer vectors do not fit in a program's registers."""

_LINES = 64  # tiles of left rows in a launch: column sums take so many lines
_EXTRA = 2**25  # numbers that the parts of a gradient may take, 128 MiB; one part is always there
_WAVES = 4  # programs a processor, so that all end at about the same time


@dataclass(frozen=True)
class Tiling:
    """How a program is cut.

    Attributes:
        tile: rows that it keeps.
        block: rows that stream past it at once.
        warps: of 32 threads.
        stages: blocks on their way at once.
    """

    tile: int
    block: int
    warps: int = 8
    stages: int = 2


_BFLOAT16 = {
    128: [Tiling(128, 128, 8, 3), Tiling(128, 64, 8, 3)],
    256: [Tiling(128, 64), Tiling(128, 64, 8, 3), Tiling(64, 64, 4)],
    512: [Tiling(64, 32), Tiling(64, 64)],
}
_FLOAT32 = {
    128: [Tiling(64, 32), Tiling(32, 32, 4)],
    256: [Tiling(32, 32), Tiling(32, 16, 4)],
    512: [Tiling(16, 16, 4)],
}
_TF32 = {128: [Tiling(64, 64), Tiling(64, 32, 4)], 256: [Tiling(64, 32), Tiling(32, 32, 4)], 512: [Tiling(32, 32)]}


def tilings(dim: int, dtype: torch.dtype, precision: str = "ieee") -> list[Tiling]:
    """What is worth trying for vectors of this length; the first is the usual choice, none means that none fits.

    Chosen by what the compiler says for capabilities 8.0 and 9.0 (registers, spills, shared memory), not by measuring.

    >>> tilings(256, torch.bfloat16)[0]
    Tiling(tile=128, block=64, warps=8, stages=2)
    """
    wide = {(torch.float32, "ieee"): _FLOAT32, (torch.float32, "tf32"): _TF32, (torch.bfloat16, "ieee"): _BFLOAT16}
    return next((found for most, found in wide[dtype, precision].items() if dim <= most), [])


@dataclass(frozen=True)
class How:
    """All that is not a tensor: ends of the right sides, whether columns are wanted, the type multiplied, the cut."""

    ends: tuple[int, ...]
    columns: bool
    dtype: torch.dtype
    precision: str
    tiling: Tiling


def launch_sums(
    left: Tensor, right: Tensor, factor: Tensor, same: tuple[Tensor, Tensor] | None, how: How
) -> tuple[Tensor, Tensor]:
    """Row sums by right side, and column sums, as logarithms; see `triton_sums`."""
    from confu.losses.triton_kernels import sums_kernel

    n, m, cut, device = len(left), len(right), how.tiling, left.device
    tiles = -(-n // cut.tile)
    lines = min(_LINES, tiles)
    chunks = _table(how.ends, _share(m, _programs(device) // lines, cut.block), device)
    row_sums = torch.empty(len(chunks.lines), n, dtype=torch.float32, device=device)
    column_sums = torch.empty(lines, m if how.columns else 0, dtype=torch.float32, device=device)
    columns = torch.zeros(m if how.columns else 0, dtype=torch.float32, device=device)
    left_same, right_same = same or (factor, factor)  # any pointer: it is not read
    for first in range(0, tiles, lines):
        now = min(lines, tiles - first)
        with _on(device):
            sums_kernel[(now, len(chunks.lines))](
                left, right, factor, left_same, right_same, chunks.tensor, row_sums, column_sums, first * cut.tile, n,
                m, left.shape[1], same=same is not None, columns=how.columns, **_constants(left, how),
            )  # fmt: skip
        columns += column_sums[:now].sum(dim=0)
    rows = torch.stack([row_sums[one].sum(dim=0) for one in chunks.of_sides(len(how.ends))], dim=1)
    return rows.log_(), columns.log_()


def launch_gradient(
    mine: Tensor, theirs: Tensor, factor: Tensor, my_same: Tensor | None, their_same: Tensor | None,
    my_share: tuple[Tensor, int], their_share: tuple[Tensor, int], my_ends: Sequence[int], their_ends: Sequence[int],
    how: How,
) -> Tensor:  # fmt: skip
    """Of one side; a share comes with the distance from its numbers for one right side to those for the next."""
    from confu.losses.triton_kernels import gradient_kernel

    count, dim, cut, device = *mine.shape, how.tiling, mine.device
    tiles = _table(tuple(my_ends), cut.tile, device)
    most = min(-(-_programs(device) // len(tiles.lines)), 1 + _EXTRA // mine.numel())
    chunks = _table(tuple(their_ends), _share(len(theirs), most, cut.block), device)
    made = torch.empty(len(chunks.parts) - 1, count, dim, dtype=torch.float32, device=device)
    with _on(device):
        gradient_kernel[(len(tiles.lines), len(made))](
            mine, theirs, factor, factor if my_same is None else my_same, factor if their_same is None else their_same,
            my_share[0], their_share[0], my_share[1], their_share[1], tiles.tensor, chunks.tensor, chunks.parts, made,
            count, dim, same=my_same is not None, stored=_triton_type(how.dtype), **_constants(mine, how),
        )  # fmt: skip
    return made[0] if len(made) == 1 else made.sum(dim=0)


@dataclass(frozen=True)
class _Table:
    """Rows of several sides cut in pieces.

    Attributes:
        lines: first row, the row after the last, and the side, of each piece.
        tensor: the same on the device.
        parts: on the device, the pieces where each part begins, and how many pieces there are.
    """

    lines: tuple[tuple[int, int, int], ...]
    tensor: Tensor
    parts: Tensor

    def of_sides(self, sides: int) -> list[slice]:
        """Which pieces are those of each side."""
        counts = [sum(line[2] == side for line in self.lines) for side in range(sides)]
        ends = list(accumulate(counts))
        return [slice(end - count, end) for end, count in zip(ends, counts)]


@lru_cache(maxsize=256)
def _table(ends: tuple[int, ...], size: int, device: torch.device) -> _Table:
    """Cut at every end and at every multiple of `size`; a part is what lies between two such multiples."""
    lines, start = [], 0
    for side, end in enumerate(ends):
        while start < end:
            stop = min(end, (start // size + 1) * size)
            lines.append((start, stop, side))
            start = stop
    firsts = [number for number, line in enumerate(lines) if line[0] % size == 0]
    with torch.inference_mode(False):
        return _Table(
            tuple(lines),
            torch.tensor(lines, dtype=torch.int32, device=device),
            torch.tensor([*firsts, len(lines)], dtype=torch.int32, device=device),
        )


def _share(rows: int, parts: int, block: int) -> int:
    """Rows of a part, a multiple of `block`, for about so many parts."""
    return block * -(-rows // (block * max(1, parts)))


def _constants(vectors: Tensor, how: How) -> dict[str, Any]:
    """What the kernels are compiled for."""
    from confu.losses.triton_kernels import INTERPRETED

    # The interpreter multiplies bfloat16 as if it were whole numbers; the products are the same in float32.
    held = torch.float32 if INTERPRETED else how.dtype
    cut = how.tiling
    return {
        "tile": cut.tile, "block": cut.block, "width": max(16, 1 << (vectors.shape[1] - 1).bit_length()),
        "held": _triton_type(held), "precision": how.precision,
        "num_warps": cut.warps, "num_stages": cut.stages,
    }  # fmt: skip


def _triton_type(dtype: torch.dtype) -> Any:
    from confu.losses.triton_kernels import tl

    return {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16}[dtype]


@lru_cache(maxsize=16)
def _programs(device: torch.device) -> int:
    """How many programs keep a device busy."""
    if device.type != "cuda":
        return 2 * _WAVES
    return _WAVES * torch.cuda.get_device_properties(device).multi_processor_count


def _on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
