"""What a process knows of its own rows of a term, and its share of InfoNCE once the log-sums are known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from confu.losses.ring import group_sums


@dataclass(frozen=True)
class OwnRows:
    """This process's rows of a side that are there.

    Attributes:
        vectors: (rows, dim).
        numbers: (rows,) which rows of this process's part of the batch they are.
        place: (batch,) where each row of the part stands among them, -1 where it is missing.
        groups: (rows,) their groups; None if that makes no difference.
    """

    vectors: Tensor
    numbers: Tensor
    place: Tensor
    groups: Tensor | None

    @staticmethod
    def of(vectors: Tensor, present: Tensor | None, groups: Tensor | None) -> "OwnRows":
        """Those of this process's part of a batch that are present."""
        vectors = vectors.float() if vectors.dtype in (torch.bfloat16, torch.float16) else vectors
        if torch.is_grad_enabled() and not vectors.requires_grad:  # another process may wait for this one's gradient
            vectors = vectors.detach().requires_grad_()
        everyone = torch.arange(len(vectors), device=vectors.device)
        if present is None:
            return OwnRows(vectors, everyone, everyone, groups)
        place = torch.where(present, present.cumsum(0) - 1, -1)
        return OwnRows(vectors[present], everyone[present], place, None if groups is None else groups[present])


@dataclass(frozen=True)
class Mates:
    """Of a side, on all processes: the sum of each group's rows and how many they are, for the groups of this process.

    Attributes:
        known: ascending, those groups.
        sums: (groups, dim).
        counts: (groups,).
    """

    known: Tensor
    sums: Tensor
    counts: Tensor

    def of(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """The sum and the number for rows of these groups; nothing for a row of none."""
        # Without a branch for no groups: all processes must have the same graph, as its backward pass exchanges too.
        place = torch.where(groups >= 0, torch.searchsorted(self.known, groups), len(self.known))
        nothing = self.sums.new_zeros(1, self.sums.shape[1])
        return torch.cat([self.sums, nothing])[place], torch.cat([self.counts, self.counts.new_zeros(1)])[place]


def find_mates(sides: Mapping[Any, OwnRows]) -> dict[Any, Mates]:
    """The mates of every side; to be called by all processes."""
    every = torch.cat([groups_of(rows) for rows in sides.values()]).unique()
    known, count = every[every >= 0], len(sides)
    # One journey for all sides: a group is one of a side.
    keys = torch.cat([groups_of(rows) * count + number for number, rows in enumerate(sides.values())])
    wanted = (known[:, None] * count + torch.arange(count, device=known.device)).flatten()
    sums, counts = group_sums(torch.cat([rows.vectors for rows in sides.values()]), keys, wanted)
    return {side: Mates(known, sums[number::count], counts[number::count]) for number, side in enumerate(sides)}


def groups_of(rows: OwnRows) -> Tensor:
    """(rows,) the groups, where they make a difference."""
    assert rows.groups is not None
    return rows.groups


def one_way(
    scaled: Tensor, mine: OwnRows, theirs: OwnRows, log_sum: Tensor, same_group: str, mates: Mates | None,
    label_smoothing: float, mean: tuple[Tensor, int] | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The sum over this process's rows with a positive of log sum - mean score of positives, and how many they are.

    Args:
        scaled: (rows, dim) vectors of the asking side, divided by the temperature.
        mine: what is known of its rows.
        theirs: of the answering side.
        log_sum: (rows,).
        same_group: what rows of a group are.
        mates: the groups of the answering side.
        label_smoothing: share of all targets.
        mean: the sum of all rows of the answering side, and how many they are.
    """
    place = theirs.place[mine.numbers]
    there = place >= 0
    own = torch.zeros_like(scaled).index_copy(0, there.nonzero().squeeze(1), theirs.vectors[place[there]])
    count = there.to(torch.int64)
    grouped = None if mine.groups is None else mine.groups >= 0
    if same_group == "excluded" and grouped is not None:  # a pair of the same row is never left out
        score = (scaled * own).sum(dim=1)
        log_sum = torch.logaddexp(log_sum, torch.where(there & grouped, score, -torch.inf))
    if same_group == "positives" and grouped is not None and mates is not None:
        sums, counts = mates.of(groups_of(mine))
        own, count = torch.where(grouped[:, None], sums, own), torch.where(grouped, counts, count)
    asks = count > 0
    scaled, log_sum = scaled[asks], log_sum[asks]
    score = (scaled * own[asks]).sum(dim=1) / count[asks]
    if mean is not None:
        every, number = mean[0].expand_as(scaled), torch.full_like(count[asks], mean[1])
        if same_group == "excluded" and mates is not None:
            sums, counts = (one[asks] for one in mates.of(groups_of(mine)))
            left_out = (counts > 0) & there[asks]
            every = every - torch.where(left_out[:, None], sums - own[asks], 0)
            number = number - torch.where(left_out, counts - 1, 0)
        score = (1 - label_smoothing) * score + label_smoothing * (scaled * every).sum(dim=1) / number
    return (log_sum - score).sum(), asks.sum()
