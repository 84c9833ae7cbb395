"""InfoNCE of all terms of a large batch in which nothing is missing: one node of autograd, scores made again in tiles.

What it computes is said in `confu.losses.log_sums`, which does the same where rows are missing or groups count.
Here every tile's gradient is added to its sides where it is made, so that beside the gradients, which are wanted, there
are two tiles.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from confu.losses import log_sums as kernel
from confu.losses.batched import SMALLEST, OutOfRangeError, in_range
from confu.products import products

Pairs = Sequence[tuple[int, int]]


def tiled_info_nce(
    vectors: Sequence[Float[Tensor, "n dim"]], pairs: Pairs, temperature: float | Tensor, symmetric: bool = True
) -> Float[Tensor, " terms"] | None:
    """InfoNCE of each term, every row with both sides and no groups, in O(n dim) memory.

    Args:
        vectors: the sides.
        pairs: of each term the side that asks and the one that answers.
        temperature: of all terms.
        symmetric: both directions.

    Returns:
        (terms,) in nats; None if exp might overflow, so that it has to be computed with more care.

    >>> z = torch.eye(4)
    >>> round(tiled_info_nce([z, z], [(0, 1)], 1.0).item(), 4)
    0.7437
    """
    return in_range(_Tiled, pairs, symmetric, temperature, vectors)


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pairs: Pairs, symmetric: bool, temperature: Tensor, *vectors: Tensor) -> Tensor:
        n, factor = len(vectors[0]), kernel.LOG2E / temperature
        sums = vectors[0].new_zeros(2 if symmetric else 1, len(pairs), n)  # by row, and by column
        own = vectors[0].new_empty(len(pairs), n)
        room = vectors[0].new_empty(_rows(n), n)
        with torch.autocast(vectors[0].device.type, enabled=False), products(vectors[0]):
            for number, (left, right) in enumerate(pairs):
                for part in _tiles(n):
                    scores = torch.mm(
                        vectors[left][part] * factor, vectors[right].T, out=room[: part.stop - part.start]
                    )
                    own[number, part] = scores[:, part].diagonal()
                    torch.sum(scores.exp2_(), dim=1, out=sums[0, number, part])
                    if symmetric:
                        sums[1, number] += scores.sum(dim=0)
        low, high = (float(edge) for edge in sums.aminmax())
        if not (low > SMALLEST and high < float("inf")):  # NaN too
            raise OutOfRangeError
        ctx.save_for_backward(temperature, sums, *vectors)
        ctx.pairs = pairs
        return sums.log().mean(dim=0).sub_(own.div_(kernel.LOG2E)).mean(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        temperature, sums, *vectors = ctx.saved_tensors
        n, factor = len(vectors[0]), kernel.LOG2E / temperature
        each = grads[0] / (len(sums) * n * temperature)
        own = len(sums) * each
        made = {side: torch.zeros_like(vectors[side]) for pair in ctx.pairs for side in pair}
        room = [vectors[0].new_empty(_rows(n), n) for _ in range(len(sums))]
        with torch.autocast(vectors[0].device.type, enabled=False), products(vectors[0]):
            for number, (left, right) in enumerate(ctx.pairs):
                shares = each[number] / sums[:, number]
                for part in _tiles(n):
                    size = part.stop - part.start
                    mine = vectors[left][part]
                    weights = torch.mm(mine * factor, vectors[right].T, out=room[0][:size]).exp2_()
                    if len(sums) > 1:
                        weights.mul_(torch.add(shares[0, part, None], shares[1], out=room[1][:size]))
                    else:
                        weights.mul_(shares[0, part, None])
                    weights[:, part].diagonal().sub_(own[number])
                    made[left][part].addmm_(weights, vectors[right])
                    made[right].addmm_(weights.T, mine)
        of_temperature = None
        if ctx.needs_input_grad[2]:  # every score is divided by it, and each is counted by two sides
            of_temperature = sum((vectors[side] * one).sum() for side, one in made.items()) / (-2 * temperature)
        return None, None, of_temperature, *(made.get(side) for side in range(len(vectors)))


def _rows(n: int) -> int:
    return max(1, min(n, kernel.TILE // n))


def _tiles(n: int) -> Iterator[slice]:
    for start in range(0, n, _rows(n)):
        yield slice(start, min(start + _rows(n), n))
