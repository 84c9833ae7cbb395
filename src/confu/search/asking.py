"""Check that a model and an index belong together, and a question before it waits for its turn."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from confu.index import Index
from confu.index.conditions import Condition, checked, parse_condition
from confu.inference import Embedder
from confu.plan import Subset
from confu.search.choosing import target_of, weights_of
from confu.search.question import BadQuestion, Question, Wish

MAX_K = 1000
MAX_CONDITIONS = 32


def checked_question(
    query: Subset,
    embeds: Sequence[Subset],
    wish: Wish,
    stored: Sequence[Subset],
    schema: pa.Schema,
    **parts: Any,
) -> Question:
    """What is asked, with everything named that is needed to answer.

    Args:
        query: all modalities that ask.
        embeds: the subsets whose embeddings can be had of it.
        wish: what is wanted.
        stored: the subsets that the index holds.
        schema: of its metadata.
        parts: `items` or `known` of the question.

    Raises:
        BadQuestion: if a part of it cannot be.

    >>> wish, stored = Wish(k=3), [Subset("text")]
    >>> checked_question(Subset("image"), [Subset("image")], wish, stored, pa.schema([])).target
    Subset('text')
    """
    if isinstance(wish.k, bool) or not isinstance(wish.k, int) or not 1 <= wish.k <= MAX_K:
        raise BadQuestion(f"k must be a whole number from 1 to {MAX_K}; got {wish.k!r}", "k", "bad_k")
    if len(wish.exclude) > MAX_K:
        raise BadQuestion(
            f"exclude names {len(wish.exclude)} ids; at most {MAX_K} are left out", "exclude", "bad_exclude"
        )
    singles = [one for one in (Subset(name) for name in query) if one in embeds] if wish.singles else []
    return Question(
        query,
        weights_of(query, wish.weights, embeds),
        target=target_of(query, wish.target, stored),
        k=wish.k,
        where=_conditions(wish.where, schema),
        singles=tuple(singles) if query.is_fused else (),
        exclude=frozenset(wish.exclude),
        **parts,
    )


def known_vectors(table: Any, query: Subset) -> Mapping[Subset, Any]:
    """Of a table of one item, the vectors of what asks and of its parts.

    Raises:
        BadQuestion: if the item has none of them.
    """
    there = [one for one in table.subsets if bool(table.complete[one][0])]
    known = {one: table[one][0] for one in there if one <= query}
    if not known:
        raise BadQuestion(
            f"subset: the item has no embedding of {query}; it has {', '.join(map(str, there)) or 'none'}",
            "subset", "not_embedded",
        )  # fmt: skip
    return known


def check_belongs(embedder: Embedder, index: Index) -> None:
    """Check that a model can ask an index.

    Raises:
        ValueError: if another model made the index, or the model's method does not compare two embeddings.
    """
    if embedder.model.score != "cosine":
        raise ValueError(
            f"this model's method compares the embeddings of all modalities at once, by {embedder.model.score}: "
            "there is no vector of a query to search with. Train with a method that compares two (confu, clip)"
        )
    found, made_by = embedder.parts.fingerprint(), index.about
    if found != made_by.fingerprint:
        raise ValueError(
            f"the index at {index.folder} was made by another model ({made_by.model}, fingerprint "
            f"{made_by.fingerprint[:12]}) than the one given (fingerprint {found[:12]}): their vectors cannot be "
            "compared. Give that model, or index again with this one"
        )


def _conditions(where: Sequence[Condition | str], schema: pa.Schema) -> tuple[Condition, ...]:
    if len(where) > MAX_CONDITIONS:
        raise BadQuestion(
            f"where has {len(where)} conditions; at most {MAX_CONDITIONS} go together", "where", "bad_where"
        )
    try:
        found = checked([parse_condition(one) if isinstance(one, str) else one for one in where], schema)
        for condition in found:
            for value in condition.value if condition.operator == "in" else [condition.value]:
                if isinstance(value, int) and not -(2**63) <= value < 2**63:
                    raise ValueError(f"{condition}: whole numbers have 64 bits")
        return found
    except ValueError as error:
        raise BadQuestion(f"where: {error}", "where", "bad_where") from error
