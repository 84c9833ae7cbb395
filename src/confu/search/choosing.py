"""What a question needs of a model: which subset asks, which is sought, which embeddings, and how they are blended."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from confu.plan import Subset
from confu.search.question import BadQuestion


def query_of(names: Iterable[str], modalities: Sequence[str]) -> Subset:
    """All modalities that ask, in the model's order.

    Raises:
        BadQuestion: for none, or one that the model does not know.

    >>> query_of(["audio", "image"], ["image", "audio", "text"])
    Subset('image+audio')
    """
    names = list(names)
    for name in names:
        if name not in modalities:
            raise BadQuestion(
                f"modality {name!r} is not known; this model reads {', '.join(modalities)}", name, "unknown_modality"
            )
    if not names:
        raise BadQuestion(
            f"there is nothing to search with; give one or more of {', '.join(modalities)}", "query", "no_input"
        )
    return Subset(*(name for name in modalities if name in names))


def target_of(query: Subset, target: Subset | str | None, stored: Sequence[Subset]) -> Subset:
    """The subset that is sought: the one that was named, or the only one that the query does not hold itself.

    Args:
        query: what asks.
        target: by name, or None.
        stored: what the index holds.

    Raises:
        BadQuestion: if it is not stored; or none was named and there is not just one.

    >>> print(target_of(Subset("image", "audio"), None, [Subset("image"), Subset("text"), Subset("image", "text")]))
    text
    """
    there = ", ".join(map(str, stored))
    if target is None:
        disjoint = [subset for subset in stored if not subset & query]
        choices = [subset for subset in disjoint if not subset.is_fused] or disjoint
        if len(choices) == 1:
            return choices[0]
        raise BadQuestion(
            f"target must say what {query} shall find: one of "
            f"{', '.join(map(str, disjoint)) if disjoint else there}",
            "target", "no_target",
        )  # fmt: skip
    wanted = parsed_subset(target, "target")
    for subset in stored:
        if subset == wanted:
            return subset
    raise BadQuestion(f"target {str(wanted)!r} is not in the index; it has {there}", "target", "unknown_target")


def parsed_subset(text: Subset | str, argument: str) -> Subset:
    """A subset from its name.

    Raises:
        BadQuestion: if it is none, with the reason.
    """
    try:
        return Subset.parse(text)
    except ValueError as error:
        raise BadQuestion(f"{argument}: {error}", argument, "bad_subset") from error


def weights_of(query: Subset, weights: Mapping[str, float] | None, embeds: Sequence[Subset]) -> dict[Subset, float]:
    """The share of each embedding in the query's vector.

    Args:
        query: what asks.
        weights: subset -> weight; None for the embedding of all that asks.
        embeds: what the model embeds, or what is stored of the item that asks.

    Raises:
        BadQuestion: if an embedding cannot be had, or a weight is no number.

    >>> weights_of(Subset("image"), None, [Subset("image")])
    {Subset('image'): 1.0}
    """
    if weights is None:
        if query in embeds:
            return {query: 1.0}
        parts = [str(subset) for subset in embeds if subset < query]
        advice = (
            f"leave a part out, or blend what there is with weights, e.g. {dict.fromkeys(parts, 1.0)}"
            if parts
            else "give other modalities"
        )
        raise BadQuestion(
            f"there is no embedding of {query} together, but of {', '.join(map(str, embeds))}; {advice}",
            "query", "not_embedded",
        )  # fmt: skip
    shares: dict[Subset, float] = {}
    usable = [subset for subset in embeds if subset <= query]
    for name, weight in weights.items():
        subset = parsed_subset(name, "weights")
        if subset not in usable:
            raise BadQuestion(
                f"weights name {subset}, but {query} can be asked by {', '.join(map(str, usable)) or 'nothing'}",
                "weights", "bad_weights",
            )  # fmt: skip
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise BadQuestion(f"weights: {subset} must have a finite number; got {weight!r}", "weights", "bad_weights")
        shares[subset] = float(weight)
    if not any(shares.values()):
        raise BadQuestion(
            "weights must give at least one subset a weight other than 0; give none for the fused embedding",
            "weights", "bad_weights",
        )  # fmt: skip
    return {subset: weight for subset, weight in shares.items() if weight}


def blended(vectors: Mapping[Subset, Float[Tensor, " dim"]], weights: Mapping[Subset, float]) -> Float[Tensor, " dim"]:
    r"""The unit vector along the weighted sum of embeddings: \sum_s w_s z_s / |\sum_s w_s z_s|.

    Raises:
        BadQuestion: if they cancel.

    >>> blended({Subset("a"): torch.tensor([0.0, 1.0])}, {Subset("a"): 2.0}).tolist()
    [0.0, 1.0]
    """
    if len(weights) == 1 and min(weights.values()) > 0:
        return vectors[next(iter(weights))]
    total = torch.stack([weight * vectors[subset] for subset, weight in weights.items()]).sum(dim=0)
    largest = max(abs(weight) for weight in weights.values())
    if float(total.norm()) <= 1e-6 * largest:
        raise BadQuestion("the weighted embeddings cancel, so that nothing is asked; change weights", "weights",
                          "bad_weights")  # fmt: skip
    return normalize(total / largest, dim=0)
