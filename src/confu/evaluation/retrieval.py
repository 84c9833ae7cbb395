"""Retrieval on stored embeddings: where does the right target stand in the ranking of each query?

Shapes: n queries and n targets, row i of one belongs to row i of the other; dim numbers a vector; m targets of a
gallery.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu.checks import check_pair, check_rows
from confu.embeddings import EmbeddingTable
from confu.evaluation.bootstrap import measured_row
from confu.evaluation.ranking import GroupRanks, chance_recall, count_ranks, first_hit_credit, first_hit_reciprocal
from confu.evaluation.report import ReportRow
from confu.evaluation.scoring import (
    TIE_TOLERANCE,
    answers,
    check_unit,
    disjoint_pairs,
    query_vectors,
    queryable_subsets,
    sides,
)
from confu.plan import Subset
from confu.types import joint_contents

Sides = Float[Tensor, "_ _"] | Sequence[Float[Tensor, "_ _"]]
MEAN_TARGET = "mean"


def retrieval_ranks(
    queries: Sides,
    targets: Sides,
    tolerance: float = TIE_TOLERANCE,
    chunk_size: int | None = None,
    score: str = "cosine",
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """For each query, how many targets score better than its own, and how many score the same.

        better_i = #{j : s_ij > s_ii + tolerance_i},   tied_i = #{j : |s_ij - s_ii| <= tolerance_i}

    The scores s are computed in tiles, so memory does not grow with n^2: a million queries of a million take hours, but
    no more memory than a thousand.

    Args:
        queries: (n, dim) unit vectors; or one such a modality, for a score that compares several.
        targets: (n, dim) unit vectors, or one such a modality; target i belongs to query i.
        tolerance: cosines this close are equal, see `confu.evaluation.scoring.TIE_TOLERANCE`; for the other scores it
            is relative to the query's largest, see `tie_widths`.
        chunk_size: queries at once; by default so many that memory stays small.
        score: how they are compared, see `pair_scores`.

    Returns:
        better and tied, each (n,); tied counts the query's own target, so it is at least 1.

    Raises:
        ValueError: if the shapes differ, a number is not finite or a vector has not length one.

    Example:
        >>> better, tied = retrieval_ranks(torch.eye(3), torch.eye(3)[[1, 0, 2]])
        >>> better.tolist(), tied.tolist()
        ([1, 1, 0], [2, 2, 1])
    """
    named = {}
    for name, side in (("queries", queries), ("targets", targets)):
        named[name] = [side] if isinstance(side, Tensor) else list(side)
        if not named[name]:
            raise ValueError(f"{name} must hold one (n, dim) tensor or more; got none")
    for query in named["queries"]:
        for target in named["targets"]:
            check_pair(query, target)
    for name, side in named.items():
        for i, vectors in enumerate(side):
            check_unit(name if len(side) == 1 else f"{name}[{i}]", vectors)
    own = torch.arange(len(named["queries"][0]))
    return count_ranks(named["queries"], named["targets"], own, score, tolerance=tolerance, chunk_size=chunk_size)[:2]


def recall_at_k(better: Int[Tensor, " n"], tied: Int[Tensor, " n"], k: int) -> float:
    """The share of queries whose own target is among the first k, with ties broken at random, in expectation.

        1/n sum_i clip((k - better_i) / tied_i, 0, 1)

    A collapsed model, for which all n targets tie, gets k/n and not 1.

    Args:
        k: 1 to n.

    Example:
        >>> recall_at_k(torch.tensor([0, 0, 2]), torch.tensor([1, 2, 1]), k=1)
        0.5
    """
    return float(_recall(better, tied, k, len(better)).mean())


def _recall(better: Tensor, tied: Tensor, k: int, gallery: int) -> Tensor:
    if not 1 <= k <= gallery:
        raise ValueError(f"k must lie between 1 and the size of the gallery, {gallery}; got {k}")
    return ((k - better).double() / tied).clamp(0.0, 1.0)


def expected_ranks(better: Int[Tensor, " n"], tied: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The expected rank of each query's own target if ties are broken at random: better + (tied + 1) / 2; 1 is best."""
    return better.double() + (tied + 1) / 2


