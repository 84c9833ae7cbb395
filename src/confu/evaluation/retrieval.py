"""Retrieval on stored embeddings: where does the right target stand in the ranking of each query?

Shapes: n queries and n targets, row i of one belongs to row i of the other; dim numbers a vector.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from confu._typing import Subset
from confu.checks import check_finite, check_pair, check_rows
from confu.embeddings import EmbeddingTable
from confu.evaluation.report import ReportRow

TIE_TOLERANCE = 1e-6
"""Cosines this close count as equal. A matrix product rounds a float32 cosine by about 1e-7, differently at different
positions, so that two identical captions would otherwise win or lose against each other by chance."""

_CHUNK_SCORES = 1 << 23  # scores held at once: 32 MiB of float32, whatever n is


def check_unit(name: str, vectors: Tensor) -> None:
    """Check that every vector has length one, or zero (an embedding that collapsed), so that dot products are cosines.

    Raises:
        ValueError: naming the first row whose length is neither.
    """
    check_finite(name, vectors)
    lengths = vectors.norm(dim=-1)
    wrong = ((lengths - 1).abs() > 1e-3) & (lengths > 1e-3)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0, 0])
        raise ValueError(
            f"{name} must be unit vectors; row {row} has length {float(lengths[row]):.4g}. "
            "Divide each by its length (torch.nn.functional.normalize)"
        )


def retrieval_ranks(
    queries: Float[Tensor, "_ _"],
    targets: Float[Tensor, "_ _"],
    tolerance: float = TIE_TOLERANCE,
    chunk_size: int | None = None,
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """For each query, how many targets score better than its own, and how many score the same.

        better_i = #{j : q_i.t_j > q_i.t_i + tolerance},   tied_i = #{j : |q_i.t_j - q_i.t_i| <= tolerance}

    The scores are computed in chunks of queries, so memory does not grow with n^2.

    Args:
        queries: (n, dim) unit vectors.
        targets: (n, dim) unit vectors; target i belongs to query i.
        tolerance: cosines this close are equal, see `TIE_TOLERANCE`.
        chunk_size: queries at once; by default as many as keep 2^23 scores.

    Returns:
        better and tied, each (n,); tied counts the query's own target, so it is at least 1.

    Raises:
        ValueError: if the shapes differ, a number is not finite or a vector has not length one.

    Example:
        >>> better, tied = retrieval_ranks(torch.eye(3), torch.eye(3)[[1, 0, 2]])
        >>> better.tolist(), tied.tolist()
        ([1, 1, 0], [2, 2, 1])
    """
    check_pair(queries, targets)
    check_unit("queries", queries)
    check_unit("targets", targets)
    n = len(queries)
    step = chunk_size or max(1, _CHUNK_SCORES // max(n, 1))
    better = torch.empty(n, dtype=torch.long)
    tied = torch.empty(n, dtype=torch.long)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        scores = queries[rows] @ targets.T
        own = scores.diagonal(offset=start)[:, None]  # from the same product, so that it is rounded alike
        better[rows] = (scores > own + tolerance).sum(dim=1).cpu()
        tied[rows] = ((scores - own).abs() <= tolerance).sum(dim=1).cpu()
    return better, tied


def recall_at_k(better: Int[Tensor, " n"], tied: Int[Tensor, " n"], k: int) -> float:
    """The fraction of queries whose own target is among the first k, with ties broken at random, in expectation.

        recall@k = mean_i clip((k - better_i) / tied_i, 0, 1)

    A collapsed model, for which all n targets tie, gets k/n and not 1.

    Args:
        better: (n,) from `retrieval_ranks`.
        tied: (n,) from `retrieval_ranks`.
        k: 1 to n.

    Returns:
        in [0, 1].

    Raises:
        ValueError: if k is not in 1..n.

    Example:
        >>> recall_at_k(torch.tensor([0, 0, 2]), torch.tensor([1, 2, 1]), k=1)
        0.5
    """
    n = len(better)
    if not 1 <= k <= n:
        raise ValueError(f"k must lie between 1 and the size of the gallery, {n}; got {k}")
    return float(((k - better) / tied).clamp(0.0, 1.0).double().mean())


def median_rank(better: Int[Tensor, " n"], tied: Int[Tensor, " n"]) -> float:
    """The median over queries of the expected rank of its own target, better + (tied + 1) / 2; 1 is best.

    Args:
        better: (n,) from `retrieval_ranks`.
        tied: (n,) from `retrieval_ranks`.

    Returns:
        from 1 to n; the mean of the two middle ranks if n is even.

    Example:
        >>> median_rank(torch.tensor([0, 1, 5]), torch.tensor([1, 2, 1]))
        2.5
    """
    check_rows(len(better), 1, "the median rank")
    return float((better + (tied + 1) / 2).double().quantile(0.5))


def mean_vectors(vectors: Sequence[Float[Tensor, "n dim"]]) -> Float[Tensor, "n dim"]:
    """The re-normalised mean of unit vectors: what a model without a fusion network can do with two queries.

    Args:
        vectors: each (n, dim).

    Returns:
        (n, dim) unit vectors; zero where they cancel.
    """
    return torch.nn.functional.normalize(torch.stack(list(vectors)).mean(dim=0), dim=-1)


def mean_name(subset: Subset) -> str:
    """How the mean of a fused subset's single embeddings is called: `mean(image, audio)`."""
    return f"mean({', '.join(subset)})"


