r"""InfoNCE of a batch whose rows are spread over processes, each of which does its share of the work.

A process multiplies its own rows of one side of a term with all rows of the other. That gives the whole sum of each of
its rows, and a part of the sum of every column; the parts are added over processes, and the columns of a process's own
rows are then its own to use. A row's positive is on the row's process. So no score is computed twice anywhere, and
the sides that ask need not leave their process.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.checks import check_finite, check_fraction, check_known, check_pair, check_rows
from confu.distributed import Negatives, every_count, every_rank, gather_rows, largest, rank, sum_over
from confu.losses.log_sums import log_sums
from confu.losses.ring import Meetings, ring_log_sums
from confu.losses.spread_rows import OwnRows, find_mates, groups_of, one_way
from confu.losses.terms import SAME_GROUP, Side
from confu.types import Mask, Vectors


def spread_info_nce_terms(
    vectors: Mapping[Side, Vectors],
    terms: Sequence[tuple[Side, Side]],
    temperature: float | Float[Tensor, ""] = 0.07,
    *,
    symmetric: bool = True,
    present: Mapping[Side, Mask] | None = None,
    groups: Int[Tensor, " batch"] | None = None,
    same_group: str = "negatives",
    label_smoothing: float = 0.0,
    negatives: str = "gather",
) -> list[Float[Tensor, ""]]:
    """`info_nce_terms` of the rows of all processes, of which each gives its own.

    To be called by all processes with the same terms and options. All get the same values; their gradients are those of
    `confu.distributed`.

    Args:
        vectors: by side, this process's (batch, dim); the number of rows may differ between processes, and be 0.
        terms: as for `info_nce_terms`.
        temperature: as there; equal on all processes.
        symmetric: as there.
        present: by side, the rows of this process that have it.
        groups: this process's rows; numbers of groups count over all processes.
        same_group: as there.
        label_smoothing: as there.
        negatives: `"gather"`, each process holds all rows of the sides that are asked for; `"ring"`, never more than
            those of two processes, at the price of more messages and of computing the scores twice.

    Returns:
        a scalar in nats for each term, in their order.

    Raises:
        ValueError: as `info_nce_terms`, on all processes.

    >>> z = torch.eye(4)
    >>> [round(one.item(), 4) for one in spread_info_nce_terms({"a": z, "b": z}, [("a", "b")], 1.0)]
    [0.7437]
    """
    check_known("same_group", same_group, SAME_GROUP)
    check_known("negatives", negatives, get_args(Negatives))
    check_fraction("label_smoothing", label_smoothing)
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    for left, right in terms:
        check_pair(vectors[left], vectors[right])
    groups = None if same_group == "negatives" else groups
    sides = {side: OwnRows.of(vectors[side], (present or {}).get(side), groups)
             for side in dict.fromkeys(side for term in terms for side in term)}  # fmt: skip
    sizes = dict(zip(sides, zip(*every_count([len(rows.vectors) for rows in sides.values()]))))
    stacks = _stacks(terms, symmetric)
    apart = same_group == "excluded" and groups is not None
    scaled = {side: rows.vectors / temperature for side, rows in sides.items()}
    sums = (_gathered_sums if negatives == "gather" else _ring_sums)(scaled, sides, sizes, stacks, symmetric, apart)
    mates = find_mates(sides) if groups is not None and (same_group == "positives" or label_smoothing) else {}
    means = {}
    if label_smoothing:
        stacked = sum_over(torch.stack([rows.vectors.sum(dim=0) for rows in sides.values()]))
        means = {side: (total, sum(sizes[side])) for side, total in zip(sides, stacked)}

    shares, counts = [], []
    for term in terms:
        anchor, other = _ways(term, stacks)
        found = sums[anchor, other]
        for asker, answerer, log_sum in ((anchor, other, found[0]), (other, anchor, found[1])):
            if log_sum is None:
                continue
            share, count = one_way(
                scaled[asker], sides[asker], sides[answerer], log_sum, same_group, mates.get(answerer),
                label_smoothing, means.get(answerer),
            )  # fmt: skip
            shares.append(share)
            counts.append(count)
    # As floats the counts are exact to 16 million rows, and travel with the sums.
    whole = sum_over(torch.cat([torch.stack(shares), torch.stack(counts).to(shares[0].dtype)]))
    losses, counts = whole[: len(shares)] / whole[len(shares) :].clamp(min=1), whole[len(shares) :]
    check_rows(int(counts.min()), 2, "InfoNCE, which needs a negative for each row,")
    _check_finite(losses, sides)
    return list(losses.view(len(terms), -1).mean(dim=1).unbind())


def _stacks(terms: Sequence[tuple[Side, Side]], symmetric: bool) -> dict[Side, list[Side]]:
    """Which sides stay where they are, and which others each of them meets: few sides should have to be sent."""
    counts = Counter(side for term in terms for side in (term if symmetric else term[:1]))
    stacks: dict[Side, list[Side]] = {}
    for left, right in terms:
        anchor, other = (right, left) if symmetric and counts[right] > counts[left] else (left, right)
        stacks.setdefault(anchor, []).append(other)
    return stacks


def _ways(term: tuple[Side, Side], stacks: Mapping[Side, Sequence[Side]]) -> tuple[Side, Side]:
    left, right = term
    return (left, right) if right in stacks.get(left, ()) else (right, left)


Sums = dict[tuple[Any, Any], tuple[Tensor, Tensor | None]]
"""By anchor and other side: the logarithms of this process's row sums, and of its column sums, over all processes."""


