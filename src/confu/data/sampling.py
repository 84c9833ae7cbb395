"""Which rows stand in which batch of an epoch: at random, with enough complete rows, or with no group twice.

Everything follows from a seed and the number of the epoch, so that an interrupted run meets the same batches again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.plan import Subset

Order = Int[Tensor, "steps batch_size"]


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch's order."""
    return 1_000_003 * seed + epoch


@dataclass(frozen=True)
class UniformBatches:
    """Every row once an epoch, in an order drawn anew; the rows of a last, smaller batch are left out of the epoch.

    >>> UniformBatches(rows=10, batch_size=4).epoch(seed=0, epoch=0).shape
    torch.Size([2, 4])
    """

    rows: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return self.rows // self.batch_size

    def epoch(self, seed: int, epoch: int) -> Order:
        """The rows of each batch."""
        order = torch.randperm(self.rows, generator=torch.Generator().manual_seed(epoch_seed(seed, epoch)))
        return order[: self.steps * self.batch_size].reshape(self.steps, self.batch_size)


class BalancedBatches:
    """Batches with the same share of every availability pattern, and of every term's complete rows at least a share.

    Rows with the same modalities are a part. Each batch holds of each part what it is due, to one row; parts that a
    rare term needs are due more than they are, so that their rows come up again within the epoch. No row stands in a
    batch twice.

    Args:
        present: modality -> (rows,) bool.
        terms: the modalities that a row must have to be complete for a term, for every term.
        batch_size: rows a batch.
        least: share of a batch that is complete for each term, in [0, 1]; less where the data have not so many rows.

    Raises:
        ValueError: if a term has fewer than two complete rows at all.

    >>> present = {"a": torch.ones(100, dtype=torch.bool), "b": torch.arange(100) < 10}
    >>> batches = BalancedBatches(present, [Subset("a", "b")], batch_size=20, least=0.25)
    >>> [int(present["b"][batch].sum()) for batch in batches.epoch(seed=0, epoch=0)]
    [5, 5, 5, 5, 5]
    """

    def __init__(
        self,
        present: Mapping[str, Bool[Tensor, " rows"]],
        terms: Iterable[Subset],
        batch_size: int,
        least: float = 0.25,
    ) -> None:
        names = list(present)
        masks = torch.stack([present[name] for name in names], dim=1)
        patterns, self._part, counts = masks.unique(dim=0, return_inverse=True, return_counts=True)
        self.rows, self.batch_size = len(masks), batch_size
        self._counts = counts.numpy()
        needs = {term: patterns[:, [names.index(name) for name in term]].all(dim=1).numpy() for term in terms}
        for term, need in needs.items():
            if self._counts[need].sum() < 2:
                raise ValueError(
                    f"no batch can train what needs {term}: {int(self._counts[need].sum())} of {self.rows} training "
                    "rows have all of it. Leave the term out of the plan, or add rows"
                )
        self._due = _due(self._counts, list(needs.values()), batch_size, least)

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return self.rows // self.batch_size

    def epoch(self, seed: int, epoch: int) -> Order:
        """The rows of each batch."""
        generator = np.random.default_rng([seed, epoch])
        part, chosen, keys = self._part.numpy(), [], []
        # A little more than each part's due, as what is left over is cut off.
        draws_of = np.ceil(self._due * (self.steps + 1)).astype(int)
        for number, (due, draws) in enumerate(zip(self._due, draws_of)):
            rows = generator.permutation(np.flatnonzero(part == number))
            # One order, repeated: a row comes again only after all others of its part.
            chosen.append(np.resize(rows, draws))
            # Evenly over the epoch, so that any stretch of it holds what the part is due.
            keys.append((np.arange(draws) + generator.random()) / max(due, 1e-12))
        order = np.concatenate(chosen)[np.argsort(np.concatenate(keys), kind="stable")]
        order = order[: self.steps * self.batch_size].reshape(self.steps, self.batch_size)
        # Where a part is due nearly all its rows in each batch, one may come twice: another row takes its place.
        for batch in order:
            first = np.zeros(self.batch_size, dtype=bool)
            first[np.unique(batch, return_index=True)[1]] = True
            for place in np.flatnonzero(~first):
                free = np.setdiff1d(np.arange(self.rows), batch)
                alike = free[part[free] == part[batch[place]]]
                batch[place] = generator.choice(alike if len(alike) else free)
        return torch.from_numpy(order)


