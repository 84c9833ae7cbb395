"""A plan says which subsets of modalities are aligned with which, before anything is computed.

It is plain data: it can be printed with its cost, saved as JSON, compared, and edited. The loss executes it, the
model reads from it which fusion networks exist, evaluation reads from it which queries make sense.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

__all__ = ["Plan", "Subset", "Term", "confu_plan", "disjoint_plan", "pairwise_plan", "target_plan"]


class Subset(frozenset[str]):
    """A non-empty set of modality names, e.g. `image+audio`.

    Two subsets are equal if they hold the same names; the order given is kept for printing only.

    >>> Subset("image", "audio") == Subset("audio", "image")
    True
    >>> print(Subset.parse("image+audio"))
    image+audio
    """

    names: tuple[str, ...]

    def __new__(cls, *names: str) -> "Subset":
        """Check and keep the names."""
        if not names or not all(names):
            raise ValueError(f"a subset needs at least one modality name, each non-empty; got {names!r}")
        if len(set(names)) != len(names):
            raise ValueError(f"a subset names each modality once; got {'+'.join(names)!r}")
        for name in names:
            if any(mark in name for mark in "+~.") or name != name.strip():
                raise ValueError(f"a modality's name may not hold '+', '~', '.' or outer spaces; got {name!r}")
        self = super().__new__(cls, names)
        self.names = names
        return self

    @classmethod
    def parse(cls, text: "str | Subset") -> "Subset":
        """Read `"image+audio"`; a Subset passes through."""
        if isinstance(text, Subset):
            return text
        return cls(*(part.strip() for part in text.split("+")))

    @property
    def is_fused(self) -> bool:
        """Whether it holds more than one modality, so that a fusion network makes its embedding."""
        return len(self) > 1

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __str__(self) -> str:
        return "+".join(self.names)

    def __repr__(self) -> str:
        return f"Subset({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Subset, self.names)


@dataclass(frozen=True)
class Term:
    """One InfoNCE term: `left` is aligned with `right`, which shares no modality with it.

    Two terms are equal if they align the same two subsets with the same weight, whichever is written first.

    >>> print(Term(Subset("image", "audio"), Subset("text"), weight=0.5))
    image+audio ~ text
    """

    left: Subset
    right: Subset
    weight: float = 1.0

    def __post_init__(self) -> None:
        if shared := self.left & self.right:
            raise ValueError(
                f"the sides of a term must be disjoint, but {self.left} and {self.right} share "
                f"{', '.join(sorted(shared))}: a shared modality would tell the answer. Drop it from one side."
            )
        if not 0 < self.weight < float("inf"):
            raise ValueError(
                f"the weight of '{self}' must be a positive number, got {self.weight}; leave it out instead"
            )

    @classmethod
    def parse(cls, text: str, weight: float = 1.0) -> "Term":
        """Read `"image+audio ~ text"`."""
        sides = text.split("~")
        if len(sides) != 2:
            raise ValueError(f"a term is written 'image+audio ~ text', with one '~'; got {text!r}")
        return cls(Subset.parse(sides[0]), Subset.parse(sides[1]), weight)

    @property
    def is_fused(self) -> bool:
        """Whether a fusion network takes part."""
        return self.left.is_fused or self.right.is_fused

    def _key(self) -> tuple[frozenset[Subset], float]:
        return frozenset((self.left, self.right)), self.weight

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Term) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        return f"{self.left} ~ {self.right}"


@dataclass(frozen=True)
class Plan:
    """The modalities of a model and the terms of its objective.

    Args:
        modalities: at least two names. Their order is the order of printing, never of meaning.
        terms: at least one. Each modality must be in some term, else nothing would train it.

    Raises:
        ValueError: for a modality named twice or unused, an unknown one in a term, or a pair of subsets given twice.

    >>> plan = Plan.parse(["image ~ text", "image+audio ~ text"])
    >>> plan.modalities
    ('image', 'text', 'audio')
    >>> [str(subset) for subset in plan.fused_subsets]
    ['image+audio']
    """

    modalities: tuple[str, ...]
    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        names = Subset(*self.modalities)
        if len(names) < 2:
            raise ValueError(f"a plan aligns at least two modalities, got {list(self.modalities)}")
        if not self.terms:
            raise ValueError("a plan needs at least one term, got none")
        seen: set[frozenset[Subset]] = set()
        for term in self.terms:
            if unknown := (term.left | term.right) - names:
                raise ValueError(
                    f"the term '{term}' names {', '.join(map(repr, sorted(unknown)))}, which is not a modality of this "
                    f"plan; they are {', '.join(self.modalities)}"
                )
            sides = frozenset((term.left, term.right))
            if sides in seen:
                raise ValueError(f"the term '{term}' is given twice; add its weights into one term")
            seen.add(sides)
        used = frozenset().union(*(term.left | term.right for term in self.terms))
        if unused := [name for name in self.modalities if name not in used]:
            raise ValueError(
                f"no term trains {', '.join(unused)}; add a term with it or leave it out of the modalities"
            )

    @classmethod
    def parse(cls, terms: Mapping[str, float] | Iterable[str], modalities: Sequence[str] | None = None) -> "Plan":
        """A plan of hand-picked terms: `{"image ~ text": 1, "image+audio ~ text": 0.5}`, or a list for weight 1."""
        pairs = terms.items() if isinstance(terms, Mapping) else ((text, 1.0) for text in terms)
        parsed = tuple(Term.parse(text, weight) for text, weight in pairs)
        found = dict.fromkeys(name for term in parsed for side in (term.left, term.right) for name in side)
        return cls(tuple(modalities if modalities is not None else found), parsed)

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """Every subset of any term, the small ones first: what the plan trains an embedding of.

        A modality that takes part in fused subsets only has none of its own.
        """
        found = {side: None for term in self.terms for side in (term.left, term.right)}
        return tuple(sorted(map(self._ordered, found), key=lambda subset: (len(subset), self._position(subset))))

    @property
    def fused_subsets(self) -> tuple[Subset, ...]:
        """The subsets of more than one modality: each needs a fusion network."""
        return tuple(subset for subset in self.subsets if subset.is_fused)

    def subset(self, text: "str | Subset") -> Subset:
        """Read `"audio+image"` as a subset of this plan's modalities, in the plan's order."""
        subset = Subset.parse(text)
        if unknown := subset - set(self.modalities):
            raise ValueError(
                f"unknown modality {', '.join(map(repr, sorted(unknown)))} in {str(subset)!r}; "
                f"this plan has {', '.join(self.modalities)}"
            )
        return self._ordered(subset)

    def score_bytes(self, batch_size: int) -> int:
        """Bytes of one float32 score matrix (batch x batch) for every term: what a plain implementation keeps."""
        return 4 * len(self.terms) * batch_size**2

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON holds; `from_dict` reads it back."""
        return {"modalities": list(self.modalities), "terms": {str(term): term.weight for term in self.terms}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """The plan that `to_dict` wrote."""
        return cls.parse(data["terms"], modalities=data["modalities"])

    def _position(self, subset: Subset) -> tuple[int, ...]:
        return tuple(self.modalities.index(name) for name in subset)

    def _ordered(self, subset: Subset) -> Subset:
        return Subset(*(name for name in self.modalities if name in subset))

    def __str__(self) -> str:
        names = [str(term) for term in self.terms]
        width = max(len("term"), *map(len, names))
        networks = {
            str(term): ", ".join(str(self._ordered(side)) for side in (term.left, term.right) if side.is_fused)
            for term in self.terms
        }
        lines = [f"{'term':<{width}}  weight  fusion network"]
        lines += [
            f"{name:<{width}}  {term.weight:>6.3g}  {networks[name]}".rstrip() for name, term in zip(names, self.terms)
        ]
        fusers, count = len(self.fused_subsets), len(self.terms)
        lines.append(
            f"{len(self.modalities)} modalities, {count} term{'s' * (count != 1)}, "
            f"{fusers} fusion network{'s' * (fusers != 1)}; "
            f"score matrices {_size(self.score_bytes(256))} at batch 256, {_size(self.score_bytes(4096))} at 4096"
        )
        return "\n".join(lines)


def pairwise_plan(modalities: Sequence[str]) -> Plan:
    """Every pair of modalities (Eq. 3). With two modalities this is CLIP, with three tri-modal CLIP.

    >>> print([str(term) for term in pairwise_plan(("image", "audio", "text")).terms])
    ['image ~ audio', 'image ~ text', 'audio ~ text']
    """
    return disjoint_plan(modalities, max_order=1)


def confu_plan(modalities: Sequence[str], fused_weight: float = 0.5) -> Plan:
    """ConFu for three modalities: (1 - λ) L_pair + λ L_fused (Eq. 7, with L_pair of Eq. 3 and L_fused of Eq. 6).

    Args:
        modalities: three names. For more, see `disjoint_plan` and `target_plan`.
        fused_weight: λ in [0, 1]. At 0 the fused terms, and at 1 the pairs, are left out rather than kept at weight 0.

    Raises:
        ValueError: for another number of modalities, or λ outside [0, 1].

    >>> print(confu_plan(("image", "audio", "text"), fused_weight=0.5))
    term                weight  fusion network
    image ~ audio          0.5
    image ~ text           0.5
    audio ~ text           0.5
    image ~ audio+text     0.5  audio+text
    audio ~ image+text     0.5  image+text
    text ~ image+audio     0.5  image+audio
    3 modalities, 6 terms, 3 fusion networks; score matrices 1.5 MiB at batch 256, 384 MiB at 4096
    """
    if len(modalities) != 3:
        raise ValueError(
            f"Eq. 7 is for three modalities, got {len(modalities)}: {list(modalities)}. "
            "Use disjoint_plan(modalities, fused_weight=...) for any number (Eq. 15), pairwise_plan for two."
        )
    return disjoint_plan(modalities, fused_weight=fused_weight)


def disjoint_plan(
    modalities: Sequence[str],
    max_order: int | None = None,
    single_side: bool = False,
    fused_weight: float | None = None,
) -> Plan:
    """All unordered pairs of disjoint subsets (Eq. 15): (3^M - 2^(M+1) + 1) / 2 terms for M modalities.

    Args:
        modalities: two or more names.
        max_order: the most modalities that a subset may hold; None for no limit, 1 for pairs only.
        single_side: keep only the terms with a single modality on one side (Eq. 16 as printed, over all targets).
        fused_weight: λ in [0, 1]: weight 1 - λ for pairs of single modalities and λ for the others, as Eq. 7 does;
            None gives every term weight 1, as Eq. 15 does.

    Raises:
        ValueError: for fewer than two modalities, an order below 1, or λ outside [0, 1].

    Differs from the paper: Eq. 15 as printed runs over ordered pairs, which counts each term twice.

    >>> [len(disjoint_plan("abcdefg"[:M]).terms) for M in (2, 3, 4, 5)]
    [1, 6, 25, 90]
    """
    if fused_weight is not None and not 0 <= fused_weight <= 1:
        raise ValueError(f"fused_weight (λ of Eq. 7) must lie in [0, 1], got {fused_weight}")
    if max_order is not None and max_order < 1:
        raise ValueError(f"max_order is the most modalities in a subset, at least 1; got {max_order}")
    terms = []
    for left, right in _disjoint_pairs(modalities, max_order):
        if single_side and min(len(left), len(right)) > 1:
            continue
        fused = left.is_fused or right.is_fused
        weight = 1.0 if fused_weight is None else fused_weight if fused else 1 - fused_weight
        if weight > 0:
            terms.append(Term(left, right, weight))
    return Plan(tuple(modalities), tuple(terms))


def target_plan(modalities: Sequence[str], target: str) -> Plan:
    """Only the terms that reach one target: every subset S of the other modalities with it, I(X_t; X_S) (Appendix E).

    Raises:
        ValueError: if the target is not one of the modalities.

    >>> print([str(term) for term in target_plan(("image", "audio", "text"), target="text").terms])
    ['text ~ image', 'text ~ audio', 'text ~ image+audio']
    """
    if target not in modalities:
        raise ValueError(f"the target must be one of the modalities {', '.join(modalities)}; got {target!r}")
    others = [name for name in modalities if name != target]
    return Plan(tuple(modalities), tuple(Term(Subset(target), subset) for subset in _subsets(others)))


def _subsets(names: Sequence[str], max_order: int | None = None) -> Iterator[Subset]:
    """All non-empty subsets of at most `max_order` names, the small ones first."""
    for order in range(1, min(len(names), max_order or len(names)) + 1):
        for chosen in combinations(names, order):
            yield Subset(*chosen)


def _disjoint_pairs(names: Sequence[str], max_order: int | None) -> list[tuple[Subset, Subset]]:
    """Each unordered pair of disjoint subsets once, the small ones first, in a stable order."""
    pairs = [(a, b) for a, b in combinations(_subsets(names, max_order), 2) if a.isdisjoint(b)]
    return sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.3g} {unit}"
        count /= 1024
    raise AssertionError
