"""Captions by models: of photos, summaries of articles, and one merged caption a triplet.

Each text is on disk at once; a bad one is drawn again from another seed.
"""

import hashlib
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confu_paper.collecting.seeds import generator_of, seed_of
from confu_paper.collecting.step_log import StepLog, progress_bar
from confu_paper.collecting.triplets import Triplet

if TYPE_CHECKING:
    from PIL import Image

    from confu_paper.collecting.models import Captioner, LanguageModel

# The prompts of the paper (appendix D.1); its lines end there with the column, here with the sentence.
SUMMARY_PROMPT = (
    "You are a naturalist assistant.\nSummarize the following text into one coherent caption.\n"
    "Be concise and factual.\n{text}\nCaption:"
)
MERGE_PROMPT = (
    "You are a naturalist assistant.\nCombine the following information into a concise caption (10–20 words).\n"
    "Include information about the bird's appearance and sound if available.\nBe factual and informative.\n"
    "Image caption: {image}\nSpecies caption: {species}\nSound tags: {tags}\nCaption:"
)
SUMMARY_WORDS = (4, 90)
"""The fewest and the most words of a summary."""
REQUESTED_WORDS = (10, 20)
"""What the merging prompt asks for."""
MERGED_WORDS = (4, 40)
"""What is taken: models count badly, and a caption of 25 words is still one."""

_MAX_IMAGE_WORDS = 100  # one that was cut is still taken: what it says of the photo is summed up later
_MIN_SECTION = 15  # words: a shorter one is a heading with a stub, of which a model would make things up
_MAX_SECTION = 600  # words of a section that are read
_COPIED = ("title", "section", "revision", "licence", "licence_url", "attribution", "source_url")
_LEAD = re.compile(r"^(?:final |combined |image |species )?(?:caption|summary|answer)\s*:\s*", re.IGNORECASE)
_QUOTES = "\"'“”‘’«»*_`"
_MIN_DISTINCT = 1 / 3  # of the words; a text that goes in circles has fewer


@dataclass(frozen=True)
class Question:
    """One prompt.

    Attributes:
        key: of its item in the step's log.
        prompt: as the model gets it.
        about: what is stored beside the answer.
    """

    key: str
    prompt: str
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AskOptions:
    """How a model's answers are requested.

    Attributes:
        seed: of the draws, with the key and the attempt.
        attempts: of each question.
        batch_size: prompts or photos at a time.
        progress: show a bar on the terminal.
    """

    seed: int = 0
    attempts: int = 4
    batch_size: int = 16
    progress: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.batch_size < 1:
            raise ValueError(
                f"expected 1 or more attempts, and a batch_size of 1 or more; got {self.attempts} and {self.batch_size}"
            )


def ask(
    questions: Sequence[Question],
    log: StepLog,
    load: Callable[[], "LanguageModel"],
    words: tuple[int, int],
    options: AskOptions,
) -> None:
    """Answer those questions that the log has no answer to; the model is loaded only if there are any.

    An answer that is empty, cut off, too short, too long or goes in circles is drawn again from another seed, in the
    next batch; after the last attempt the item is stored with that as its outcome, and its last text as `rejected`.

    Args:
        questions: one an item.
        log: gets a record an item: what `about` holds, text, outcome, attempts and model.
        load: loads the model.
        words: the fewest and the most that an answer may have.
        options: seed, attempts, batch size.
    """
    waiting = deque((question, 0) for question in questions if not log.done(question.key))
    if not waiting:
        return
    model = load()
    with progress_bar(log.file.stem, options.progress) as bar:
        task = bar.add_task(log.file.stem, total=len(questions), completed=len(questions) - len(waiting))
        while waiting:
            batch = [waiting.popleft() for _ in range(min(options.batch_size, len(waiting)))]
            seeds = [seed_of(options.seed, question.key, attempt) for question, attempt in batch]
            answers = model.answer([question.prompt for question, _ in batch], seeds)
            for (question, attempt), answer in zip(batch, answers):
                text = cleaned(answer.text)
                problem = problem_of(text, answer.ended, *words)
                if problem is not None and attempt + 1 < options.attempts:
                    waiting.appendleft((question, attempt + 1))  # now: a kill loses what is not stored
                    continue
                result = _result(text, problem) | {"attempts": attempt + 1, "model": model.name}
                log.add(question.key, {**question.about, **result})
                bar.advance(task)


