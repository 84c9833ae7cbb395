"""InfoNCE between two sets of embeddings."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from confu._typing import Mask, Vectors
from confu.checks import check_pair, check_rows


def info_nce(
    queries: Vectors,
    targets: Vectors,
    temperature: float | Float[Tensor, ""] = 0.07,
    *,
    symmetric: bool = True,
    present: Mask | None = None,
) -> Float[Tensor, ""]:
    r"""InfoNCE: each query must find its own target among those of the batch.

    $$\frac1N \sum_m -\log \frac{\exp(q_m \cdot t_m / \tau)}{\sum_n \exp(q_m \cdot t_n / \tau)}$$

    Args:
        queries: (batch, dim), rows of length one.
        targets: (batch, dim), rows of length one; row m is the positive of query m, every other row a negative.
        temperature: τ > 0, a number or a scalar tensor that gets a gradient.
        symmetric: also let each target find its query, and take the mean of the two directions, as CLIP and the
            released code of ConFu do. False is one direction, Eq. 2 and 5 as printed.
        present: (batch,) bool; only these rows take part, as positives and as negatives. None for all.

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
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if present is not None:
        queries, targets = queries[present], targets[present]
    check_rows(len(queries), 2, "InfoNCE, which needs a negative for each row,")
    # Scaling one (batch, dim) side is cheaper than scaling the (batch, batch) scores.
    return info_nce_of_scores((queries / temperature) @ targets.T, symmetric=symmetric)


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
