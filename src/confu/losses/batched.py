"""InfoNCE of all terms of a batch in which nothing is missing: one node of autograd, few calls, exp scores kept.

What it computes is said in `confu.losses.log_sums`; here the diagonal, the means and the temperature are part of
it, and a side's gradients from several terms are added where they are made. At 64 rows calls cost more than numbers.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from confu.losses.log_sums import LOG2E
from confu.products import products

_LARGEST = 75.0  # of a score of unit vectors: exp of it, summed over any batch that is kept, fits in float32
SMALLEST = 1e-25  # of a sum: what vanished beside it is less than rounding
_TILE = 2**20  # numbers of a tile of the gradient
_FEW = 80  # rows below which torch's own product is as fast as any: a call of the other library costs 20 microseconds

Stacks = Sequence[tuple[int, Sequence[int], Sequence[int]]]
"""A side, the sides on whose terms with it one product is taken, and the numbers of these terms."""


def batched_info_nce(
    vectors: Sequence[Float[Tensor, "n dim"]], stacks: Stacks, temperature: float | Tensor, symmetric: bool = True
) -> Float[Tensor, " terms"] | None:
    """InfoNCE of each term, every row with both sides and no groups.

    Args:
        vectors: the sides.
        stacks: their terms; the side of a stack asks, if `symmetric` is False.
        temperature: of all terms.
        symmetric: both directions.

    Returns:
        (terms,) in nats; None if exp might overflow, so that it has to be computed with more care.

    >>> z = torch.eye(4)
    >>> round(batched_info_nce([z, z], [(0, [1], [0])], 1.0).item(), 4)
    0.7437
    """
    return in_range(_Batched, stacks, symmetric, temperature, vectors)


def in_range(
    node: type[torch.autograd.Function], terms: Sequence[Any], symmetric: bool, temperature: float | Tensor,
    vectors: Sequence[Tensor],
) -> Tensor | None:  # fmt: skip
    """What a node of autograd makes of the terms; None if exp of a score might overflow, or a sum of them did."""
    scale = torch.as_tensor(temperature, dtype=vectors[0].dtype, device=vectors[0].device)
    if not float(scale.detach()) * _LARGEST > 1:
        return None
    try:
        return node.apply(terms, symmetric, scale, *vectors)  # pyright: ignore[reportReturnType]
    except OutOfRangeError:
        return None


class OutOfRangeError(ArithmeticError):
    """A sum of exp scores overflowed or vanished."""


class _Batched(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stacks: Stacks, symmetric: bool, temperature: Tensor, *vectors: Tensor) -> Tensor:
        n = len(vectors[0])
        order = [term for _, _, terms in stacks for term in terms]
        sums = vectors[0].new_empty(2 if symmetric else 1, len(order), n)  # by row, and by column
        own = vectors[0].new_empty(len(order), n)
        kept: list[Tensor] = []
        factor, start = LOG2E / temperature, 0
        with torch.autocast(vectors[0].device.type, enabled=False), _products(vectors[0]):
            for anchor, others, _ in stacks:
                end = start + len(others)
                right = torch.cat([vectors[other] for other in others]) if len(others) > 1 else vectors[others[0]]
                scores = torch.mm(vectors[anchor] * factor, right.T).view(n, len(others), n)
                own[start:end] = scores.diagonal(dim1=0, dim2=2)
                scores.exp2_()
                sums[0, start:end] = scores.sum(dim=2).T
                if symmetric:
                    torch.sum(scores, dim=0, out=sums[1, start:end])
                kept.append(scores)
                start = end
        low, high = (float(edge) for edge in sums.aminmax())
        if not (low > SMALLEST and high < float("inf")):  # NaN too
            raise OutOfRangeError
        found = sums.log().mean(dim=0).sub_(own.div_(LOG2E)).mean(dim=1)
        ctx.save_for_backward(temperature, sums, *vectors, *kept)
        ctx.how = stacks, order
        losses = torch.empty_like(found)
        losses[order] = found
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        stacks, order = ctx.how
        temperature, sums, *saved = ctx.saved_tensors
        count = len(ctx.needs_input_grad) - 3
        vectors, kept = saved[:count], saved[count:]
        n = len(vectors[0])
        made: dict[int, Tensor] = {}
        each = grads[0][order] / (len(sums) * n * temperature)
        shares, own = each[:, None] / sums, len(sums) * each
        start = 0
        with torch.autocast(vectors[0].device.type, enabled=False), _products(vectors[0]):
            for (anchor, others, _), scores in zip(stacks, kept):
                part = slice(start, start + len(others))
                right = torch.cat([vectors[other] for other in others]) if len(others) > 1 else vectors[others[0]]
                columns = shares[1, part] if len(shares) > 1 else None
                of_left, of_right = _sides(scores, shares[0, part].T, columns, own[part], vectors[anchor], right)
                _add(made, anchor, of_left)
                for place, other in enumerate(others):
                    _add(made, other, of_right[place * n : (place + 1) * n])
                start += len(others)
        of_temperature = None
        if ctx.needs_input_grad[2]:  # every score is divided by it, and each is counted by two sides
            of_temperature = sum((vectors[side] * one).sum() for side, one in made.items()) / (-2 * temperature)
        return None, None, of_temperature, *(made.get(number) for number in range(count))


def _products(like: Tensor) -> contextlib.AbstractContextManager[None]:
    return products(like) if len(like) >= _FEW else contextlib.nullcontext()


def _sides(
    scores: Tensor, row_share: Tensor, column_share: Tensor | None, own: Tensor, left: Tensor, right: Tensor
) -> tuple[Tensor, Tensor]:
    """W R and W^T L of the weights W = E (row share + column share) - own on each diagonal, in tiles of rows."""
    n, blocks, _ = scores.shape
    tile = max(1, min(n, _TILE // (blocks * n)))
    room = scores.new_empty(tile, blocks, n)
    of_left, of_right = torch.empty_like(left), torch.empty_like(right)
    for start in range(0, n, tile):
        part = slice(start, min(start + tile, n))
        weights = room[: part.stop - start]
        if column_share is None:
            torch.mul(scores[part], row_share[part, :, None], out=weights)
        else:
            torch.add(row_share[part, :, None], column_share, out=weights).mul_(scores[part])
        weights[:, :, part].diagonal(dim1=0, dim2=2).sub_(own[:, None])
        flat = weights.view(len(weights), -1)
        torch.mm(flat, right, out=of_left[part])
        if start:
            of_right.addmm_(flat.T, left[part])
        else:
            torch.mm(flat.T, left[part], out=of_right)
    return of_left, of_right


def _add(made: dict[int, Tensor], side: int, gradient: Tensor) -> None:
    if side in made:
        made[side] += gradient
    else:
        made[side] = gradient


def numbered(
    sides: Sequence[Any], stacks: Mapping[Any, Sequence[int]], terms: Sequence[tuple[Any, Any]]
) -> list[tuple[int, list[int], list[int]]]:
    """Stacks by name as `Stacks`.

    >>> numbered(["a", "b", "c"], {"a": [1, 0]}, [("b", "a"), ("a", "c")])
    [(0, [2, 1], [1, 0])]
    """
    place = {side: number for number, side in enumerate(sides)}
    return [
        (place[anchor], [place[terms[n][1] if terms[n][0] == anchor else terms[n][0]] for n in numbers], list(numbers))
        for anchor, numbers in stacks.items()
    ]
