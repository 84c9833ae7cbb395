r"""Log-sums of scores whose right sides are spread over processes and travel from one to the next.

No process ever holds all embeddings. Each keeps its rows of the left sides. The rows of the right sides visit every
process with the column sums that they have gathered so far; in the backward pass they visit once more, with the
gradients that they have gathered. What a visit adds is computed by `log_sums`: where the whole sum is
$e^r = \sum_k e^{r_k}$ over visits k, the gradient g of r is $g \, e^{r_k - r}$ for $r_k$.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from confu.distributed import rank, travel
from confu.losses import log_sums as kernel
from confu.losses.log_sums import log_sums


@dataclass(frozen=True)
class Meetings:
    """Which left sides meet which right sides.

    Attributes:
        stacks: for each left side the numbers of the right sides that it meets.
        sizes: by process, its rows of each right side.
        columns: whether column sums are wanted too.
    """

    stacks: tuple[tuple[int, ...], ...]
    sizes: tuple[tuple[int, ...], ...]
    columns: bool = True

    def places(self, owner: int) -> list[slice]:
        """Where each right side stands among the rows of a process, which are all its right sides' in turn."""
        ends = torch.tensor(self.sizes[owner]).cumsum(0).tolist()
        return [slice(end - size, end) for end, size in zip(ends, self.sizes[owner])]

    def column_sizes(self, owner: int) -> list[int]:
        """Columns of a process by stack."""
        return [sum(self.sizes[owner][side] for side in stack) * self.columns for stack in self.stacks]


def ring_log_sums(
    lefts: Sequence[Float[Tensor, "_ dim"]],
    right: Float[Tensor, "m dim"],
    meetings: Meetings,
    same: tuple[Sequence[Int[Tensor, " _"]], Int[Tensor, " m"]] | None = None,
) -> tuple[list[Float[Tensor, "_ _"]], list[Float[Tensor, " _"]] | None]:
    """Logarithms of the sums of exp scores over the rows of all processes.

    Args:
        lefts: this process's rows of each left side, divided by the temperature.
        right: this process's rows of all right sides, one side after another.
        meetings: which meet; the same on all processes.
        same: a number for each of these rows; pairs of equal numbers of 0 or more are left out, as for `log_sums`.

    Returns:
        by left side, (its rows, sides that it meets) over the right sides' rows on all processes; and by left side
        (rows of the sides that it meets,) over its rows on all processes, or None if columns are not wanted. The
        gradient is that of a loss that is summed over processes (`sum_over`).

    >>> rows, columns = ring_log_sums([torch.zeros(2, 3)], torch.zeros(4, 3), Meetings(((0,),), ((4,),)))
    >>> rows[0].exp().tolist(), [round(one, 4) for one in columns[0].exp().tolist()]
    ([[4.0], [4.0]], [2.0, 2.0, 2.0, 2.0])
    """
    left_same, right_same = ((), None) if same is None else same
    found = _RingLogSums.apply(meetings, left_same, right, right_same, *lefts)
    assert isinstance(found, tuple)
    columns = list(found[len(lefts)].split(meetings.column_sizes(rank()))) if meetings.columns else None
    return list(found[: len(lefts)]), columns


class _RingLogSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, meetings: Meetings, left_same: Sequence[Tensor], right: Tensor, right_same: Tensor | None,
        *lefts: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        rows = [left.new_full((len(left), len(stack)), -torch.inf) for left, stack in zip(lefts, meetings.stacks)]

        def visit(owner: int, here: list[Tensor], there: list[Tensor]) -> None:
            block, *numbers = here
            columns = there[0].split(meetings.column_sizes(owner))
            for k, places in enumerate(_places(meetings, owner)):
                same = _same(left_same, numbers, k, places)
                more, down = log_sums(
                    lefts[k], [block[place] for place in places], columns=meetings.columns, same=same, keep=False
                )
                rows[k].copy_(torch.logaddexp(rows[k], more))
                if down is not None:
                    columns[k].copy_(torch.logaddexp(columns[k], down))

        fixed = [right] if right_same is None else [right, right_same]
        (columns,) = travel(fixed, [right.new_full((sum(meetings.column_sizes(rank())),), -torch.inf)], visit)
        ctx.save_for_backward(right, right_same, columns, *left_same, *lefts, *rows)
        ctx.meetings = meetings
        return *rows, columns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        meetings: Meetings = ctx.meetings
        right, right_same, columns, *others = ctx.saved_tensors
        *of_rows, of_columns = grads
        count = len(of_rows)
        left_same, lefts, rows = others[: -2 * count], others[-2 * count : -count], others[-count:]
        of_lefts = [torch.zeros_like(left) for left in lefts]

        def visit(owner: int, here: list[Tensor], there: list[Tensor]) -> None:
            (block, all_sums, of_all_sums, *numbers), (of_block,) = here, there
            sums, of_sums = (one.split(meetings.column_sizes(owner)) for one in (all_sums, of_all_sums))
            for k, places in enumerate(_places(meetings, owner)):
                sides = [block[place].requires_grad_() for place in places]
                for tile in _tiles(lefts[k], sum(map(len, sides))):
                    left = lefts[k][tile].detach().requires_grad_()
                    same = _same([one[tile] for one in left_same], numbers, k, places)
                    with torch.enable_grad():
                        across, down = log_sums(left, sides, columns=meetings.columns, same=same)
                    made, shares = [across], [_share(of_rows[k][tile], across, rows[k][tile])]
                    if down is not None:
                        made, shares = [*made, down], [*shares, _share(of_sums[k], down, sums[k])]
                    of_left, *of_sides = torch.autograd.grad(made, [left, *sides], shares)
                    of_lefts[k][tile] += of_left
                    for place, more in zip(places, of_sides):
                        of_block[place] += more

        fixed = [right, columns, of_columns.contiguous()] + ([] if right_same is None else [right_same])
        (of_right,) = travel(fixed, [torch.zeros_like(right)], visit)
        return None, None, of_right, None, *of_lefts


