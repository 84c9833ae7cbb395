"""The two Triton kernels of `triton_sums`: sums of exp scores, and the gradient of one side. Imported on a GPU only.

Legend: a program holds one tile of `tile` rows of a side ("mine") for good, and streams blocks of `block` rows of the
other ("theirs") past it. `dim` numbers a row, padded to `width`, a power of two. Tables hold three numbers a line:
first row, the row after the last, and which right side they are of.
Scores are products times `factor` = log2(e) / temperature; products add up in float32, whatever is multiplied.
`held` is the type that is multiplied, `precision` how (`"ieee"`: float32 as it is; `"tf32"`), as `tl.dot` takes them.
"""

from typing import no_type_check

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]


@triton.jit(do_not_specialize=["first", "n", "m"])
@no_type_check
def sums_kernel(
    left, right, factor, left_same, right_same, chunks, row_sums, column_sums, first, n, m, dim,
    tile: tl.constexpr, block: tl.constexpr, width: tl.constexpr, same: tl.constexpr, columns: tl.constexpr,
    held: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """Sums of exp scores of a tile of left rows (axis 0, from row `first` on) with a chunk of right rows (axis 1).

    Row sums go to (chunks, n), column sums to (tiles, m): every number is written once, and none is added to by two
    programs, so that results do not depend on which program is done first.
    """
    number = tl.program_id(0)
    chunk = tl.program_id(1)
    rows = (first + number * tile + tl.arange(0, tile)).to(tl.int64)
    k = tl.arange(0, width)
    there = rows < n
    mine = tl.load(left + rows[:, None] * dim + k[None, :], mask=there[:, None] & (k < dim)[None, :], other=0.0)
    mine = mine.to(held)
    scale = tl.load(factor)
    if same:
        my_number = tl.load(left_same + rows, mask=there, other=-1)
    total = tl.zeros((tile,), dtype=tl.float32)
    for start in range(tl.load(chunks + 3 * chunk), tl.load(chunks + 3 * chunk + 1), block):
        others = (start + tl.arange(0, block)).to(tl.int64)
        inside = others < tl.load(chunks + 3 * chunk + 1)
        theirs = tl.load(
            right + others[:, None] * dim + k[None, :], mask=inside[:, None] & (k < dim)[None, :], other=0.0
        )
        theirs = theirs.to(held)
        made = tl.exp2(tl.dot(mine, tl.trans(theirs), input_precision=precision) * scale)
        wanted = there[:, None] & inside[None, :]
        if same:
            their_number = tl.load(right_same + others, mask=inside, other=-1)
            wanted = wanted & ((my_number[:, None] != their_number[None, :]) | (my_number < 0)[:, None])
        made = tl.where(wanted, made, 0.0)
        total += tl.sum(made, axis=1)
        if columns:
            tl.store(column_sums + number.to(tl.int64) * m + others, tl.sum(made, axis=0), mask=inside)
    tl.store(row_sums + chunk.to(tl.int64) * n + rows, total, mask=there)


@triton.jit(do_not_specialize=["count", "my_stride", "their_stride"])
@no_type_check
def gradient_kernel(
    mine, theirs, factor, my_same, their_same, my_share, their_share, my_stride, their_stride, tiles, chunks, parts,
    made, count, dim,
    tile: tl.constexpr, block: tl.constexpr, width: tl.constexpr, same: tl.constexpr, held: tl.constexpr,
    stored: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """Of a tile of my rows (axis 0), sum_j exp(score_ij) (my share_i + their share_j) theirs_j over a part (axis 1).

    A part is some chunks of their rows. Shares belong to a right side s as well: that of row i is at
    `my_share + s * my_stride + i`. The result is divided by the temperature, and goes to (parts, count, dim).
    """
    number = tl.program_id(0)
    part = tl.program_id(1)
    start = tl.load(tiles + 3 * number)
    rows = (start + tl.arange(0, tile)).to(tl.int64)
    k = tl.arange(0, width)
    there = rows < tl.load(tiles + 3 * number + 1)
    my_side = tl.load(tiles + 3 * number + 2)
    where = rows[:, None] * dim + k[None, :]
    exists = there[:, None] & (k < dim)[None, :]
    held_tile = tl.load(mine + where, mask=exists, other=0.0).to(held)
    scale = tl.load(factor)
    if same:
        my_number = tl.load(my_same + rows, mask=there, other=-1)
    total = tl.zeros((tile, width), dtype=tl.float32)
    for chunk in range(tl.load(parts + part), tl.load(parts + part + 1)):
        side = (my_side + tl.load(chunks + 3 * chunk + 2)).to(tl.int64)  # one of the two is 0
        share = tl.load(my_share + side * my_stride + rows, mask=there, other=0.0)
        stop = tl.load(chunks + 3 * chunk + 1)
        for at in range(tl.load(chunks + 3 * chunk), stop, block):
            others = (at + tl.arange(0, block)).to(tl.int64)
            inside = others < stop
            streamed = tl.load(
                theirs + others[:, None] * dim + k[None, :], mask=inside[:, None] & (k < dim)[None, :], other=0.0
            ).to(held)
            other_share = tl.load(their_share + side * their_stride + others, mask=inside, other=0.0)
            weights = tl.exp2(tl.dot(held_tile, tl.trans(streamed), input_precision=precision) * scale)
            weights = weights * (share[:, None] + other_share[None, :])
            if same:
                their_number = tl.load(their_same + others, mask=inside, other=-1)
                apart = (my_number[:, None] == their_number[None, :]) & (my_number >= 0)[:, None]
                weights = tl.where(apart, 0.0, weights)
            # Rows past the end are zeros: whatever their weights are, they add nothing.
            total = tl.dot(weights.to(stored).to(held), streamed, total, input_precision=precision)
    total = total * (scale * 0.6931471805599453)
    tl.store(made + part.to(tl.int64) * count * dim + where, total, mask=exists)


INTERPRETED = not isinstance(sums_kernel, triton.JITFunction)
"""Whether Python runs the kernels, on a CPU, to test them (TRITON_INTERPRET=1)."""
