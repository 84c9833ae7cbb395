"""InfoNCE of many pairs of sides at once: those that share a side are computed in one stack."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.checks import check_finite, check_fraction, check_known, check_pair, check_rows
from confu.losses import log_sums as kernel
from confu.losses.batched import batched_info_nce, numbered
from confu.losses.gpu_sums import in_bfloat16
from confu.losses.log_sums import log_sums
from confu.losses.tiled import tiled_info_nce
from confu.types import Mask, Vectors

SAME_GROUP = ("negatives", "positives", "excluded")
"""What rows of one group are to one another: negatives as any others, further positives, or neither."""

Side = TypeVar("Side", bound=Hashable)


def info_nce_terms(
    vectors: Mapping[Side, Vectors],
    terms: Sequence[tuple[Side, Side]],
    temperature: float | Float[Tensor, ""] = 0.07,
    *,
    symmetric: bool = True,
    present: Mapping[Side, Mask] | None = None,
    groups: Int[Tensor, " batch"] | None = None,
    same_group: str = "negatives",
    label_smoothing: float = 0.0,
    keep: bool | None = None,
) -> list[Float[Tensor, ""]]:
    r"""InfoNCE of every term: queries on its left, targets on its right. What the arguments mean is said in `info_nce`.

    Terms that share a side are one matrix product against all their other sides, one exp serves both directions, and
    beyond some size the scores are not kept but made again in the backward pass: see `confu.losses.log_sums`.

    Args:
        vectors: by side, (batch, dim), rows of length one.
        terms: pairs of sides; each has rows that both sides have, two or more.
        temperature: of all terms.
        symmetric: both directions.
        present: by side, the rows that have it; a side that is not named has all.
        groups: (batch,) as for `info_nce`.
        same_group: as for `info_nce`.
        label_smoothing: as for `info_nce`.
        keep: as for `log_sums`.

    Returns:
        a scalar in nats for each term, in their order.

    Raises:
        ValueError: fewer than two rows with both sides; NaN or infinity; a temperature that is not positive.

    >>> z = torch.eye(4)
    >>> [round(one.item(), 4) for one in info_nce_terms({"a": z, "b": z}, [("a", "b"), ("b", "a")], 1.0)]
    [0.7437, 0.7437]
    """
    check_known("same_group", same_group, SAME_GROUP)
    check_fraction("label_smoothing", label_smoothing)
    _check_temperature(temperature)
    for left, right in terms:
        check_pair(vectors[left], vectors[right])
    groups = None if same_group == "negatives" else groups
    names, stacks = _sides(terms), _stacks(terms, symmetric)
    plain = groups is None and not label_smoothing and not any(side in names for side in present or ())
    if plain:
        check_rows(len(vectors[names[0]]), 2, "InfoNCE, which needs a negative for each row,")
        found = _of_whole_batch(vectors, names, stacks, terms, temperature, symmetric) if keep is None else None
        if found is not None:
            return list(found.unbind())
    sides = {side: _Rows.of(vectors[side], (present or {}).get(side), groups) for side in names}
    losses: dict[int, Tensor] = {}
    for anchor, numbers in stacks.items():
        others = [terms[number][1] if terms[number][0] == anchor else terms[number][0] for number in numbers]
        left, rights = sides[anchor], [sides[other] for other in others]
        scaled = left.vectors / temperature
        rows, columns = log_sums(
            scaled,
            [right.vectors for right in rights],
            columns=symmetric,
            same=_same(left, rights) if same_group == "excluded" and groups is not None else None,
            keep=keep,
            low=(left.vectors, temperature) if all(side.low for side in (left, *rights)) else None,
        )
        if same_group == "excluded" and groups is not None:  # a pair of the same row is never left out
            rows, columns = _with_own(scaled, left, rights, rows, columns)
        if plain:
            of_stack = _whole_stack(scaled, rights, rows, columns)
            losses.update(zip(numbers, of_stack.unbind()))
            continue
        ends = list(accumulate(len(right.vectors) for right in rights))
        for place, (number, right) in enumerate(zip(numbers, rights)):
            one_way = _one_way(scaled, left, right, rows[:, place], same_group, label_smoothing)
            if columns is not None:
                of_columns = columns[ends[place] - len(right.vectors) : ends[place]]
                back = _one_way(right.vectors, right, left, of_columns, same_group, label_smoothing, scaled)
                one_way = (one_way + back) / 2
            losses[number] = one_way
    return _checked([losses[number] for number in range(len(terms))], sides)


def _of_whole_batch(
    vectors: Mapping[Side, Tensor], names: Sequence[Side], stacks: Mapping[Side, Sequence[int]],
    terms: Sequence[tuple[Side, Side]], temperature: float | Tensor, symmetric: bool,
) -> Tensor | None:  # fmt: skip
    """The terms of a batch in which nothing is missing, unless a GPU's kernels or more care may be wanted."""
    some = vectors[names[0]]
    sides = [_at_least_float32(vectors[name]) for name in names]
    if in_bfloat16(some) or not torch.is_grad_enabled():
        return None
    if max(map(len, stacks.values())) * len(some) ** 2 * sides[0].element_size() <= kernel.KEPT_BYTES:
        return batched_info_nce(sides, numbered(names, stacks, terms), temperature, symmetric)
    if some.device.type != "cpu":
        return None
    place = {name: number for number, name in enumerate(names)}
    return tiled_info_nce(sides, [(place[left], place[right]) for left, right in terms], temperature, symmetric)