def caption_photos(
    photos: Sequence[Mapping[str, Any]],
    folder: Path,
    log: StepLog,
    load: Callable[[], "Captioner"],
    options: AskOptions,
) -> None:
    """Caption the photos that the log has no caption of; the model is loaded only if there are any.

    A photo that cannot be read, or of which the model says nothing or one thing over and over, is stored with that as
    its outcome.

    Args:
        photos: records of the step before: key, file, taxon_id.
        folder: where `file` starts.
        log: gets a record a photo: taxon_id, file, text, outcome and model.
        load: loads the captioner.
        options: batch size; nothing is drawn.
    """
    waiting = [photo for photo in photos if not log.done(photo["key"])]
    if not waiting:
        return
    captioner = load()
    with progress_bar("image captions", options.progress) as bar:
        task = bar.add_task("photos", total=len(photos), completed=len(photos) - len(waiting))
        for start in range(0, len(waiting), options.batch_size):
            batch = waiting[start : start + options.batch_size]
            opened = [_open_photo(folder / photo["file"]) for photo in batch]
            pictures = [picture for picture in opened if not isinstance(picture, str)]
            texts = iter(captioner.describe(pictures) if pictures else [])
            for photo, picture in zip(batch, opened):
                about = {"taxon_id": photo["taxon_id"], "file": photo["file"]}
                if isinstance(picture, str):
                    log.add(photo["key"], {**about, "outcome": picture})
                else:
                    text = cleaned(next(texts))
                    result = _result(text, problem_of(text, ended=True, fewest=1, most=_MAX_IMAGE_WORDS))
                    log.add(photo["key"], {**about, **result, "model": captioner.name})
                bar.advance(task)


def _result(text: str, problem: str | None) -> dict[str, Any]:
    return {"text": text, "outcome": "kept"} if problem is None else {"outcome": problem, "rejected": text}


def _open_photo(file: Path) -> "Image.Image | str":
    """A photo upright and in colour, or why there is none."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except FileNotFoundError:
        return "photo is gone"
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError):
        return "photo cannot be read"  # what Pillow raises on broken files; the record names the file


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

    >>> article = {"key": "8/Song", "taxon_id": "8", "section": "Song", "text": "It sings. " * 9}
    >>> [question.key for question in summary_questions([article], ["8"], per_species=2)]
    ['8/0/8/Song', '8/1/8/Song']
    """
    if per_species < 1:
        raise ValueError(f"per_species: expected 1 summary or more; got {per_species}")
    by_species: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for section in sections:
        if len(section["text"].split()) >= _MIN_SECTION:
            by_species[str(section["taxon_id"])].append(section)
    questions = []
    for taxon in taxa:
        of_species = sorted(by_species[taxon], key=lambda section: section["key"])
        for number in range(per_species if of_species else 0):
            section = of_species[int(generator_of(seed, "section", taxon, number).integers(len(of_species)))]
            text = " ".join(section["text"].split()[:_MAX_SECTION])
            about = {name: section[name] for name in _COPIED if section.get(name) is not None}
            key = f"{taxon}/{number}/{section['key']}"
            questions.append(Question(key, SUMMARY_PROMPT.format(text=text), {"taxon_id": taxon, **about}))
    return questions


def merge_question(triplet: Triplet) -> Question:
    """The prompt for a triplet's caption. Its key changes with the prompt, so that no caption stands for other inputs.

    >>> photo, clip = {"key": "8/1"}, {"key": "XC9/0", "tags": {"type": "song"}}
    >>> image_caption, summary = {"key": "8/1", "text": "A black bird."}, {"key": "8/0", "text": "It sings."}
    >>> question = merge_question(Triplet("8", photo, clip, image_caption, summary, reused=False))
    >>> print(question.prompt.splitlines()[-2], question.key.partition("#")[0])
    Sound tags: type: song 8/1+XC9/0+8/0
    """
    tags = tags_text(triplet.clip) or "none"
    prompt = MERGE_PROMPT.format(image=triplet.image_caption["text"], species=triplet.summary["text"], tags=tags)
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:12]
    return Question(f"{triplet.key}#{digest}", prompt, {"taxon_id": triplet.taxon_id})


def tags_text(clip: Mapping[str, Any]) -> str:
    """What a recording's author noted, e.g. `"type: song; sex: male"`; `""` if that is nothing."""
    texts = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
        for name, value in (clip.get("tags") or {}).items()
    }
    return "; ".join(f"{name}: {text.strip()}" for name, text in texts.items() if text.strip())


def cleaned(text: str) -> str:
    """The caption in an answer: its first paragraph, without marks, quotes and the words that announce it.

    >>> cleaned('Here is a concise caption:\\n\\n**Caption:** "A black bird,  singing."\\n\\nI hope this helps!')
    'A black bird, singing.'
    """
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]
    if not paragraphs:
        return ""
    if len(paragraphs) > 1 and paragraphs[0].endswith(":"):
        paragraphs = paragraphs[1:]
    line = paragraphs[0].replace("**", "").lstrip("#>- ")
    before = None
    while line != before:  # a quote may stand around the announcement, or within it
        before = line
        line = _LEAD.sub("", line.strip()).strip()
        if len(line) > 1 and line[0] in _QUOTES and line[-1] in _QUOTES:
            line = line[1:-1]
    return line


def problem_of(text: str, ended: bool, fewest: int, most: int) -> str | None:
    """Why a cleaned text is no caption of `fewest` to `most` words, in words that can be counted; None if it is one.

    >>> problem_of("", True, 4, 40), problem_of("A black bird sings.", True, 4, 40)
    ('empty', None)
    """
    words = re.findall(r"\w+", text.lower())
    if not words:
        return "empty"
    if not ended:
        return "no end"
    if len(words) < fewest:
        return "too short"
    if len(words) > most:
        return "too long"
    if len(words) >= 6 and len(set(words)) < _MIN_DISTINCT * len(words):
        return "repeats itself"
    return None
