"""Short descriptions of each species, written by a language model from sections of its Wikipedia article."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confu_paper.collecting.asking import Question
from confu_paper.collecting.seeds import chance

LANGUAGE_MODEL = "google/gemma-2-2b-it"
"""The paper's; 5 GB of weights, to be had once its licence is accepted on the hub."""

SUMMARY_PROMPT = (
    "You are a naturalist assistant.\nSummarize the following text into one coherent caption.\n"
    "Be concise and factual.\n{text}\nCaption:"
)
"""The paper's (appendix D.1); its lines end there with the column, here with the sentence."""

SUMMARY_WORDS = (4, 90)
"""The fewest and the most words of a summary."""

_KEPT = ("title", "section", "revision", "licence", "licence_url", "attribution", "source_url")
_FEWEST = 15  # words of a section: a shorter one is a heading with a stub, of which a model would make things up
_MOST = 600  # words of a section that are read


def summary_questions(
    sections: Iterable[Mapping[str, Any]], taxa: Sequence[str], per_species: int = 100, seed: int = 0
) -> list[Question]:
    """The prompts for `per_species` summaries of each species, each of a section drawn at random.

    A species with few sections has several summaries of each, which differ as the model's draws do.

    Args:
        sections: records of the step before: key, taxon_id, title, section, text.
        taxa: the species, by taxon_id; the prompts come in their order.
        per_species: summaries of each.
        seed: of the draws. What is drawn for one species does not depend on the others.

    Returns:
        `per_species` questions for every species that has a section of 15 words or more, none for any other.

    Example:
        >>> article = {"key": "8/Song", "taxon_id": "8", "section": "Song", "text": "It sings. " * 9}
        >>> [question.key for question in summary_questions([article], ["8"], per_species=2)]
        ['8/0/8/Song', '8/1/8/Song']
    """
    if per_species < 1:
        raise ValueError(f"per_species: expected 1 summary or more; got {per_species}")
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for section in sections:
        if len(section["text"].split()) >= _FEWEST:
            found[str(section["taxon_id"])].append(section)
    questions = []
    for taxon in taxa:
        of_species = sorted(found[taxon], key=lambda section: section["key"])
        for number in range(per_species if of_species else 0):
            section = of_species[int(chance(seed, "section", taxon, number).integers(len(of_species)))]
            text = " ".join(section["text"].split()[:_MOST])
            about = {name: section.get(name) for name in _KEPT}
            questions.append(
                Question(
                    key=f"{taxon}/{number}/{section['key']}",
                    prompt=SUMMARY_PROMPT.format(text=text),
                    about={"taxon_id": taxon, **{name: value for name, value in about.items() if value is not None}},
                )
            )
    return questions