def _at_least_float32(vectors: Tensor) -> Tensor:
    return vectors.float() if vectors.dtype in (torch.bfloat16, torch.float16) else vectors


def _checked(losses: list[Tensor], sides: Mapping[Any, "_Rows"]) -> list[Tensor]:
    """The losses; if one is not finite, which embeddings are to blame."""
    if not bool(torch.stack(losses).isfinite().all()):
        for side, rows in sides.items():
            check_finite(f"the embeddings of {side}", rows.vectors)
    return losses


def _whole_stack(
    scaled: Tensor, rights: Sequence["_Rows"], rows: Tensor, columns: Tensor | None
) -> Float[Tensor, " terms"]:
    """The terms of a stack in which nothing is missing, no group counts and nothing is smoothed: the usual case."""
    sums = rows.T
    if columns is not None:
        sums = (sums + columns.view(len(rights), len(scaled))) / 2
    own = torch.stack([torch.linalg.vecdot(scaled, right.vectors) for right in rights])
    return (sums - own).mean(dim=1)  # row by row: the sums alone are large numbers that nearly cancel


@dataclass(frozen=True)
class _Rows:
    """The rows of a side that are there.

    Attributes:
        vectors: (rows, dim).
        place: (batch,) where each row of the batch stands among them, -1 where it is missing; None if all are there.
        numbers: (rows,) which rows of the batch they are.
        groups: (rows,) their groups; None if that makes no difference.
        low: whether they are bfloat16's numbers, and a GPU may gain from that.
    """

    vectors: Tensor
    place: Tensor | None
    numbers: Tensor
    groups: Tensor | None
    low: bool

    @staticmethod
    def of(vectors: Tensor, present: Tensor | None, groups: Tensor | None) -> "_Rows":
        low = in_bfloat16(vectors)
        vectors = _at_least_float32(vectors)
        everyone = torch.arange(len(vectors), device=vectors.device)
        if present is None:
            rows = _Rows(vectors, None, everyone, groups, low)
        else:
            rows = _Rows(
                vectors[present], torch.where(present, present.cumsum(0) - 1, -1), everyone[present],
                None if groups is None else groups[present], low,
            )  # fmt: skip
        return rows

    def own(self, other: "_Rows") -> Tensor | None:
        """(rows,) where the same row of the batch stands in `other`, -1 where it is not there; None if row by row."""
        if self.place is None and other.place is None:
            return None
        return self.numbers if other.place is None else other.place[self.numbers]


