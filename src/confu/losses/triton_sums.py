r"""`log_sums` on a GPU, by kernels that keep no scores: forward and backward, the same numbers at every call.

Forward, a program multiplies a tile of left rows with blocks of right rows and adds up the exp scores: row sums stay
with the program, column sums go to a line a tile. Backward there are two kernels, one a side, each of which multiplies
the scores again: five products in all where memory for none is needed, and no sum depends on the order in which
programs end. Nothing is subtracted before exp, so that scores must fit: see `confu.losses.log_sums.exp_fits`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from confu.losses.triton_launch import LOG2E, How, Tiling, launch_gradient, launch_sums, tilings


def triton_log_sums(
    left: Float[Tensor, "n dim"],
    right: Float[Tensor, "m dim"],
    ends: Sequence[int],
    temperature: Float[Tensor, ""] | None = None,
    *,
    columns: bool = True,
    same: tuple[Int[Tensor, " n"], Int[Tensor, " m"]] | None = None,
    dtype: torch.dtype = torch.float32,
    precision: str = "ieee",
    tiling: Tiling | None = None,
) -> tuple[Float[Tensor, "n sides"], Float[Tensor, " _"]]:
    """Logarithms of the sums of exp scores, by row for each right side, and by column.

    Args:
        left: (n, dim) float32; n and m are 1 or more, dim up to `triton_launch.MOST_DIM`.
        right: (m, dim) float32, all right sides after one another.
        ends: of the right sides among its rows.
        temperature: scores are divided by it; None is one.
        columns: whether the column sums are wanted too; they are empty otherwise.
        same: as for `log_sums`.
        dtype: the type that is multiplied. `torch.bfloat16` is for vectors whose numbers are bfloat16's: scores are
            then exact to float32, and only the weights of the gradient are rounded.
        precision: of float32 products: `"ieee"`, or `"tf32"`, rounded to 10 bits before.
        tiling: how programs are cut; None is the usual choice.
    """
    temperature = left.new_ones(()) if temperature is None else temperature.to(left)
    how = How(tuple(ends), columns, dtype, precision, tiling or tilings(left.shape[1], dtype, precision)[0])
    found = _TritonSums.apply(left, right, temperature, *(same or (None, None)), how)
    assert isinstance(found, tuple)
    return found


class _TritonSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor, temperature: Tensor, left_same: Tensor | None,
        right_same: Tensor | None, how: How,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        left, right = (side.to(how.dtype).contiguous() for side in (left, right))
        same = None if left_same is None or right_same is None else (left_same.contiguous(), right_same.contiguous())
        rows, cols = launch_sums(left, right, LOG2E / temperature, same, how)
        ctx.save_for_backward(left, right, temperature, *(same or (None, None)), rows, cols)
        ctx.how = how
        return rows, cols

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        left, right, temperature, left_same, right_same, rows, cols = ctx.saved_tensors
        how: How = ctx.how
        wants_left, wants_right, wants_temperature = ctx.needs_input_grad[:3]
        # A sum over nothing has no gradient: where its logarithm is -inf, nothing is divided by it.
        row_share = torch.where(rows.isfinite(), grads[0] * (-rows).exp(), 0).T.contiguous()
        col_share = torch.zeros(len(right), dtype=rows.dtype, device=rows.device)
        if how.columns:
            col_share = torch.where(cols.isfinite(), grads[1] * (-cols).exp(), 0)
        factor, n = LOG2E / temperature, len(left)
        of_left = of_right = of_temperature = None
        if wants_left or wants_temperature:
            of_left = launch_gradient(left, right, factor, left_same, right_same, (row_share, n), (col_share, 0),
                                (n,), how.ends, how)  # fmt: skip
        if wants_right:
            of_right = launch_gradient(right, left, factor, right_same, left_same, (col_share, 0), (row_share, n),
                                 how.ends, (n,), how)  # fmt: skip
        if wants_temperature and of_left is not None:
            of_temperature = -(of_left * left).sum() / temperature
        return of_left if wants_left else None, of_right, of_temperature, None, None, None