def singles_of(table: EmbeddingTable, subset: Subset) -> list[Subset]:
    """The single subsets of a fused subset if the table has them all; else none."""
    singles = [Subset(name) for name in subset]
    return singles if subset.is_fused and all(single in table for single in singles) else []


def check_disjoint(query: Subset, target: Subset) -> None:
    """Check that a query shares no modality with its target, which would tell the answer.

    Raises:
        ValueError: naming what they share.
    """
    if shared := query & target:
        raise ValueError(
            f"query {query} and target {target} share {', '.join(sorted(shared))}, which tells the answer; "
            "ask with a subset that is disjoint from the target"
        )


def disjoint_pairs(subsets: Iterable[Subset]) -> list[tuple[Subset, Subset]]:
    """Every (query, target) of these subsets that shares no modality, in both directions."""
    subsets = list(subsets)
    return [(query, target) for target in subsets for query in subsets if not query & target]


def evaluate_retrieval(
    table: EmbeddingTable,
    ks: Sequence[int] = (1, 5, 10),
    pairs: Iterable[tuple[Subset, Subset]] | None = None,
    method: str = "",
    seed: int = 0,
) -> list[ReportRow]:
    """Recall@k and the median rank of every query subset -> target subset, ties averaged.

    Each pair is measured on the rows that are complete for both. Beside every fused query stands a row
    `mean(image, audio)`, the re-normalised mean of its single embeddings on the same rows, if the table has them.

    Args:
        table: what a model made of a data set; row i's query belongs to row i's target.
        ks: each at most the number of rows.
        pairs: (query, target); by default every disjoint pair of the table's subsets.
        method: copied into the rows.
        seed: copied into the rows.

    Returns:
        rows of `recall@k` as fractions and of `median rank`.

    Raises:
        ValueError: if k is larger than the gallery, or a pair shares a modality or is not in the table.

    Reference:
        Table 2 of the paper is recall@10 over the whole test split. Its released code ranks by argsort, which breaks
        ties by position; here they are averaged.

    Example:
        >>> table = EmbeddingTable(("a", "b"), {Subset("image"): torch.eye(2), Subset("text"): torch.eye(2)})
        >>> [(row.metric, row.query, row.value) for row in evaluate_retrieval(table, ks=(1,))][:2]
        [('recall@1', 'text', 1.0), ('median rank', 'text', 1.0)]
    """
    found: list[ReportRow] = []
    for query, target in disjoint_pairs(table.subsets) if pairs is None else pairs:
        if shared := query & target:
            raise ValueError(
                f"query {query} and target {target} share {', '.join(sorted(shared))}, which tells the answer"
            )
        singles = singles_of(table, query)
        rows = table.rows_with(query, target, *singles)
        if max(ks) > len(rows):
            raise ValueError(
                f"k = {max(ks)} is larger than the gallery of {query} -> {target}, {len(rows)} complete rows; "
                "use smaller ks, more rows, or `pairs` without this one"
            )
        candidates = {str(query): table[query][rows]}
        if singles:
            candidates[mean_name(query)] = mean_vectors([table[single][rows] for single in singles])
        for name, vectors in candidates.items():
            better, tied = retrieval_ranks(vectors, table[target][rows])
            values = {f"recall@{k}": recall_at_k(better, tied, k) for k in ks}
            values["median rank"] = median_rank(better, tied)
            found += [
                ReportRow(metric, name, str(target), value, len(rows), method, seed) for metric, value in values.items()
            ]
    return found
