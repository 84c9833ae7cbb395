"""A question to a collection, and its answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from confu.index.conditions import Condition
from confu.index.items import Hit
from confu.plan import Subset


class BadQuestion(ValueError):
    """What was asked cannot be answered.

    Attributes:
        argument: the part of the question that is wrong, e.g. `"target"`, or the modality whose source is.
        code: what is wrong, in one word, e.g. `"unknown_target"`.
    """

    def __init__(self, message: str, argument: str, code: str) -> None:
        super().__init__(message)
        self.argument = argument
        self.code = code


@dataclass(frozen=True)
class Wish:
    """What is wanted of a search, as it was said; see `Collection.ask`.

    Attributes:
        target: the subset that is sought; None if there is only one that makes sense.
        k: how many items, at most.
        where: conditions on their metadata.
        weights: subset -> its share of the query's vector; None for the embedding of all that is given together.
        singles: whether to search by each single modality too, and by their mean.
        exclude: ids that are left out.
    """

    target: Subset | str | None = None
    k: int = 10
    where: Sequence[Condition | str] = ()
    weights: Mapping[str, float] | None = None
    singles: bool = False
    exclude: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Question:
    """A question that was checked, so that it can wait for others and be answered with them.

    Attributes:
        query: all modalities that ask.
        weights: subset -> its share of the query's vector; the fused embedding alone is `{query: 1}`.
        items: modality -> what its reader made of the source; empty if `known` has the vectors.
        known: vectors of an item of the index, in place of `items`.
        target: the subset that is sought; None if only the vector is wanted.
        k: how many items, at most.
        where: what they must fit.
        singles: the single subsets to search by too.
        exclude: ids that are left out.
    """

    query: Subset
    weights: Mapping[Subset, float]
    items: Mapping[str, Tensor | str] = field(default_factory=dict)
    known: Mapping[Subset, Tensor] = field(default_factory=dict)
    target: Subset | None = None
    k: int = 10
    where: tuple[Condition, ...] = ()
    singles: tuple[Subset, ...] = ()
    exclude: frozenset[str] = frozenset()

    @property
    def needed(self) -> tuple[Subset, ...]:
        """The subsets whose embeddings are needed."""
        return tuple(dict.fromkeys((*self.weights, *self.singles)))


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found.

    Attributes:
        query: all modalities that asked.
        target: the subset that was sought; None if only the vector was wanted.
        vector: (dim,) of length one: what was searched with.
        hits: best first.
        singles: modality -> what it would have found alone; empty unless asked for, or if one modality asked.
        mean: what the mean of the single embeddings would have found, likewise.
    """

    query: Subset
    target: Subset | None
    vector: Tensor
    hits: list[Hit] = field(default_factory=list)
    singles: dict[str, list[Hit]] = field(default_factory=dict)
    mean: list[Hit] = field(default_factory=list)
