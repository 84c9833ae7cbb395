"""What an evaluation finds about retrieval: every query and target, fusion's gain, availability, and the main query."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int
from torch import Tensor

from confu.embeddings import EmbeddingTable
from confu.evaluation.availability import AvailableRanks, availability_rows, rank_by_availability
from confu.evaluation.bootstrap import measured_row
from confu.evaluation.gallery import Ranked, rank_pair
from confu.evaluation.hits import chance_recall, usual_ks
from confu.evaluation.overlap import OverlapResult, evaluate_overlap
from confu.evaluation.report import ReportRow
from confu.evaluation.scoring import disjoint_pairs, mean_name, queryable_subsets, singles_of, why_not
from confu.plan import Subset

CONFIDENCE = 0.95
GROUP = " (same group)"
"""At the end of a metric's name where every row of the query's group is right."""


@dataclass(frozen=True, eq=False)
class RetrievalMeasures:
    """Retrieval on one table.

    Attributes:
        table: the rows that were measured.
        ks: the k of recall@k.
        ranked: (what asks, what is sought), by name -> the outcome; with `mean(...)` beside fused queries.
        available: by target, each row asking with the largest subset that it has.
        rows: every number.
        refused: why a method cannot answer some queries, and which have too few complete rows.
        main: the largest subset that finds the preferred target, and that target; None if nothing can be asked.
        overlap: which queries of the main one find the target among the first k; None for a single query.
    """

    table: EmbeddingTable
    ks: tuple[int, ...]
    ranked: dict[tuple[str, str], Ranked]
    available: dict[Subset, AvailableRanks]
    rows: list[ReportRow]
    refused: list[str] = field(default_factory=list)
    main: tuple[Subset, Subset] | None = None
    overlap: OverlapResult | None = None

    @property
    def k(self) -> int:
        """The k that figures show: the largest."""
        return self.ks[-1]

    def find(self, metric: str, query: str, target: str) -> ReportRow | None:
        """A number by its names."""
        wanted = (metric, query, target)
        return next((row for row in self.rows if (row.metric, row.query, row.target) == wanted), None)


def measure_retrieval(
    table: EmbeddingTable,
    groups: Int[Tensor, " _"] | None = None,
    preferred: Sequence[str] = (),
    method: str = "",
    seed: int = 0,
    tick: Callable[[str], None] = lambda what: None,
) -> RetrievalMeasures:
    """Measure every query that the table's method can answer.

    Args:
        table: of the test rows, or of some of them.
        groups: (len(table),) rows of one group are right for one another in further numbers; -1 is no group.
        preferred: the modalities to seek first in the main query, e.g. texts.
        method: copied into the rows.
        seed: copied into the rows.
        tick: told what is being measured.
    """
    pairs = disjoint_pairs(queryable_subsets(table))
    refused = {str(reason) for pair in pairs if (reason := why_not(table, *pair))}
    asked = [pair for pair in pairs if why_not(table, *pair) is None]
    # The mean of single embeddings can be asked where a model without fusion networks embeds no fused subset.
    asked += [(query, target) for query, target in _means(table) if (query, target) not in asked]
    ranked: dict[tuple[str, str], Ranked] = {}
    for query, target in asked:
        tick(f"{query} -> {target}")
        found = rank_pair(table, query, target, groups)
        if not found or next(iter(found.values())).gallery < 2:
            refused.add(f"{query} -> {target}: fewer than two rows are complete for it, so that nothing can be ranked")
            continue
        ranked.update({(name, str(target)): one for name, one in found.items()})
    ks = usual_ks(one.gallery for one in ranked.values())
    rows = [row for names, one in ranked.items() for row in _pair_rows(*names, one, ks, method, seed)]
    rows += _gains(table, ranked, ks[-1], method, seed)
    available: dict[Subset, AvailableRanks] = {}
    for target in [one for one in table.subsets if not one.is_fused]:
        tick(f"what is there -> {target}")
        available[target] = rank_by_availability(table, target)
        rows += availability_rows(available[target], ks, method, seed, CONFIDENCE)
    main = _main_query(table, ranked, preferred)
    overlap = None if main is None else _overlap(table, ranked, *main, ks[-1])
    if overlap is not None and main is not None:
        for row in overlap.to_rows(str(main[1]), method, seed)[: len(overlap.shares)]:  # without those by class
            rows.append(replace(row, metric=f"{row.metric} (recall@{ks[-1]})"))
    return RetrievalMeasures(table, ks, ranked, available, rows, sorted(refused), main, overlap)


def _means(table: EmbeddingTable) -> list[tuple[Subset, Subset]]:
    """Everything but the target, by the mean, for a cosine table without fused subsets."""
    if table.score != "cosine" or any(subset.is_fused for subset in table.subsets) or len(table.subsets) < 3:
        return []
    return [(Subset(*(n for one in table.subsets for n in one if one != target)), target) for target in table.subsets]


def _pair_rows(query: str, target: str, one: Ranked, ks: Sequence[int], method: str, seed: int) -> list[ReportRow]:
    measured: dict[str, tuple[Tensor, str]] = {}
    for k in (k for k in ks if k <= one.gallery):
        measured[f"recall@{k}"] = one.recall(k), "mean"
        if one.groups is not None:
            measured[f"recall@{k}{GROUP}"] = one.group_recall(k), "mean"
    measured["median rank"] = one.ranks(), "median"
    measured["mean reciprocal rank"] = one.reciprocal(), "mean"
    rows = []
    for metric, (values, statistic) in measured.items():
        level = CONFIDENCE if metric.startswith("recall") else None
        row = measured_row(metric, query, target, values, method, seed, statistic, level)
        if metric.startswith("recall"):
            members = one.groups.members if one.groups is not None and metric.endswith(GROUP) else None
            chance = chance_recall(one.gallery, int(metric.split("@")[1].split()[0]), members)
            row = replace(row, note=f"chance {chance:.4g}, gallery {one.gallery}")
        rows.append(row)
    return rows


def _gains(
    table: EmbeddingTable, ranked: dict[tuple[str, str], Ranked], k: int, method: str, seed: int
) -> list[ReportRow]:
    """How much more often a fused embedding finds the target than the mean of the single ones, on the same rows."""
    rows = []
    for (query, target), fused in ranked.items():
        mean = None if query.startswith("mean(") else ranked.get((mean_name(Subset.parse(query)), target))
        if mean is not None and k <= fused.gallery:
            difference = fused.recall(k) - mean.recall(k)
            row = measured_row(f"recall@{k} gain", query, target, difference, method, seed, confidence=CONFIDENCE)
            rows.append(replace(row, note=f"over {mean_name(Subset.parse(query))}, same rows"))
    return rows


def _main_query(
    table: EmbeddingTable, ranked: dict[tuple[str, str], Ranked], preferred: Sequence[str]
) -> tuple[Subset, Subset] | None:
    singles = [one for one in table.subsets if not one.is_fused]
    order = [*(Subset(name) for name in preferred if Subset(name) in singles), *reversed(singles)]
    for target in order:
        queries = [one for one in queryable_subsets(table) if (str(one), str(target)) in ranked]
        if queries:
            return max(queries, key=len), target
    return None


def _overlap(
    table: EmbeddingTable, ranked: dict[tuple[str, str], Ranked], query: Subset, target: Subset, k: int
) -> OverlapResult | None:
    names = overlap_queries(table, query, [name for name, sought in ranked if sought == str(target)])
    if len(names) < 2 or k > ranked[names[0], str(target)].gallery:
        return None
    credit = {name: ranked[name, str(target)] for name in names}
    values = {name: one.spread(one.recall(min(k, one.gallery)), len(table)) for name, one in credit.items()}
    if not bool(torch.stack([~one.isnan() for one in values.values()]).all(0).any()):
        return None
    return evaluate_overlap(values, torch.zeros(len(table), dtype=torch.long), ("every row",))


def overlap_queries(table: EmbeddingTable, query: Subset, asked: Sequence[str]) -> list[str]:
    """The queries that are compared: a fused one, or the mean in its place, and each of its single modalities."""
    if not query.is_fused:  # a model without fusion networks: all singles, and their mean
        means = [name for name in asked if name.startswith("mean(")]
        return [*means[-1:], *(name for name in asked if "+" not in name and not name.startswith("mean("))][:6]
    whole = [str(query)] if str(query) in asked else [mean_name(query)] if singles_of(table, query) else []
    return [name for name in (*whole, *query) if name in asked][:6]
