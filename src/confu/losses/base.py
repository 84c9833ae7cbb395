"""What every loss returns, and the InfoNCE of each term of a plan."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from confu._typing import Embeddings
from confu.functional import info_nce, total_correlation_bound
from confu.plan import Plan, Term


@dataclass(frozen=True)
class LossOutput:
    """A loss and what it is made of.

    Attributes:
        total: the scalar to minimise.
        terms: by printed name, e.g. `"image+audio ~ text"`: the loss of each term before weighting, in nats.
        rows: by the same names, how many rows of the batch each term used.
        metrics: further quantities to log, never minimised.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Tensor]
    rows: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Tensor | float] = field(default_factory=dict)


def plan_info_nce(
    embeddings: Embeddings, plan: Plan, temperature: float | Float[Tensor, ""], symmetric: bool = True
) -> dict[Term, tuple[Tensor, int]]:
    """InfoNCE of every term of a plan, each on the rows whose two subsets are complete.

    Args:
        embeddings: of every subset that the plan names.
        plan: the terms.
        temperature: of every term.
        symmetric: both directions (see `info_nce`).

    Returns:
        term -> (loss in nats, number of rows). A term with fewer than two complete rows has no negatives and is left
        out: it has nothing to say about this batch.

    Raises:
        ValueError: if a subset has no embedding, or if no term has two complete rows (a batch of one, for example).
    """
    losses: dict[Term, tuple[Tensor, int]] = {}
    most = 0
    for term in plan.terms:
        for side in (term.left, term.right):
            if side not in embeddings.vectors:
                raise ValueError(
                    f"the term '{term}' needs embeddings of {side}, but there are only those of "
                    f"{', '.join(map(str, embeddings))}; give the model and the loss the same plan"
                )
        queries, targets = embeddings[term.left], embeddings[term.right]
        present = embeddings.complete(term.left, term.right)
        rows = len(queries) if present is None else int(present.sum())
        most = max(most, rows)
        if rows >= 2:
            losses[term] = info_nce(queries, targets, temperature, symmetric=symmetric, present=present), rows
    if not losses:
        raise ValueError(
            f"no term of the plan has two complete rows in this batch (the most is {most}), so that there are no "
            "negatives. Use a batch of at least 2 rows, or fewer rows with missing modalities."
        )
    return losses


def to_output(losses: dict[Term, tuple[Tensor, int]], plan: Plan, total: Tensor, temperature: Tensor) -> LossOutput:
    """A `LossOutput` of term losses, with the temperature and the bound on total correlation as logged quantities."""
    metrics: dict[str, Tensor | float] = {"temperature": temperature.detach()}
    bound = total_correlation_bound(
        {(term.left, term.right): (loss.detach(), rows) for term, (loss, rows) in losses.items()}, plan.modalities
    )
    if bound is not None:
        metrics["total_correlation_bound"] = bound
    return LossOutput(
        total=total,
        terms={str(term): loss.detach() for term, (loss, _) in losses.items()},
        rows={str(term): rows for term, (_, rows) in losses.items()},
        metrics=metrics,
    )
