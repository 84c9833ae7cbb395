"""Captions by models: of photos, summaries of articles, and one merged caption a triplet of photo, clip and summary.

Each text is on disk at once; a bad one is drawn again from another seed.
"""

import hashlib
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confu.data.parallel import tracked
from confu_paper.collecting.collection import Collection
from confu_paper.collecting.models import BEAMS, IMAGE_PROMPT, SAMPLING, Captioner, model_name
from confu_paper.collecting.step_log import generator_of, progress_bar, seed_of

if TYPE_CHECKING:
    from PIL import Image

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

ATTEMPTS = 4  # of each question

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


def caption_photos(job: Collection) -> None:
    """Caption the photos that have no caption yet, into `image_captions.jsonl`; the model is loaded only for those.

    A photo that cannot be read, or of which the model says nothing or one thing over and over, is stored with that as
    its outcome.

    Raises:
        ValueError: no photo was kept.
    """
    photos = job.kept("photos")
    if not photos:
        raise ValueError(f"{job.out / 'photos.jsonl'}: no photo was kept, so there is nothing to caption")
    log = job.log("image_captions", {"model": model_name(job.models.image), "prompt": IMAGE_PROMPT, **BEAMS})
    waiting = [photo for photo in photos if not log.done(photo["key"])]
    if not waiting:
        return
    captioner, size = Captioner(job.models.image, job.models.device), job.models.batch_size
    batches = [waiting[start : start + size] for start in range(0, len(waiting), size)]
    for batch in tracked(batches, "image captions", batches, job.progress):
        opened = [_open_photo(job.out / photo["file"]) for photo in batch]
        pictures = [picture for picture in opened if not isinstance(picture, str)]
        texts = iter(captioner.describe(pictures) if pictures else [])
        for photo, picture in zip(batch, opened):
            record: dict[str, Any] = {"taxon_id": photo["taxon_id"], "file": photo["file"]}
            if isinstance(picture, str):
                record["outcome"] = picture
            else:
                text = cleaned(next(texts))
                record |= _result(text, problem_of(text, ended=True, fewest=1, most=_MAX_IMAGE_WORDS))
                record["model"] = captioner.name
            log.add(photo["key"], record)


def summarise_sections(job: Collection) -> None:
    """Sum up sections of the species' articles, into `summaries.jsonl`.

    Raises:
        ValueError: no section is long enough.
    """
    questions = summary_questions(job.kept("sections"), list(job.taxa), job.summaries, job.seed)
    if not questions:
        raise ValueError(f"{job.out / 'sections.jsonl'}: no section is long enough to be summed up")
    ask(job, "summaries", questions, SUMMARY_PROMPT, SUMMARY_WORDS)


def merge_captions(job: Collection) -> None:
    """Write one caption a triplet, into `captions.jsonl`.

    Raises:
        ValueError: no species has photos, clips and summaries.
    """
    pairing = pairing_of(job)
    if not pairing.triplets:
        lacking = (f"{job.taxa[taxon].scientific_name}: no {', no '.join(no)}" for taxon, no in pairing.lacking.items())
        raise ValueError(f"{job.out}: no species has photos, clips and summaries ({'; '.join(lacking)})")
    ask(job, "captions", [merge_question(triplet) for triplet in pairing.triplets], MERGE_PROMPT, MERGED_WORDS)


def ask(job: Collection, step: str, questions: Sequence[Question], prompt: str, words: tuple[int, int]) -> None:
    """Answer those questions that the step's log has no answer to; the model is loaded only if there are any.

    An answer that is empty, cut off, too short, too long or goes in circles is drawn again from another seed, in the
    next batch; after the last attempt the item is stored with that as its outcome, and its last text as `rejected`.

    Args:
        step: its log gets a record an item: what `about` holds, text, outcome, attempts and model.
        questions: one an item.
        prompt: that the questions fill in.
        words: the fewest and the most that an answer may have.
    """
    settings = {"model": model_name(job.models.language), "prompt": prompt, "words": list(words), "seed": job.seed}
    log = job.log(step, settings | asdict(SAMPLING))
    waiting = deque((question, 0) for question in questions if not log.done(question.key))
    if not waiting:
        return
    with progress_bar(step, job.progress) as bar:
        task = bar.add_task(step, total=len(questions), completed=len(questions) - len(waiting))
        while waiting:
            batch = [waiting.popleft() for _ in range(min(job.models.batch_size, len(waiting)))]
            seeds = [seed_of(job.seed, question.key, attempt) for question, attempt in batch]
            answers = job.language.answer([question.prompt for question, _ in batch], seeds)
            for (question, attempt), answer in zip(batch, answers):
                text = cleaned(answer.text)
                problem = problem_of(text, answer.ended, *words)
                if problem is not None and attempt + 1 < ATTEMPTS:
                    waiting.appendleft((question, attempt + 1))  # now: a kill loses what is not stored
                    continue
                result = _result(text, problem) | {"attempts": attempt + 1, "model": job.language.name}
                log.add(question.key, {**question.about, **result})
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