def median_rank(better: Int[Tensor, " n"], tied: Int[Tensor, " n"]) -> float:
    """The median over queries of the expected rank of its own target, better + (tied + 1) / 2; 1 is best.

    Returns:
        from 1 to n; the mean of the two middle ranks if n is even.

    Example:
        >>> median_rank(torch.tensor([0, 1, 5]), torch.tensor([1, 2, 1]))
        2.5
    """
    check_rows(len(better), 1, "the median rank")
    return float(expected_ranks(better, tied).quantile(0.5))


def reciprocal_ranks(better: Int[Tensor, " n"], tied: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The expectation of 1 / rank of each query's own target if ties are broken at random, in (0, 1].

        1/t sum_{r=b+1}^{b+t} 1/r = (H(b + t) - H(b)) / t,   H(k) = 1 + 1/2 + ... + 1/k

    It is more than 1 / (expected rank): a rank of 1 or 3 by a coin gives 2/3, and not 1/2.
    """
    last = int((better + tied).max()) if len(better) else 0
    harmonic = torch.zeros(last + 1, dtype=torch.float64)
    harmonic[1:] = torch.arange(1, last + 1, dtype=torch.float64).reciprocal().cumsum(0)
    return (harmonic[better + tied] - harmonic[better]) / tied


def mean_reciprocal_rank(better: Int[Tensor, " n"], tied: Int[Tensor, " n"]) -> float:
    """The mean over queries of 1 / rank of its own target (MRR), with ties broken at random, in expectation.

    Example:
        >>> mean_reciprocal_rank(torch.tensor([0, 1]), torch.tensor([1, 1]))
        0.75
    """
    check_rows(len(better), 1, "the mean reciprocal rank")
    return float(reciprocal_ranks(better, tied).mean())


@dataclass(frozen=True, eq=False)
class Ranked:
    """The outcome of n queries in a gallery of m targets, where more than one may be right.

    Attributes:
        rows: (n,) the rows of the table that are the queries.
        better: (n,) how many targets score better than the query's own.
        tied: (n,) how many score the same, its own among them.
        first: (n,) the row of the table whose target scores best; the first one of those that tie.
        gallery: m.
        groups: the same where any row of the query's group is right; None without groups.
        right: (n,) how many targets are equal to the query's own, itself included: all of them are right, and score
            the same. None where no two are.
    """

    rows: Int[Tensor, " n"]
    better: Int[Tensor, " n"]
    tied: Int[Tensor, " n"]
    first: Int[Tensor, " n"]
    gallery: int
    groups: GroupRanks | None = None
    right: Int[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def recall(self, k: int) -> Float[Tensor, " n"]:
        """The chance that the own target, or an equal one, is among the first k if ties are broken at random."""
        if self.right is None:
            return _recall(self.better, self.tied, k, self.gallery)
        return first_hit_credit(self.better, (self.tied - self.right).clamp_min(0), self.right, k)

    def group_recall(self, k: int) -> Float[Tensor, " n"]:
        """The chance that any row of the query's group is among the first k; see `first_hit_credit`."""
        if self.groups is None:
            raise ValueError("there are no groups; give `groups` where the ranks are made")
        return first_hit_credit(self.groups.better, self.groups.tied, self.groups.right, k)

    def ranks(self) -> Float[Tensor, " n"]:
        """The expected rank of the query's own target, or of the first that is equal; 1 is best."""
        if self.right is None:
            return expected_ranks(self.better, self.tied)
        return self.better.double() + (self.tied + 1) / (self.right + 1)

    def reciprocal(self) -> Float[Tensor, " n"]:
        """The expectation of 1 / rank of the query's own target, or of the first that is equal."""
        if self.right is None:
            return reciprocal_ranks(self.better, self.tied)
        return first_hit_reciprocal(self.better, (self.tied - self.right).clamp_min(0), self.right)

    def chance(self, k: int) -> float:
        """The recall at k of a random order."""
        return chance_recall(self.gallery, k, self.right)

    def spread(self, values: Float[Tensor, " n"], size: int) -> Float[Tensor, " size"]:
        """One value a row of the table; NaN in the rows that are no query."""
        return torch.full((size,), float("nan"), dtype=torch.float64).index_copy_(0, self.rows, values.double())


def equal_targets(
    contents: Mapping[str, Int[Tensor, " _"]] | None, target: Subset, rows: Int[Tensor, " m"]
) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"] | None]:
    """Which targets of some rows are equal: all modalities of the target have the same content.

    Args:
        contents: by modality, equal numbers for equal inputs, -1 where they are not known (see `Batch.contents`).
        target: what is sought.
        rows: of the gallery.

    Returns:
        (m,) the place in the gallery of the first target that is equal, and how many are; None in place of these
        numbers if no two are, or the contents of a modality are not given. Equal targets are to be ranked by the vector
        of the first, in whatever batch they were embedded, so that they tie.

    >>> equal_targets({"text": torch.tensor([7, 5, 7, -1, -1])}, Subset("text"), torch.arange(5))
    (tensor([0, 1, 0, 3, 4]), tensor([2, 1, 2, 1, 1]))
    """
    places = torch.arange(len(rows))
    if contents is None or any(name not in contents for name in target):
        return places, None
    numbers = joint_contents([contents[name][rows] for name in target])
    _, same, members = torch.where(numbers < 0, -1 - places, numbers).unique(return_inverse=True, return_counts=True)
    if len(members) == len(rows):
        return places, None
    first = torch.full_like(members, len(rows)).scatter_reduce_(0, same, places, "amin")
    return first[same], members[same]


def rank_pair(
    table: EmbeddingTable,
    query: Subset,
    target: Subset,
    groups: Int[Tensor, " _"] | None = None,
    contents: Mapping[str, Int[Tensor, " _"]] | None = None,
) -> dict[str, Ranked]:
    """Rank the targets of the rows that are complete for query and target, by the query's name.

    Args:
        table: with queries and targets.
        query: what is asked with.
        target: what is sought.
        groups: (len(table),) for the ranks by group.
        contents: by modality, (len(table),); equal targets are right, see `equal_targets`.

    Example:
        >>> table = EmbeddingTable(("a", "b"), {Subset("image"): torch.eye(2), Subset("text"): torch.eye(2)})
        >>> rank_pair(table, Subset("image"), Subset("text"))["image"].recall(1).tolist()
        [1.0, 1.0]
    """
    rows, queries = query_vectors(table, query, target)
    if len(rows) == 0:
        return {}
    first_equal, right = equal_targets(contents, target, rows)
    targets = [vectors[rows[first_equal]] for vectors in sides(table, target)]
    within, own = None if groups is None else groups[rows], torch.arange(len(rows))
    ranked = {}
    for name, vectors in queries.items():
        better, tied, first, of_group = count_ranks(vectors, targets, own, table.score, within)
        ranked[name] = Ranked(rows, better, tied, rows[first], len(rows), of_group, right)
    return ranked


def ranked_rows(
    ranked: Ranked,
    ks: Iterable[int],
    query: str,
    target: str,
    method: str = "",
    seed: int = 0,
    confidence: float | None = None,
    note: str = "",
) -> list[ReportRow]:
    """Recall@k, the median rank and the mean reciprocal rank of some queries."""
    measures = {f"recall@{k}": (ranked.recall(k), "mean") for k in ks}
    measures["median rank"] = ranked.ranks(), "median"
    measures["mean reciprocal rank"] = ranked.reciprocal(), "mean"
    rows = [
        measured_row(metric, query, target, values, method, seed, statistic, confidence)
        for metric, (values, statistic) in measures.items()
    ]
    return [replace(row, note=note) for row in rows]


def evaluate_retrieval(
    table: EmbeddingTable,
    ks: Sequence[int] = (1, 5, 10),
    pairs: Iterable[tuple[Subset, Subset]] | None = None,
    method: str = "",
    seed: int = 0,
    confidence: float | None = None,
    contents: Mapping[str, Int[Tensor, " _"]] | None = None,
) -> list[ReportRow]:
    """Recall@k, the median rank and the mean reciprocal rank of every query subset -> target subset, ties averaged.

    Each pair is measured on the rows that are complete for both, compared in the way of the table's `score`. Beside
    every fused query of a cosine table stands a row `mean(image, audio)`, the re-normalised mean of its single
    embeddings on the same rows, if the table has them.

    Args:
        table: what a model made of a data set; row i's query belongs to row i's target.
        ks: each at most the number of rows.
        pairs: (query, target); by default every disjoint pair that the table's method can answer: of the table's
            subsets for cosines, else of all subsets of its modalities. Of a fused query that a cosine table lacks
            only the mean is measured.
        confidence: e.g. 0.95, adds bootstrap confidence intervals over the queries; see `bootstrap_interval`.
        contents: by modality, (len(table),) equal numbers for rows with equal inputs, e.g. of
            `confu.data.row_contents`: a target that is equal to the query's own is then right as well.

    Returns:
        rows of `recall@k` as fractions, of `median rank` and of `mean reciprocal rank`.

    Raises:
        ValueError: if k is larger than the gallery, an embedding is not finite, or one of `pairs` cannot be answered:
            it shares a modality, is not in the table, or is not for its method (`confu.evaluation.why_not`).

    Reference:
        Table 2 of the paper is recall@10 over the whole test split, see `retrieval_means` for its last columns. Its
        released code ranks by argsort, which breaks ties by position; here they are averaged.

    Example:
        >>> table = EmbeddingTable(("a", "b"), {Subset("image"): torch.eye(2), Subset("text"): torch.eye(2)})
        >>> [(row.metric, row.query, row.value) for row in evaluate_retrieval(table, ks=(1,))][:2]
        [('recall@1', 'text', 1.0), ('median rank', 'text', 1.0)]
    """
    if pairs is None:
        pairs = [pair for pair in disjoint_pairs(queryable_subsets(table)) if answers(table, *pair)]
    rows: list[ReportRow] = []
    for query, target in pairs:
        ranked = rank_pair(table, query, target, contents=contents)
        gallery = max(map(len, ranked.values()), default=0)
        if max(ks, default=1) > gallery:
            raise ValueError(
                f"k = {max(ks, default=1)} is larger than the gallery of {query} -> {target}, {gallery} complete "
                "rows; use smaller ks, more rows, or `pairs` without this one"
            )
        for name, one in ranked.items():
            rows += ranked_rows(one, ks, name, str(target), method, seed, confidence)
    return rows


def retrieval_means(rows: Iterable[ReportRow]) -> list[ReportRow]:
    """The mean of each metric over all 1 -> 1 and over all 2 -> 1 pairs, and so on: pairs with a single target.

    Args:
        rows: of `evaluate_retrieval`; other rows are passed over, and so are fused targets and `mean(image, audio)`
            queries, which need no fusion network.

    Returns:
        for each metric, method and seed a row a size, with the query `1 -> 1`, `2 -> 1`, ... and the target `mean`. Its
        count is that of all queries, its note says of how many pairs.

    Reference:
        The last columns of Table 2, with recall@10. Several printed there do not follow from the cells beside them.

    Example:
        >>> cells = [ReportRow("recall@10", q, t, v, 686) for q, t, v in [("x", "y", 0.2), ("y", "x", 0.4)]]
        >>> [(row.query, round(row.value, 3), row.note) for row in retrieval_means(cells)]
        [('1 -> 1', 0.3, 'mean of 2 pairs')]
    """
    groups: dict[tuple[str, str, int, int], list[ReportRow]] = {}
    for row in rows:
        ranked = row.metric.startswith("recall@") or row.metric in ("median rank", "mean reciprocal rank")
        averaged = row.query.startswith("mean(") or (row.target == MEAN_TARGET and "->" in row.query)
        if ranked and not averaged and "+" not in row.target:
            groups.setdefault((row.metric, row.method, row.seed, row.query.count("+") + 1), []).append(row)
    means = []
    for (metric, method, seed, size), group in groups.items():
        value, count = fmean(row.value for row in group), sum(row.count for row in group)
        note = f"mean of {len(group)} pair{'s' * (len(group) != 1)}"
        means.append(ReportRow(metric, f"{size} -> 1", MEAN_TARGET, value, count, method, seed, note))
    return means