def _one_way(
    scaled: Tensor, mine: _Rows, theirs: _Rows, log_sum: Tensor, same_group: str, label_smoothing: float,
    against: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The mean over rows with a positive of log sum - the mean score of their positives.

    Args:
        scaled: (rows, dim) vectors of the asking side.
        mine: what is known of its rows.
        theirs: of the answering side.
        log_sum: (rows,).
        same_group: what rows of a group are.
        label_smoothing: share of all targets.
        against: (their rows, dim) vectors of the answering side, if they are not its own: one of the two is scaled.
    """
    targets = theirs.vectors if against is None else against
    place = mine.own(theirs)
    if same_group == "positives" and mine.groups is not None and theirs.groups is not None:
        positive, asks = _mean_of_positives(mine, theirs, targets, place)
    elif place is None:
        positive, asks = targets, None
    else:
        asks = place >= 0
        positive = targets[place[asks]]
    if asks is not None:
        scaled, log_sum = scaled[asks], log_sum[asks]
    check_rows(len(scaled), 2, "InfoNCE, which needs a negative for each row,")
    own = (scaled * positive).sum(dim=1)
    if label_smoothing:
        every = scaled @ targets.mean(dim=0)
        if same_group == "excluded" and mine.groups is not None and theirs.groups is not None:
            every = _mean_but_group(mine, theirs, scaled, targets, asks, own)
        own = (1 - label_smoothing) * own + label_smoothing * every
    return (log_sum - own).mean()


def _mean_of_positives(
    mine: _Rows, theirs: _Rows, targets: Tensor, place: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The mean of each row's positives: its own, and those of its group; and which rows have one."""
    sums, counts, group = _of_groups(mine, theirs, targets)
    own = torch.arange(len(mine.numbers), device=targets.device) if place is None else place
    alone = (group < 0) & (own >= 0)
    total = torch.where(group[:, None] >= 0, sums[group], 0)
    total = total + torch.where(alone[:, None], targets[own.clamp(min=0)], 0)
    count = torch.where(group >= 0, counts[group], 0) + alone
    asks = count > 0
    return total[asks] / count[asks, None], asks


def _mean_but_group(
    mine: _Rows, theirs: _Rows, scaled: Tensor, targets: Tensor, asks: Tensor | None, own: Tensor
) -> Tensor:
    """The mean score of all targets but those of the group, its own among them."""
    sums, counts, group = _of_groups(mine, theirs, targets)
    group = group if asks is None else group[asks]
    grouped = group >= 0
    left_out = torch.where(grouped, (scaled * sums[group]).sum(dim=1) - own, 0)
    count = len(targets) - torch.where(grouped, counts[group] - 1, 0)
    return (scaled @ targets.sum(dim=0) - left_out) / count


def _of_groups(mine: _Rows, theirs: _Rows, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By group, the sum of its targets and how many; and the group of each asking row, -1 for none."""
    assert mine.groups is not None
    assert theirs.groups is not None
    known, number = torch.cat([mine.groups, theirs.groups]).unique(return_inverse=True)
    group, of_targets = number[: len(mine.groups)], number[len(mine.groups) :]
    sums = targets.new_zeros(len(known), targets.shape[1]).index_add(0, of_targets, targets)
    counts = torch.bincount(of_targets, minlength=len(known))
    return sums, counts, torch.where(mine.groups >= 0, group, -1)


def _same(left: _Rows, rights: Sequence[_Rows]) -> tuple[Tensor, Tensor]:
    groups = [right.groups for right in rights if right.groups is not None]
    assert left.groups is not None
    return left.groups, torch.cat(groups)


def _with_own(
    scaled: Tensor, left: _Rows, rights: Sequence[_Rows], rows: Tensor, columns: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The sums with the scores of each row with itself, which were left out with those of its group."""
    of_rows, of_columns = [], []
    start = 0
    for place, right in enumerate(rights):
        mine = left.own(right)
        mine = torch.arange(len(left.numbers), device=scaled.device) if mine is None else mine
        assert left.groups is not None
        lost = (mine >= 0) & (left.groups >= 0)
        own = torch.where(lost, (scaled * right.vectors[mine.clamp(min=0)]).sum(dim=1), -torch.inf)
        of_rows.append(torch.logaddexp(rows[:, place], own))
        if columns is not None:
            part = columns[start : start + len(right.vectors)]
            added = torch.full_like(part, -torch.inf).index_copy(0, mine[lost], own[lost])
            of_columns.append(torch.logaddexp(part, added))
        start += len(right.vectors)
    return torch.stack(of_rows, dim=1), torch.cat(of_columns) if columns is not None else None


def _sides(terms: Sequence[tuple[Side, Side]]) -> list[Side]:
    return list(dict.fromkeys(side for term in terms for side in term))


def _stacks(terms: Sequence[tuple[Side, Side]], symmetric: bool) -> dict[Side, list[int]]:
    """Terms by the side whose scores with all the others are one product: the side that most terms share.

    One-sided terms are stacked by their queries, as only the sums of rows are wanted then.
    """
    stacks: dict[Side, list[int]] = {}
    left = dict(enumerate(terms))
    while left:
        if symmetric:
            counts = Counter(side for term in left.values() for side in term)
        else:
            counts = Counter(term[0] for term in left.values())
        anchor = counts.most_common(1)[0][0]
        mine = [number for number, term in left.items() if anchor in (term if symmetric else term[:1])]
        stacks[anchor] = mine
        for number in mine:
            del left[number]
    return stacks


def _check_temperature(temperature: float | Tensor) -> None:
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
