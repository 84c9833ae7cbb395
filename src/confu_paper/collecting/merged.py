"""One caption a triplet: what is seen, what is known of the species and what is heard, in 10 to 20 words."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from confu_paper.collecting.asking import Question
from confu_paper.collecting.triplets import Triplet

MERGE_PROMPT = (
    "You are a naturalist assistant.\nCombine the following information into a concise caption (10–20 words).\n"
    "Include information about the bird's appearance and sound if available.\nBe factual and informative.\n"
    "Image caption: {image}\nSpecies caption: {species}\nSound tags: {tags}\nCaption:"
)
"""The paper's (appendix D.1); its lines end there with the column, here with the sentence."""

ASKED_WORDS = (10, 20)
"""What the prompt asks for."""

MERGED_WORDS = (4, 40)
"""What is taken: models count badly, and a caption of 25 words is still one."""


def merge_question(triplet: Triplet) -> Question:
    """The prompt for a triplet's caption. Its key changes with the prompt, so that no caption stands for other inputs.

    >>> photo, clip = {"key": "8/1"}, {"key": "XC9/0", "tags": {"type": "song"}}
    >>> seen, known = {"key": "8/1", "text": "A black bird."}, {"key": "8/0", "text": "It sings."}
    >>> question = merge_question(Triplet("8", photo, clip, seen, known, reused=False))
    >>> print(question.prompt.splitlines()[-2], question.key.partition("#")[0])
    Sound tags: type: song 8/1+XC9/0+8/0
    """
    prompt = MERGE_PROMPT.format(
        image=triplet.image_caption["text"], species=triplet.summary["text"], tags=tags_text(triplet.clip) or "none"
    )
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:12]
    return Question(f"{triplet.key}#{digest}", prompt, {"taxon_id": triplet.taxon_id})


def merge_questions(triplets: Iterable[Triplet]) -> list[Question]:
    """One a triplet, in their order."""
    return [merge_question(triplet) for triplet in triplets]


def tags_text(clip: Mapping[str, Any]) -> str:
    """What a recording's author noted, e.g. `"type: song; sex: male"`; `""` if that is nothing."""
    tags = clip.get("tags") or {}
    told = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
        for name, value in tags.items()
    }
    return "; ".join(f"{name}: {value.strip()}" for name, value in told.items() if value.strip())
