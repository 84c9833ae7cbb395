"""A query to a collection: its options, their checks, and its result."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from confu.index.conditions import Filter, Where, checked
from confu.index.items import Hit
from confu.plan import Subset

MAX_K = 1000
MAX_CONDITIONS = 32
MAX_LABELS = 1000


class QueryError(ValueError):
    """A query that cannot be answered.

    Attributes:
        argument: the part that is wrong, e.g. `"target"`, or the modality whose source is.
        code: the kind of error in one word, e.g. `"unknown_target"`.
    """

    def __init__(self, message: str, argument: str, code: str) -> None:
        super().__init__(message)
        self.argument = argument
        self.code = code


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search, not yet checked.

    Attributes:
        target: the subset to search; None if only one makes sense.
        k: number of hits, at most 1000.
        where: a filter on metadata, e.g. `"year >= 2020 and site != north"`, or several that must all hold.
        weights: subset -> its share of the query vector, e.g. `{"image": 0.2, "image+audio": 0.8}`; None for the
            embedding of all inputs together.
        singles: search by each single modality too, and by the mean of their embeddings.
        exclude: ids to leave out.
        fold_equal: make one hit of items with equal content, which have equal vectors of `target`; the others are
            counted in its `equal`.
    """

    target: Subset | str | None = None
    k: int = 10
    where: Where = ()
    weights: Mapping[str, float] | None = None
    singles: bool = False
    exclude: Sequence[str] = ()
    fold_equal: bool = False


