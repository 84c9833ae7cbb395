"""InfoNCE between sets of embeddings, of which rows may be missing and may belong together.

The work is done by `confu.losses.terms.info_nce_terms`, for one pair or for all terms of a plan at once.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from confu.checks import check_pair, check_rows
from confu.losses.terms import info_nce_terms
from confu.types import Mask, Vectors


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
    label_smoothing: float = 0.0,
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
        label_smoothing: share of the probability that is given to every target alike, in [0, 1].

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
    present = {"queries": query_present, "targets": target_present}
    (loss,) = info_nce_terms(
        {"queries": queries, "targets": targets}, [("queries", "targets")], temperature, symmetric=symmetric,
        present={name: mask for name, mask in present.items() if mask is not None}, groups=groups,
        same_group=same_group, label_smoothing=label_smoothing,
    )  # fmt: skip
    return loss


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