def _places(meetings: Meetings, owner: int) -> list[list[slice]]:
    """By stack, where its right sides stand among a process's rows."""
    places = meetings.places(owner)
    return [[places[side] for side in stack] for stack in meetings.stacks]


def _same(
    left_same: Sequence[Tensor], numbers: Sequence[Tensor], stack: int, places: Sequence[slice]
) -> tuple[Tensor, Tensor] | None:
    return (left_same[stack], torch.cat([numbers[0][place] for place in places])) if numbers else None


def _tiles(left: Tensor, columns: int) -> list[slice]:
    """So many rows at once that their exp scores may be kept between the two halves of the backward pass."""
    size = max(1, kernel.KEPT_BYTES // (max(1, columns) * left.element_size()))
    return [slice(start, start + size) for start in range(0, len(left), size)]


def _share(gradient: Tensor, part: Tensor, whole: Tensor) -> Tensor:
    """The gradient of a part of a sum, given that of the whole, both as logarithms; a sum over nothing has none."""
    return torch.where(whole.isfinite(), gradient * (part - whole).exp(), 0)


class _GroupSums(torch.autograd.Function):
    """Sums of the visiting rows by group, of the groups that this process has rows of."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        sums, counts = vectors.new_zeros(len(wanted), vectors.shape[1]), torch.zeros_like(wanted)

        def visit(owner: int, here: list[Tensor], there: list[Tensor]) -> None:
            known, place = _found(here[1], wanted)
            sums.index_add_(0, place, here[0][known])
            counts.index_add_(0, place, torch.ones_like(place))

        travel([vectors, keys], [], visit)
        ctx.save_for_backward(vectors, keys, wanted)
        ctx.mark_non_differentiable(counts)
        return sums, counts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        vectors, keys, wanted = ctx.saved_tensors

        def visit(owner: int, here: list[Tensor], there: list[Tensor]) -> None:
            known, place = _found(here[0], wanted)
            there[0].index_add_(0, known, grads[0][place])

        (of_vectors,) = travel([keys], [torch.zeros_like(vectors)], visit)
        return of_vectors, None, None


def _found(keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the keys are wanted, and where they stand in the ascending list of those."""
    if not len(wanted):
        return wanted.new_empty(0), wanted.new_empty(0)
    place = torch.searchsorted(wanted, keys).clamp(max=len(wanted) - 1)
    known = (wanted[place] == keys).nonzero().squeeze(1)
    return known, place[known]


def group_sums(
    vectors: Float[Tensor, "rows dim"], keys: Int[Tensor, " rows"], wanted: Int[Tensor, " groups"]
) -> tuple[Float[Tensor, "groups dim"], Int[Tensor, " groups"]]:
    """By group, the sum of its rows on all processes and how many they are, with the gradient of `sum_over`.

    Args:
        vectors: this process's rows.
        keys: the group of each.
        wanted: ascending, the groups that this process asks for.

    >>> group_sums(torch.ones(3, 1), torch.tensor([4, 7, 4]), torch.tensor([4, 5]))[0].tolist()
    [[2.0], [0.0]]
    """
    found = _GroupSums.apply(vectors, keys, wanted)
    assert isinstance(found, tuple)
    return found