@dataclass(frozen=True, eq=False)
class Query:
    """A checked query, ready to be answered in a batch with others.

    Attributes:
        subset: the modalities of the query.
        weights: subset -> its share of the query vector; the fused embedding alone is `{subset: 1}`.
        items: modality -> decoded input; empty if `vectors`, those of a stored item, are given.
        target: the subset to search; None to only embed. The others are as in `SearchOptions`.
    """

    subset: Subset
    weights: Mapping[Subset, float]
    items: Mapping[str, Tensor | str] = field(default_factory=dict)
    vectors: Mapping[Subset, Tensor] = field(default_factory=dict)
    target: Subset | None = None
    k: int = 10
    where: tuple[Filter, ...] = ()
    singles: tuple[Subset, ...] = ()
    exclude: frozenset[str] = frozenset()
    fold_equal: bool = False


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The hits of a query.

    Attributes:
        query: the modalities of the query.
        target: the subset that was searched; None if the query was only embedded.
        vector: (dim,) unit query vector.
        hits: best first.
        singles: modality -> hits of that modality alone; empty unless requested, or for a query of one modality.
        mean: hits of the mean of the single embeddings, likewise.
    """

    query: Subset
    target: Subset | None
    vector: Tensor
    hits: list[Hit] = field(default_factory=list)
    singles: dict[str, list[Hit]] = field(default_factory=dict)
    mean: list[Hit] = field(default_factory=list)


def check_query(
    query: Subset, embeds: Sequence[Subset], options: SearchOptions, stored: Sequence[Subset], schema: pa.Schema
) -> Query:
    """A query without its inputs; raises a QueryError that names the option that is wrong.

    Args:
        query: the modalities of the query.
        embeds: the subsets with an embedding.
        options: to check.
        stored: the subsets of the index.
        schema: of the index's metadata.
    """
    if isinstance(options.k, bool) or not isinstance(options.k, int) or not 1 <= options.k <= MAX_K:
        raise QueryError(f"k must be a whole number from 1 to {MAX_K}; got {options.k!r}", "k", "bad_k")
    for name, most in (("exclude", MAX_K), ("where", MAX_CONDITIONS)):
        value = getattr(options, name)
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > most:
            raise QueryError(f"{name} has {len(value)} entries; expected at most {most}", name, f"bad_{name}")
    try:
        where = checked(options.where, schema)
    except ValueError as error:
        raise QueryError(f"where: {error}", "where", "bad_where") from error
    weights = query_weights(query, options.weights, embeds)
    target = resolve_target(query, options.target, stored)
    singles = [one for one in map(Subset, query) if one in embeds] if options.singles and query.is_fused else []
    exclude = frozenset(options.exclude)
    shared = {"target": target, "k": options.k, "where": where, "exclude": exclude, "fold_equal": options.fold_equal}
    return Query(query, weights, singles=tuple(singles), **shared)


def query_subset(names: Iterable[str], modalities: Sequence[str]) -> Subset:
    """The subset of all given modalities, in the model's order.

    Raises:
        QueryError: for none, or an unknown one.

    >>> query_subset(["audio", "image"], ["image", "audio", "text"])
    Subset('image+audio')
    """
    names, known = list(names), ", ".join(modalities)
    for name in names:
        if name not in modalities:
            raise QueryError(f"modality {name!r} is not known; this model reads {known}", name, "unknown_modality")
    if not names:
        raise QueryError(f"there is nothing to search with; give one or more of {known}", "query", "no_input")
    return Subset(*(name for name in modalities if name in names))


def resolve_target(query: Subset, target: Subset | str | None, stored: Sequence[Subset]) -> Subset:
    """The subset to search: `target`, or the only stored one that shares no modality with the query.

    Raises:
        QueryError: if it is not stored, or `target` is None and there is not exactly one choice.

    >>> print(resolve_target(Subset("image", "audio"), None, [Subset("image"), Subset("text")]))
    text
    """
    if target is None:
        disjoint = [subset for subset in stored if not subset & query]
        choices = [subset for subset in disjoint if not subset.is_fused] or disjoint
        if len(choices) == 1:
            return choices[0]
        names = ", ".join(map(str, disjoint or stored))
        raise QueryError(f"target must say what {query} shall find: one of {names}", "target", "no_target")
    requested = parse_subset(target, "target")
    for subset in stored:
        if subset == requested:
            return subset
    names = ", ".join(map(str, stored))
    raise QueryError(f"target {str(requested)!r} is not in the index; it has {names}", "target", "unknown_target")


def parse_subset(text: Subset | str, argument: str) -> Subset:
    """`Subset.parse` with a QueryError that names the argument."""
    try:
        return Subset.parse(text)
    except ValueError as error:
        raise QueryError(f"{argument}: {error}", argument, "bad_subset") from error


def query_weights(query: Subset, weights: Mapping[str, float] | None, embeds: Sequence[Subset]) -> dict[Subset, float]:
    """The weight of each embedding in the query vector; zeros are left out, None is the embedding of all together.

    Raises:
        QueryError: for a subset that is not among `embeds`, or a weight that is not a finite number.

    >>> query_weights(Subset("image"), None, [Subset("image")])
    {Subset('image'): 1.0}
    """
    usable = {subset: str(subset) for subset in embeds if subset <= query}
    if weights is None:
        if query in usable:
            return {query: 1.0}
        advice = f"leave a part out, or blend with weights, e.g. {dict.fromkeys(usable.values(), 1.0)}"
        message = f"there is no embedding of {query} together, but of {', '.join(map(str, embeds))}; "
        raise QueryError(message + (advice if usable else "give other modalities"), "query", "not_embedded")
    shares = {parse_subset(name, "weights"): weight for name, weight in weights.items()}
    message = ""
    for subset, weight in shares.items():
        if subset not in usable:
            message = f"weights name {subset}; {query} can be asked by {', '.join(usable.values()) or 'nothing'}"
        elif isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            message = f"weights: {subset} must have a finite number; got {weight!r}"
    if not message and not any(shares.values()):
        message = "weights must give at least one subset a weight other than 0; give none for the fused embedding"
    if message:
        raise QueryError(message, "weights", "bad_weights")
    return {subset: float(weight) for subset, weight in shares.items() if weight}


def blend(vectors: Mapping[Subset, Float[Tensor, " dim"]], weights: Mapping[Subset, float]) -> Float[Tensor, " dim"]:
    r"""The unit vector along the weighted sum of embeddings: \sum_s w_s z_s / |\sum_s w_s z_s|.

    Raises:
        QueryError: if they cancel.

    >>> blend({Subset("a"): torch.tensor([0.0, 1.0])}, {Subset("a"): 2.0}).tolist()
    [0.0, 1.0]
    """
    if len(weights) == 1 and min(weights.values()) > 0:
        return vectors[next(iter(weights))]
    total = torch.stack([weight * vectors[subset] for subset, weight in weights.items()]).sum(dim=0)
    largest = max(abs(weight) for weight in weights.values())
    if float(total.norm()) <= 1e-6 * largest:
        message = "the weighted embeddings cancel, so that no direction is left; change weights"
        raise QueryError(message, "weights", "bad_weights")
    return normalize(total / largest, dim=0)


def label_prompts(labels: Sequence[str] | Mapping[str, Sequence[str]], template: str = "{}") -> dict[str, tuple]:
    """Label -> its prompts, of names or of name -> prompts; `{}` in the template stands for the name, or each prompt.

    Raises:
        QueryError: for no label, an empty or repeated one, too many, or a template without `{}`.

    >>> label_prompts(["dog", "cat"], "a photo of a {}")
    {'dog': ('a photo of a dog',), 'cat': ('a photo of a cat',)}
    """
    if not isinstance(template, str) or "{}" not in template:
        message = f"template must hold {{}} where the label goes, e.g. 'a photo of a {{}}'; got {str(template)[:80]!r}"
        raise QueryError(message, "template", "bad_template")
    message = ""
    if not isinstance(labels, list | tuple | Mapping):
        message = f"labels must be a list of names, or name -> list of prompts; got {type(labels).__name__}"
    elif not 1 <= len(labels) <= MAX_LABELS:
        message = f"labels must be 1 to {MAX_LABELS}; got {len(labels)}"
    elif not isinstance(labels, Mapping) and len(set(map(str, labels))) != len(labels):
        message = "labels must differ; one is there twice"
    else:
        prompts = dict(labels) if isinstance(labels, Mapping) else {name: [name] for name in labels}
        prompts = {name: [texts] if isinstance(texts, str) else texts for name, texts in prompts.items()}
        for name, texts in prompts.items():
            texts = [name, *texts] if isinstance(texts, list | tuple) and texts else [""]
            if not all(isinstance(text, str) and text.strip() for text in texts):
                message = f"label {str(name)[:80]!r} must have one or more prompts, texts that are not empty"
        if not message and sum(map(len, prompts.values())) > MAX_LABELS:
            message = f"labels must have at most {MAX_LABELS} prompts together"
        if not message:
            return {name: tuple(template.replace("{}", text) for text in texts) for name, texts in prompts.items()}
    raise QueryError(message, "labels", "bad_labels")
