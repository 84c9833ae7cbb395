"""Numbers by availability: each row answers with the largest subset that it has, and rows are told apart by it.

A model is asked with whatever is there. So beside the numbers of each subset on its complete rows stand those of rows
that have exactly these modalities: what a user with such rows can expect.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int
from torch import Tensor

from confu.data.coverage import pattern_of_rows
from confu.embeddings import EmbeddingTable
from confu.evaluation.bootstrap import measured_row
from confu.evaluation.gallery import Ranked
from confu.evaluation.ranking import count_ranks
from confu.evaluation.report import ReportRow
from confu.evaluation.scoring import answers, check_unit, queryable_subsets, side_subsets, sides
from confu.plan import Subset

EVERY_ROW = "every row"


@dataclass(frozen=True, eq=False)
class AvailableRanks:
    """Retrieval of one target, each row asking with the largest subset that it has.

    Attributes:
        target: what is sought.
        ranked: what rows have beside the target -> the subset that asks for them, and its ranks in the whole gallery.
        unasked: what rows have beside the target -> how many, where the method has no query for it; None is nothing.
        without_target: how many rows lack the target, so that nothing can be right.
    """

    target: Subset
    ranked: dict[Subset, tuple[Subset, Ranked]] = field(default_factory=dict)
    unasked: dict[Subset | None, int] = field(default_factory=dict)
    without_target: int = 0


def row_patterns(table: EmbeddingTable) -> list[Subset | None]:
    """What each row has, by the single modalities of the table; None for a row that has none of them.

    Example:
        >>> complete = {Subset("audio"): torch.tensor([True, False])}
        >>> table = EmbeddingTable(("a", "b"), {Subset(n): torch.eye(2) for n in ("image", "audio")}, complete)
        >>> row_patterns(table)
        [Subset('image+audio'), Subset('image')]
    """
    return pattern_of_rows({str(subset): table.complete[subset] for subset in table.subsets if not subset.is_fused})


def largest_query(table: EmbeddingTable, available: Subset | None, target: Subset) -> Subset | None:
    """The largest subset within what is available that can ask for a target it does not hold; of equals the first.

    Args:
        table: says what it embeds and how its method compares.
        available: the modalities of a row.
        target: what is sought.

    Returns:
        None if nothing that is available can ask.

    Example:
        >>> names = ("image", "audio", "image+audio", "text")
        >>> table = EmbeddingTable(("a",), {Subset.parse(name): torch.eye(1) for name in names})
        >>> largest_query(table, Subset("text", "audio", "image"), Subset("text"))
        Subset('image+audio')
    """
    within = frozenset() if available is None else available - target
    chosen = [one for one in queryable_subsets(table) if one <= within and answers(table, one, target)]
    return max(chosen, key=len, default=None)


def rank_by_availability(
    table: EmbeddingTable, target: Subset, groups: Int[Tensor, " _"] | None = None
) -> AvailableRanks:
    """Rank the targets for every row that has one, each row asking with the largest subset that it has.

    The gallery is the same for all rows: every row that has the target. So the numbers of rows with much and rows with
    little can be compared with each other.

    Args:
        table: of embeddings.
        target: what is sought.
        groups: (len(table),) rows of the query's group are right too, see `count_ranks`.

    Raises:
        ValueError: if the table does not hold the target, or an embedding is not finite.
    """
    held = side_subsets(table, target)
    gallery = table.rows_with(*held)
    place = torch.full((len(table),), -1).index_copy_(0, gallery, torch.arange(len(gallery)))
    sought = [vectors[gallery] for vectors in sides(table, target)]
    within = None if groups is None else groups[gallery]
    found = AvailableRanks(target, without_target=len(table) - len(gallery))
    by_pattern: dict[Subset | None, list[int]] = {}
    patterns = row_patterns(table)
    for row in gallery.tolist():
        has = [name for name in (patterns[row] or ()) if name not in target]
        by_pattern.setdefault(Subset(*has) if has else None, []).append(row)
    for available, chosen in sorted(by_pattern.items(), key=lambda item: -len(item[0] or ())):
        query = largest_query(table, available, target)
        if available is None or query is None:
            found.unasked[available] = len(chosen)
            continue
        for subset in (*side_subsets(table, query), *held):
            check_unit(f"the embeddings of {subset}", table[subset])
        rows = torch.tensor(chosen)
        asking = [vectors[rows] for vectors in sides(table, query)]
        better, tied, first, of_group = count_ranks(asking, sought, place[rows], table.score, within)
        found.ranked[available] = query, Ranked(rows, better, tied, gallery[first], len(gallery), of_group)
    return found


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
        table: of embeddings.
        targets: by default every single modality of the table.
        ks: those larger than a gallery are left out there.
        method: copied into the rows.
        seed: copied into the rows.
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
    rows = []
    for target in chosen:
        rows += availability_rows(rank_by_availability(table, target), ks, method, seed, confidence)
    return rows


def availability_rows(
    found: AvailableRanks, ks: Sequence[int], method: str = "", seed: int = 0, confidence: float | None = None
) -> list[ReportRow]:
    """The rows of `evaluate_availability` for one target."""
    parts = {f"rows with {has}": (f"asked with {query}", [ranked]) for has, (query, ranked) in found.ranked.items()}
    if not parts:
        return []
    everyone = [ranked for _, ranked in found.ranked.values()]
    left = sum(found.unasked.values())
    parts[EVERY_ROW] = f"{left} rows have nothing to ask with" if left else "", everyone
    rows = []
    for name, (note, ranks) in parts.items():
        measured = {f"recall@{k}": (torch.cat([one.recall(k) for one in ranks]), "mean")
                    for k in ks if k <= ranks[0].gallery}  # fmt: skip
        measured["median rank"] = torch.cat([one.ranks() for one in ranks]), "median"
        measured["mean reciprocal rank"] = torch.cat([one.reciprocal() for one in ranks]), "mean"
        for metric, (values, statistic) in measured.items():
            row = measured_row(metric, name, str(found.target), values, method, seed, statistic, confidence)
            rows.append(replace(row, note=note))
    return rows