def _due(counts: np.ndarray, needs: Sequence[np.ndarray], batch_size: int, least: float) -> np.ndarray:
    """Rows of each part in a batch: in proportion, but enough for each term, and no part more than it has."""
    due = counts / counts.sum() * batch_size
    for _ in range(100):
        before = due.copy()
        for need in needs:
            lacking = min(least * batch_size, counts[need].sum()) - due[need].sum()
            if lacking > 1e-9:
                due[need] += lacking * due[need] / due[need].sum()
        # No part may be due more than its rows; what is too much in all is taken from where most stands above need.
        due = np.minimum(due, counts)
        spare = due.copy()
        for need in needs:
            floor = min(least * batch_size, counts[need].sum())
            free = max(0.0, due[need].sum() - floor)
            spare[need] = np.minimum(spare[need], free * due[need] / due[need].sum())
        excess = due.sum() - batch_size
        if excess > 0 and spare.sum() > 0:
            due -= min(1.0, excess / spare.sum()) * spare
        if np.abs(due - before).max() < 1e-9:
            break
    return due * min(1.0, batch_size / due.sum()) if due.sum() > batch_size else due


class UniqueBatches:
    """Batches in which no group stands twice, so that no row is a false negative.

    Rows of a group with more rows than there are batches are left out of the epoch, others in the next.

    Args:
        groups: (rows,) the group of each row; -1 is a row of no group.
        batch_size: rows a batch.

    Raises:
        ValueError: if there are fewer groups, rows without one counted each, than a batch holds.

    >>> batches = UniqueBatches(torch.tensor([0, 0, 0, 1, 1, -1, -1]), batch_size=3)
    >>> batches.steps
    2
    """

    def __init__(self, groups: Int[Tensor, " rows"], batch_size: int) -> None:
        self.batch_size = batch_size
        self._alone = (groups < 0).nonzero().squeeze(1).numpy()
        named = (groups >= 0).nonzero().squeeze(1)
        order = groups[named].sort(stable=True)
        sizes = order.values.unique_consecutive(return_counts=True)[1].tolist()
        self._members = sorted(
            (part.numpy() for part in named[order.indices].split(sizes)) if sizes else (), key=len, reverse=True
        )
        if len(self._members) + len(self._alone) < batch_size:
            raise ValueError(
                f"unique_groups: {len(self._members)} groups and {len(self._alone)} rows of no group cannot fill a "
                f"batch of {batch_size} with no group twice; lower batch_size, or take same_group 'excluded' instead"
            )
        # The most batches that can be filled, by bisection.
        counts = np.array([len(members) for members in self._members])
        low, high = 1, (int(counts.sum()) + len(self._alone)) // batch_size
        while low < high:
            middle = (low + high + 1) // 2
            enough = int(np.minimum(counts, middle).sum()) + len(self._alone) >= middle * batch_size
            low, high = (middle, high) if enough else (low, middle - 1)
        self.steps = low

    def epoch(self, seed: int, epoch: int) -> Order:
        """The rows of each batch."""
        generator = np.random.default_rng([seed, epoch])
        order = np.full((self.steps, self.batch_size), -1)
        filled = np.zeros(self.steps, dtype=int)
        for members in self._members:  # the largest first, each to the batches with the most room
            members = generator.permutation(members)[: self.steps]
            room = np.flatnonzero(filled < self.batch_size)
            chosen = room[np.argsort(filled[room] + generator.random(len(room)))[: len(members)]]
            order[chosen, filled[chosen]] = members[: len(chosen)]
            filled[chosen] += 1
        order[order < 0] = generator.permutation(self._alone)[: int((order < 0).sum())]
        return torch.from_numpy(order)


@dataclass(frozen=True)
class Stretches:
    """Other batches, cut into stretches of so many steps: a large set is validated more than once a pass.

    >>> whole = UniformBatches(rows=12, batch_size=4)
    >>> parts = Stretches(whole, steps=2)
    >>> first_pass = torch.cat([parts.epoch(0, 0), parts.epoch(0, 1)])[:3]
    >>> torch.equal(first_pass, whole.epoch(0, 0))
    True
    """

    batches: "UniformBatches | BalancedBatches | UniqueBatches"
    steps: int

    def epoch(self, seed: int, epoch: int) -> Order:
        """The rows of each batch."""
        whole = self.batches.steps
        first, end = epoch * self.steps, (epoch + 1) * self.steps
        passes = [self.batches.epoch(seed, number) for number in range(first // whole, (end - 1) // whole + 1)]
        start = first % whole
        return torch.cat(passes)[start : start + self.steps]


Batches = UniformBatches | BalancedBatches | UniqueBatches | Stretches
