"""Answer questions together: one pass through the model, and one search for all that seek the same."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from confu.index import Index
from confu.index.items import Hit
from confu.inference import Embedder
from confu.plan import Subset
from confu.search.choosing import blended
from confu.search.embedding import embed_together
from confu.search.question import Answer, Question


def answered(questions: Sequence[Question], embedder: Embedder, index: Index) -> list[Answer | Exception]:
    """One entry a question: its answer, or what was wrong with it; one that fails does not touch the others.

    Args:
        questions: checked, for this model and index.
        embedder: the model that made the index's vectors.
        index: of items.
    """
    try:
        return list(_answered(questions, embedder, index))
    except Exception as error:
        # Which of them it was is not known: ask one by one.
        return [error] if len(questions) == 1 else [answered([one], embedder, index)[0] for one in questions]


def _answered(questions: Sequence[Question], embedder: Embedder, index: Index) -> list[Answer]:
    asking = [question for question in questions if question.items]
    made = iter(embed_together(embedder, [(question.items, question.needed) for question in asking]) if asking else [])
    vectors = [_sides(question, next(made) if question.items else question.known) for question in questions]
    groups = defaultdict(list)
    for place, question in enumerate(questions):
        if question.target is not None:
            groups[question.target, question.k + len(question.exclude), question.where].append(place)
    found: dict[int, list[list[Hit]]] = {}
    for (target, k, where), places in groups.items():
        hits = iter(index.search(torch.cat([vectors[place] for place in places]), target, k, where))
        for place in places:
            found[place] = [_kept(next(hits), questions[place]) for _ in vectors[place]]
    return [_answer(question, vectors[place], found.get(place)) for place, question in enumerate(questions)]


def _sides(question: Question, vectors: Mapping[Subset, Tensor]) -> Tensor:
    """(n, dim): what is asked with, then each single modality, then their mean."""
    if not question.singles:
        return blended(vectors, question.weights)[None]
    sides = [blended(vectors, question.weights), *(vectors[one] for one in question.singles)]
    if len(question.singles) == len(question.query) > 1:
        sides.append(normalize(torch.stack(sides[1:]).mean(dim=0), dim=0))
    return torch.stack(sides)


def _kept(hits: Sequence[Hit], question: Question) -> list[Hit]:
    return [hit for hit in hits if hit.id not in question.exclude][: question.k]


def _answer(question: Question, vectors: Tensor, hits: list[list[Hit]] | None) -> Answer:
    if hits is None:
        return Answer(question.query, None, vectors[0])
    singles = {str(one): found for one, found in zip(question.singles, hits[1:])}
    mean = hits[1 + len(singles)] if len(hits) > 1 + len(singles) else []
    return Answer(question.query, question.target, vectors[0], hits[0], singles, mean)