def _gathered_sums(
    scaled: Mapping[Side, Tensor], sides: Mapping[Side, OwnRows], sizes: Mapping[Side, Sequence[int]],
    stacks: Mapping[Side, Sequence[Side]], columns: bool, apart: bool,
) -> Sums:  # fmt: skip
    sent = list(dict.fromkeys(other for others in stacks.values() for other in others))
    everyone = {side: gather_rows(sides[side].vectors, shares=True, counts=sizes[side]) for side in sent}
    groups = {side: gather_rows(groups_of(sides[side]), counts=sizes[side]) for side in sent} if apart else {}
    found: Sums = {}
    partial: list[Tensor] = []
    for anchor, others in stacks.items():
        same = (groups_of(sides[anchor]), torch.cat([groups[one] for one in others])) if apart else None
        rows, down = log_sums(scaled[anchor], [everyone[one] for one in others], columns=columns, same=same)
        found |= {(anchor, other): (rows[:, k], None) for k, other in enumerate(others)}
        partial += [] if down is None else [down]
    if not columns:
        return found
    whole = _log_sum_over(torch.cat(partial)).split([len(everyone[other]) for _, other in found])
    return {
        pair: (rows, column.split(list(sizes[pair[1]]))[rank()])
        for (pair, (rows, _)), column in zip(found.items(), whole)
    }


def _log_sum_over(logs: Tensor) -> Tensor:
    """log of the sum over processes of exp; -inf, without gradient, where there is nothing to add."""
    most = largest(logs)
    most = torch.where(most == -torch.inf, 0, most)
    total = sum_over((logs - most).exp())
    return torch.where(total > 0, torch.where(total > 0, total, 1).log() + most, -torch.inf)


def _ring_sums(
    scaled: Mapping[Side, Tensor], sides: Mapping[Side, OwnRows], sizes: Mapping[Side, Sequence[int]],
    stacks: Mapping[Side, Sequence[Side]], columns: bool, apart: bool,
) -> Sums:  # fmt: skip
    sent = list(dict.fromkeys(other for others in stacks.values() for other in others))
    meetings = Meetings(
        tuple(tuple(sent.index(one) for one in others) for others in stacks.values()),
        tuple(zip(*(sizes[side] for side in sent))),
        columns,
    )
    same = None
    if apart:
        same = [groups_of(sides[side]) for side in stacks], torch.cat([groups_of(sides[side]) for side in sent])
    rows, down = ring_log_sums(
        [scaled[side] for side in stacks], torch.cat([sides[side].vectors for side in sent]), meetings, same
    )
    found: Sums = {}
    for k, (anchor, others) in enumerate(stacks.items()):
        lengths = [len(sides[one].vectors) for one in others]
        parts = [None] * len(others) if down is None else down[k].split(lengths)
        found |= {(anchor, one): (rows[k][:, j], part) for j, (one, part) in enumerate(zip(others, parts))}
    return found


def _check_finite(losses: Tensor, sides: Mapping[Any, OwnRows]) -> None:
    """Raise on every process alike, naming where the embeddings are not finite: one that goes on alone would wait."""
    if bool(losses.isfinite().all()):
        return
    mine = ""
    for side, rows in sides.items():
        try:
            check_finite(f"the embeddings of {side}", rows.vectors)
        except ValueError as error:
            mine = mine or str(error)
    told = [f"process {number}: {text}" for number, text in enumerate(every_rank(mine)) if text]
    if told:
        raise ValueError("; ".join(told))
