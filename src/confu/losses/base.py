"""What every loss returns, and what losses of a plan, or of all modalities at once, share."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_finite, check_known, check_rows
from confu.distributed import PartEmbeddings, every_count
from confu.losses.infonce import ContrastOptions, info_nce_terms
from confu.losses.total_correlation import total_correlation_bound
from confu.plan import Plan, Subset
from confu.types import Embeddings


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


def contrast_plan(
    embeddings: Embeddings,
    plan: Plan,
    temperature: Float[Tensor, ""],
    divisor: float,
    options: ContrastOptions,
) -> LossOutput:
    """InfoNCE of every term of a plan, weighted and added: each is the mean over the rows that have both its subsets.

    A row that has one of the two only is a negative for the others. A term with fewer than two complete rows is left
    out: it has nothing to say about this batch.

    Args:
        embeddings: of every subset that the plan names. `PartEmbeddings` are this process's rows: rows and negatives
            are then those of all processes.
        plan: the terms and their weights.
        temperature: of every term.
        divisor: of the weighted sum.
        options: how rows are contrasted, whatever its `negatives`, which follow from the embeddings. Without groups
            `same_group` changes nothing; `equal_inputs` needs `Embeddings.contents`, and a fused side has the same
            content where all of its modalities have.

    Returns:
        LossOutput with the total, each term, and as metrics the temperature and, where the plan has the terms for it
        and they are plain InfoNCE, the bound on total correlation of Eq. 13.

    Raises:
        ValueError: if a subset has no embedding, or if no term has two complete rows (a batch of one, for example).
    """
    sides = dict.fromkeys(side for term in plan.terms for side in (term.left, term.right))
    for term in plan.terms:
        for side in (term.left, term.right):
            if side not in embeddings.vectors:
                raise ValueError(
                    f"the term '{term}' needs embeddings of {side}, but there are only those of "
                    f"{', '.join(map(str, embeddings))}; give the model and the loss the same plan"
                )
    present = {side: mask for side in sides if (mask := embeddings.complete(side)) is not None}
    counts = []
    for term in plan.terms:
        complete = embeddings.complete(term.left, term.right)
        counts.append(len(embeddings[term.left]) if complete is None else int(complete.sum()))
    contents = {side: embeddings.content(side) for side in sides if options.equal_inputs != "negatives"}
    negatives = embeddings.negatives if isinstance(embeddings, PartEmbeddings) else None
    if negatives is not None:
        counts = [sum(each) for each in zip(*every_count(counts))]
    rows = {term: count for term, count in zip(plan.terms, counts) if count >= 2}
    if not rows:
        raise ValueError(
            f"no term of the plan has two complete rows in this batch (the most is {max(counts, default=0)}), "
            "so that there are no negatives. Use a batch of at least 2 rows, or fewer rows with missing modalities."
        )
    total, losses = info_nce_terms(
        {side: embeddings[side] for side in sides},
        [(term.left, term.right) for term in rows],
        temperature,
        weights=[term.weight / divisor for term in rows],
        present=present,
        groups=embeddings.groups,
        contents=contents,
        options=replace(options, negatives=negatives),
    )
    metrics: dict[str, Tensor | float] = {"temperature": temperature.detach()}
    by_sides = {(term.left, term.right): (loss, rows[term]) for term, loss in zip(rows, losses)}
    plain = (embeddings.groups is None or options.same_group == "negatives") and not contents  # else it bounds nothing
    bound = total_correlation_bound(by_sides, plan.modalities) if plain else None
    if bound is not None:
        metrics["total_correlation_bound"] = bound
    return LossOutput(
        total, dict(zip(map(str, rows), losses)), {str(term): count for term, count in rows.items()}, metrics
    )


def complete_vectors(embeddings: Embeddings, modalities: Sequence[str], what: str) -> dict[str, Tensor]:
    """The embeddings of each modality in the rows that have them all, for a loss that compares all at once.

    Args:
        embeddings: of every modality on its own.
        modalities: the names.
        what: who asks, for the message.

    Returns:
        modality -> (rows, dim).

    Raises:
        ValueError: if a modality has no embedding, or fewer than two rows have them all.
    """
    singles = [Subset(name) for name in modalities]
    for single in singles:
        if single not in embeddings.vectors:
            raise ValueError(
                f"{what} needs embeddings of {single}, but there are only those of {', '.join(map(str, embeddings))}"
            )
    present = embeddings.complete(*singles)
    found = {str(one): embeddings[one] if present is None else embeddings[one][present] for one in singles}
    for name, vectors in found.items():
        check_finite(f"the embeddings of {name}", vectors)
    check_rows(len(found[modalities[0]]), 2, f"{what}, on rows that have all of {', '.join(modalities)},")
    return found


def check_modalities(modalities: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple.

    Raises:
        ValueError: unless there are at least two, each once.
    """
    names = Subset(*modalities)
    if len(names) < 2:
        raise ValueError(f"a contrastive loss aligns at least two modalities; got {list(modalities)}")
    return names.names


def chosen_anchors(anchors: Sequence[str] | None, modalities: Sequence[str]) -> tuple[str, ...]:
    """The anchors that were named, or all modalities.

    Raises:
        ValueError: if one is not a modality, or none is named.
    """
    if anchors is None:
        return tuple(modalities)
    if not anchors or len(set(anchors)) != len(anchors):
        raise ValueError(f"anchors must name one or more modalities, each once, or be None for all; got {anchors!r}")
    for anchor in anchors:
        check_known("anchor", anchor, modalities)
    return tuple(anchors)


def mean_of_anchors(losses: dict[str, Tensor], modalities: Sequence[str], rows: int, temperature: Tensor) -> LossOutput:
    """The output of a loss that is the mean over anchors, each named `text ~ (image, audio)`."""
    terms = {
        f"{anchor} ~ ({', '.join(one for one in modalities if one != anchor)})": loss for anchor, loss in losses.items()
    }
    return LossOutput(
        total=torch.stack(list(terms.values())).mean(),
        terms={name: loss.detach() for name, loss in terms.items()},
        rows=dict.fromkeys(terms, rows),
        metrics={"temperature": temperature.detach()},
    )
