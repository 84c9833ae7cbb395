"""Ranks in a gallery that is larger than the queries, where more than one target may be right, and what came first.

Shapes: n queries, m targets of the gallery.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.embeddings import EmbeddingTable
from confu.evaluation.hits import first_hit_credit
from confu.evaluation.ranking import GroupRanks, count_ranks
from confu.evaluation.retrieval import expected_ranks, reciprocal_ranks
from confu.evaluation.scoring import asked_with, sides
from confu.plan import Subset


@dataclass(frozen=True, eq=False)
class Ranked:
    """The outcome of n queries in a gallery of m targets.

    Attributes:
        rows: (n,) the rows of the table that asked.
        better: (n,) how many targets score better than the query's own.
        tied: (n,) how many score the same, its own among them.
        first: (n,) the row of the table whose target scores best; the first one of those that tie.
        gallery: m.
        groups: the same where any row of the query's group is right; None without groups.
    """

    rows: Int[Tensor, " n"]
    better: Int[Tensor, " n"]
    tied: Int[Tensor, " n"]
    first: Int[Tensor, " n"]
    gallery: int
    groups: GroupRanks | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def recall(self, k: int) -> Float[Tensor, " n"]:
        """The chance that the query's own target is among the first k if ties are broken at random.

        Raises:
            ValueError: if k is not in 1..m.
        """
        if not 1 <= k <= self.gallery:
            raise ValueError(f"k must lie between 1 and the size of the gallery, {self.gallery}; got {k}")
        return ((k - self.better).double() / self.tied).clamp(0.0, 1.0)

    def group_recall(self, k: int) -> Float[Tensor, " n"]:
        """The chance that any row of the query's group is among the first k; see `first_hit_credit`."""
        if self.groups is None:
            raise ValueError("there are no groups; give `groups` where the ranks are made")
        return first_hit_credit(self.groups.better, self.groups.tied, self.groups.right, k)

    def ranks(self) -> Float[Tensor, " n"]:
        """The expected rank of the query's own target; 1 is best."""
        return expected_ranks(self.better, self.tied)

    def reciprocal(self) -> Float[Tensor, " n"]:
        """The expectation of 1 / rank of the query's own target."""
        return reciprocal_ranks(self.better, self.tied)

    def spread(self, values: Float[Tensor, " n"], size: int) -> Float[Tensor, " size"]:
        """One value a row of the table; NaN in the rows that did not ask."""
        return torch.full((size,), float("nan"), dtype=torch.float64).index_copy_(0, self.rows, values.double())


def rank_pair(
    table: EmbeddingTable, query: Subset, target: Subset, groups: Int[Tensor, " _"] | None = None
) -> dict[str, Ranked]:
    """Rank the targets of the rows that are complete for query and target, by each name that asks.

    Args:
        table: of embeddings.
        query: the subset that asks; beside a fused one of a cosine table asks `mean(...)`, see `asked_with`.
        target: the subset that is sought.
        groups: (len(table),) the group of each row, -1 for none.

    Returns:
        by the query's name; empty if no row is complete for both.

    Raises:
        ValueError: if the table cannot answer it (`confu.evaluation.why_not`), or an embedding is not finite.

    Example:
        >>> table = EmbeddingTable(("a", "b"), {Subset("image"): torch.eye(2), Subset("text"): torch.eye(2)})
        >>> rank_pair(table, Subset("image"), Subset("text"))["image"].recall(1).tolist()
        [1.0, 1.0]
    """
    rows, asking = asked_with(table, query, target)
    if len(rows) == 0:
        return {}
    sought = [vectors[rows] for vectors in sides(table, target)]
    within = None if groups is None else groups[rows]
    found = {}
    for name, vectors in asking.items():
        better, tied, first, of_group = count_ranks(vectors, sought, torch.arange(len(rows)), table.score, within)
        found[name] = Ranked(rows, better, tied, rows[first], len(rows), of_group)
    return found