Record = Mapping[str, Any]


@dataclass(frozen=True)
class Triplet:
    """A photo, a clip and a summary of one species.

    Attributes:
        taxon_id: of the species.
        photo: its record.
        clip: its record.
        image_caption: what is seen on the photo; the record.
        summary: of a section on the species; the record.
        reused: whether the clip stands in an earlier triplet already.
    """

    taxon_id: str
    photo: Record
    clip: Record
    image_caption: Record
    summary: Record
    reused: bool

    @property
    def key(self) -> str:
        """One a triplet: photos are used once."""
        return f"{self.photo['key']}+{self.clip['key']}+{self.summary['key']}"


@dataclass(frozen=True)
class Pairing:
    """All triplets, and what there was of each species.

    Attributes:
        triplets: species by species.
        counts: taxon_id -> photos (with a caption), clips, recordings, summaries, triplets, reused.
        lacking: taxon_id -> what there is none of, for the species that have no triplet.
    """

    triplets: list[Triplet]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    lacking: dict[str, list[str]] = field(default_factory=dict)


def pair(
    taxa: Sequence[str],
    photos: Iterable[Record],
    image_captions: Iterable[Record],
    clips: Iterable[Record],
    summaries: Iterable[Record],
    per_species: int = 1000,
    seed: int = 0,
) -> Pairing:
    """Put triplets together: of each species the smaller of `per_species` and its photos that have a caption.

    Clips come in random order, those of different recordings before further ones of the same; where there are fewer
    than photos, they are gone through again. Summaries are drawn anew for every photo. What is drawn for one species
    does not depend on the others.

    Args:
        taxa: the species, by taxon_id.
        photos: records with key, taxon_id and file; like all here, those alone count whose outcome is "kept".
        image_captions: records with the key of the photo.
        clips: records with key, taxon_id and recording.
        summaries: records with key, taxon_id and text.
        per_species: most triplets of each.
        seed: of the draws.

    Returns:
        the triplets. A species that lacks photos, clips or summaries has none and is named in `lacking`.
    """
    captioned = {record["key"]: record for record in image_captions if record["outcome"] == "kept"}
    # Photos as they came, so that further ones change nothing of the first; others need an order that is always there.
    photos_of = _by_species(photo for photo in photos if photo["key"] in captioned)
    clips_of, summaries_of = (
        _by_species(sorted(records, key=lambda record: record["key"])) for records in (clips, summaries)
    )
    pairing = Pairing([])
    for taxon in taxa:
        pictures, sounds, texts = photos_of[taxon][:per_species], clips_of[taxon], summaries_of[taxon]
        counts = {"photos": len(photos_of[taxon]), "clips": len(sounds), "summaries": len(texts)}
        if lacking := [name for name, number in counts.items() if not number]:
            pairing.lacking[taxon] = lacking
            pictures = []
        order = _spread(sounds, taxon, seed)
        for place, photo in enumerate(pictures):
            text = texts[int(generator_of(seed, "summary", taxon, photo["key"]).integers(len(texts)))]
            clip = order[place % len(order)]
            pairing.triplets.append(
                Triplet(taxon, photo, clip, captioned[photo["key"]], text, reused=place >= len(order))
            )
        pairing.counts[taxon] = {
            **counts,
            "recordings": len({clip["recording"] for clip in sounds}),
            "triplets": len(pictures),
            "reused": max(0, len(pictures) - len(order)) if order else 0,
        }
    return pairing


def pairing_of(job: Collection) -> Pairing:
    """The triplets of what the steps before have made; the same each time."""
    parts = (job.records(step) for step in ("photos", "image_captions", "clips", "summaries"))
    return pair(list(job.taxa), *parts, per_species=job.per_species, seed=job.seed)


def _spread(clips: Sequence[Record], taxon: str, seed: int) -> list[Record]:
    """In random order, but the first clip that is drawn of each recording before any second one."""
    draws = generator_of(seed, "clips", taxon)
    shuffled = [clips[place] for place in draws.permutation(len(clips))]
    counts: dict[str, int] = defaultdict(int)
    ranked = []
    for place, clip in enumerate(shuffled):
        ranked.append((counts[clip["recording"]], place, clip))
        counts[clip["recording"]] += 1
    return [clip for _, _, clip in sorted(ranked, key=lambda rank: rank[:2])]


def _by_species(records: Iterable[Record]) -> defaultdict[str, list[Record]]:
    """Those that were kept."""
    by_species: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.get("outcome", "kept") == "kept":
            by_species[str(record["taxon_id"])].append(record)
    return by_species


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
