"""InfoNCE between two sets of embeddings, of which rows may be missing and may belong together."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from confu._typing import Mask, Vectors
from confu.checks import check_known, check_pair, check_rows

SAME_GROUP = ("negatives", "positives", "excluded")
"""What rows of one group are to one another: negatives as any others, further positives, or neither."""


def info_nce(
    queries: Vectors,
    targets: Vectors,
    temperature: float | Float[Tensor, ""] = 0.07,
    *,
    symmetric: bool = True,
    query_present: Mask | None = None,
    target_present: Mask | None = None,
    groups: Int[Tensor, " batch"] | None = None,
    same_group: str = "negatives",
) -> Float[Tensor, ""]:
    r"""InfoNCE: each query must find its own target among those of the batch.

    $$\frac1N \sum_m -\log \frac{\exp(q_m \cdot t_m / \tau)}{\sum_n \exp(q_m \cdot t_n / \tau)}$$

    A row that has only one of the two sides has no positive, and is a negative for the others all the same: the mean is
    over the N rows that have both, the sum over every target that is there.

    Args:
        queries: (batch, dim), rows of length one.
        targets: (batch, dim), rows of length one; row m is the positive of query m, every other row a negative.
        temperature: τ > 0, a number or a scalar tensor that gets a gradient.
        symmetric: also let each target find its query, and take the mean of the two directions, as CLIP and the
            released code of ConFu do. False is one direction, Eq. 2 and 5 as printed.
        query_present: (batch,) bool, the rows that have a query. None for all.
        target_present: (batch,) bool, the rows that have a target. None for all.
        groups: (batch,) rows of one group mean the same thing; -1 is a row of no group.
        same_group: what other rows of its group are to a row: `"negatives"` as all others; `"positives"`, so that the
            loss is the mean of -log softmax over all of them (Khosla et al. 2020, L_out), and a row whose own target
            is missing learns from theirs; `"excluded"`, neither.

    Returns:
        A scalar in nats. log(rows) if nothing is learned; log(rows) minus it is a lower bound on the mutual
        information of the two sides (Eq. 11).

    Raises:
        ValueError: if the shapes differ, if fewer than two rows take part, or for a temperature that is not positive.

    Reference: van den Oord et al. 2018, arXiv 1807.03748; ConFu Eq. 2 and 5.

    >>> z = torch.eye(4)
    >>> round(info_nce(z, z, temperature=1.0).item(), 4)   # -log(e / (e + 3))
    0.7437
    """
    check_pair(queries, targets)
    check_known("same_group", same_group, SAME_GROUP)
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    gaps = query_present is not None or target_present is not None
    # Scaling one (batch, dim) side is cheaper than scaling the (batch, batch) scores.
    queries = queries / temperature
    if not gaps and (groups is None or same_group == "negatives"):
        check_rows(len(queries), 2, "InfoNCE, which needs a negative for each row,")
        return info_nce_of_scores(queries @ targets.T, symmetric=symmetric)
    everyone = torch.ones(len(queries), dtype=torch.bool, device=queries.device)
    asks = everyone if query_present is None else query_present
    answers = everyone if target_present is None else target_present
    both = asks & answers
    check_rows(int(both.sum()), 2, "InfoNCE, which needs a negative for each row,")
    scores = queries[asks] @ targets[answers].T
    if groups is None or same_group == "negatives":
        # Where the complete rows stand among those that ask, and among those that answer.
        return _one_each(scores, (asks.cumsum(0) - 1)[both], (answers.cumsum(0) - 1)[both], symmetric)
    left, right = asks.nonzero(), answers.nonzero().T
    own = left == right
    same = (groups[left] == groups[right]) & (groups[left] >= 0)
    if same_group == "positives":
        return _several(scores, own | same, symmetric)
    return _several(scores.masked_fill(same & ~own, -torch.inf), own, symmetric)


def _one_each(scores: Tensor, rows: Tensor, columns: Tensor, symmetric: bool) -> Tensor:
    """InfoNCE of the pairs (row, column), each against its whole row, and its whole column."""
    loss = F.cross_entropy(scores[rows], columns)
    return (loss + F.cross_entropy(scores.T[columns], rows)) / 2 if symmetric else loss


def _several(scores: Tensor, positive: Bool[Tensor, "queries targets"], symmetric: bool) -> Tensor:
    """The mean over queries with a positive, of the mean over their positives, of -log softmax."""
    loss = _several_one_way(scores, positive)
    return (loss + _several_one_way(scores.T, positive.T)) / 2 if symmetric else loss


def _several_one_way(scores: Tensor, positive: Tensor) -> Tensor:
    counts = positive.sum(dim=1)
    asked = counts > 0
    # where, not a product: the score of an ignored pair is -inf, and -inf times 0 is no number.
    own = torch.where(positive, scores, 0.0).sum(dim=1)[asked] / counts[asked]
    return (scores[asked].logsumexp(dim=1) - own).mean()


def info_nce_of_scores(
    scores: Float[Tensor, "batch batch"], *, symmetric: bool = True, label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    r"""InfoNCE of any score between queries and targets, already divided by the temperature.

    Args:
        scores: (batch, batch), higher is more alike; row m is query m, column m its target.
        symmetric: also let each target find its query, and take the mean of the two directions.
        label_smoothing: share of the probability that every target of the batch is given alike; the released code of
            GRAM and TRIANGLE, and that of ConFu for them, has 0.1.

    Returns:
        A scalar in nats.

    Raises:
        ValueError: for fewer than two rows.

    >>> round(info_nce_of_scores(torch.zeros(4, 4)).item(), 4)   # nothing told apart: log 4
    1.3863
    """
    check_rows(len(scores), 2, "InfoNCE, which needs a negative for each row,")
    positives = torch.arange(len(scores), device=scores.device)
    loss = F.cross_entropy(scores, positives, label_smoothing=label_smoothing)
    if symmetric:
        loss = (loss + F.cross_entropy(scores.T, positives, label_smoothing=label_smoothing)) / 2
    return loss
