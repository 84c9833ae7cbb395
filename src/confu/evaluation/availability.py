"""Retrieval by availability: each row queries with the largest subset that it has, and rows are grouped by it.

Beside the numbers of each subset on its complete rows stand those of rows that have exactly these modalities: what a
user with such rows can expect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from confu.data.coverage import pattern_of_rows
from confu.embeddings import EmbeddingTable
from confu.evaluation.ranking import count_ranks
from confu.evaluation.report import ReportRow
from confu.evaluation.retrieval import Ranked, equal_targets, ranked_rows
from confu.evaluation.scoring import answers, check_unit, queryable_subsets, side_subsets, sides
from confu.plan import Subset

EVERY_ROW = "every row"


@dataclass(frozen=True, eq=False)
class AvailableRanks:
    """Retrieval of one target, each row querying with the largest subset that it has.

    Attributes:
        target: what is sought.
        ranked: what rows have beside the target -> the subset of their query, and its ranks in the whole gallery.
        unasked: what rows have beside the target -> how many, where the method has no query for it; None is nothing.
        without_target: how many rows lack the target, so that nothing can be right.
    """

    target: Subset
    ranked: dict[Subset, tuple[Subset, Ranked]] = field(default_factory=dict)
    unasked: dict[Subset | None, int] = field(default_factory=dict)
    without_target: int = 0


def row_patterns(table: EmbeddingTable) -> list[Subset | None]:
    """What each row has, by the single modalities of the table; None for a row that has none of them."""
    return pattern_of_rows({str(subset): table.complete[subset] for subset in table.subsets if not subset.is_fused})


def largest_query(table: EmbeddingTable, available: Subset | None, target: Subset) -> Subset | None:
    """The largest subset of what is available that can query a target it does not hold; of equals the first.

    Example:
        >>> names = ("image", "audio", "image+audio", "text")
        >>> table = EmbeddingTable(("a",), {Subset.parse(name): torch.eye(1) for name in names})
        >>> largest_query(table, Subset("text", "audio", "image"), Subset("text"))
        Subset('image+audio')
    """
    within = frozenset() if available is None else available - target
    queries = [one for one in queryable_subsets(table) if one <= within and answers(table, one, target)]
    return max(queries, key=len, default=None)


def rank_by_availability(
    table: EmbeddingTable,
    target: Subset,
    groups: Int[Tensor, " _"] | None = None,
    contents: Mapping[str, Int[Tensor, " _"]] | None = None,
) -> AvailableRanks:
    """Rank the targets for every row that has one, each row querying with the largest subset that it has.

    The gallery is the same for all rows: every row that has the target. So the numbers of rows with much and rows with
    little can be compared with each other. Groups and contents are those of `rank_pair`.
    """
    target_subsets = side_subsets(table, target)
    gallery = table.rows_with(*target_subsets)
    place = torch.full((len(table),), -1).index_copy_(0, gallery, torch.arange(len(gallery)))
    first_equal, right = equal_targets(contents, target, gallery)
    targets = [vectors[gallery[first_equal]] for vectors in sides(table, target)]
    within = None if groups is None else groups[gallery]
    result = AvailableRanks(target, without_target=len(table) - len(gallery))
    by_pattern: dict[Subset | None, list[int]] = {}
    patterns = row_patterns(table)
    for row in gallery.tolist():
        names = [name for name in (patterns[row] or ()) if name not in target]
        by_pattern.setdefault(Subset(*names) if names else None, []).append(row)
    for available, chosen in sorted(by_pattern.items(), key=lambda item: -len(item[0] or ())):
        query = largest_query(table, available, target)
        if available is None or query is None:
            result.unasked[available] = len(chosen)
            continue
        for subset in (*side_subsets(table, query), *target_subsets):
            check_unit(f"the embeddings of {subset}", table[subset])
        rows = torch.tensor(chosen)
        queries = [vectors[rows] for vectors in sides(table, query)]
        better, tied, first, of_group = count_ranks(queries, targets, place[rows], table.score, within)
        equal = None if right is None else right[place[rows]]
        result.ranked[available] = query, Ranked(rows, better, tied, gallery[first], len(gallery), of_group, equal)
    return result


def evaluate_availability(
    table: EmbeddingTable,
    targets: Sequence[Subset] | None = None,
    ks: Sequence[int] = (1, 10),
    method: str = "",
    seed: int = 0,
    confidence: float | None = None,
) -> list[ReportRow]:
    """Recall@k, the median rank and the mean reciprocal rank by what the rows have.

    Args:
        targets: by default every single modality of the table.
        ks: those larger than a gallery are left out there.
        confidence: e.g. 0.95, adds bootstrap confidence intervals.

    Returns:
        rows with the query `rows with image+audio`, whose note says with which subset they asked, and for each target
        `every row`, all of them together.

    Example:
        >>> table = EmbeddingTable(("a", "b"), {Subset("image"): torch.eye(2), Subset("text"): torch.eye(2)})
        >>> [(row.query, row.value) for row in evaluate_availability(table, [Subset("text")], ks=(1,))][:1]
        [('rows with image', 1.0)]
    """
    chosen = [one for one in table.subsets if not one.is_fused] if targets is None else list(targets)
    ranks = [rank_by_availability(table, target) for target in chosen]
    return [row for one in ranks for row in availability_rows(one, ks, method, seed, confidence)]


def availability_rows(
    ranks: AvailableRanks, ks: Sequence[int], method: str = "", seed: int = 0, confidence: float | None = None
) -> list[ReportRow]:
    """The rows of `evaluate_availability` for one target."""
    if not ranks.ranked:
        return []
    parts = {f"rows with {has}": (f"asked with {query}", one) for has, (query, one) in ranks.ranked.items()}
    everyone, left = [one for _, one in ranks.ranked.values()], sum(ranks.unasked.values())
    note = f"{left} rows have nothing to ask with" if left else ""
    rows, better, tied, first = (
        torch.cat(several) for several in zip(*((one.rows, one.better, one.tied, one.first) for one in everyone))
    )
    right = [one.right for one in everyone if one.right is not None]  # all or none: they have one gallery
    parts[EVERY_ROW] = (
        note,
        Ranked(rows, better, tied, first, everyone[0].gallery, right=torch.cat(right) if right else None),
    )
    report = []
    for name, (note, one) in parts.items():
        fitting = [k for k in ks if k <= one.gallery]
        report += ranked_rows(one, fitting, name, str(ranks.target), method, seed, confidence, note)
    return report
