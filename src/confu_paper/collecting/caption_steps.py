"""The steps after the sources: captions of photos, summaries, merged captions, and the table with its card."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from confu.files import written_whole
from confu_paper.collecting.asking import ask
from confu_paper.collecting.captions import BEAMS, IMAGE_PROMPT, Captioner, caption_photos
from confu_paper.collecting.card import dataset_card
from confu_paper.collecting.jobs import LOGS, Job
from confu_paper.collecting.language import SAMPLING, name_of
from confu_paper.collecting.manifest import Written, write_manifest
from confu_paper.collecting.merged import MERGE_PROMPT, MERGED_WORDS, merge_questions
from confu_paper.collecting.steps import StepLog, read_records
from confu_paper.collecting.summaries import SUMMARY_PROMPT, SUMMARY_WORDS, summary_questions
from confu_paper.collecting.triplets import Pairing, pair

MANIFEST = "manifest.parquet"
CARD = "README.md"


def write_image_captions(job: Job) -> None:
    """`image_captions.jsonl`: what is seen on each photo that was kept."""
    photos = job.kept("photos")
    if not photos:
        raise ValueError(f"{job.out / 'photos.jsonl'}: no photo was kept, so there is nothing to caption")
    settings = {"model": name_of(job.models.image), "prompt": IMAGE_PROMPT, **BEAMS}
    caption_photos(
        photos, job.out, StepLog(job.out / "image_captions.jsonl", settings),
        lambda: Captioner(job.models.image, job.models.device), job.models.batch_size, job.progress,
    )  # fmt: skip


def write_summaries(job: Job) -> None:
    """`summaries.jsonl`: some summaries of each species' article."""
    questions = summary_questions(job.kept("sections"), list(job.taxa), job.summaries, job.seed)
    if not questions:
        raise ValueError(f"{job.out / 'sections.jsonl'}: no section is long enough to be summed up")
    ask(
        questions, _log(job, "summaries", SUMMARY_PROMPT, SUMMARY_WORDS), lambda: job.language, SUMMARY_WORDS,
        "summaries", job.seed, batch_size=job.models.batch_size, progress=job.progress,
    )  # fmt: skip


def write_captions(job: Job) -> None:
    """`captions.jsonl`: one caption a triplet."""
    pairing = paired(job)
    if not pairing.triplets:
        lacking = "; ".join(
            f"{job.taxa[one].scientific_name}: no {', no '.join(what)}" for one, what in pairing.lacking.items()
        )
        raise ValueError(f"{job.out}: no species has photos, clips and summaries ({lacking})")
    ask(
        merge_questions(pairing.triplets), _log(job, "captions", MERGE_PROMPT, MERGED_WORDS), lambda: job.language,
        MERGED_WORDS, "merged captions", job.seed, batch_size=job.models.batch_size, progress=job.progress,
    )  # fmt: skip


def write_table(job: Job) -> Written:
    """`manifest.parquet` and `README.md`."""
    pairing = paired(job)
    captions = {record["key"]: record for record in job.records("captions")}
    written = write_manifest(job.out / MANIFEST, pairing.triplets, job.taxa, captions)
    card = dataset_card(job.name, job.taxa, job.unknown, pairing, written, outcomes(job.out), _made_with(job))
    with written_whole(job.out / CARD) as temporary:
        temporary.write_text(card, encoding="utf-8")
    return written


CAPTION_STEPS = {
    "image_captions": write_image_captions,
    "summaries": write_summaries,
    "captions": write_captions,
    "manifest": write_table,
}
"""By name, in order; each takes a `Job`."""


def paired(job: Job) -> Pairing:
    """The triplets of what the steps before have made; the same each time."""
    return pair(
        list(job.taxa), job.kept("photos"), job.kept("image_captions"), job.kept("clips"), job.kept("summaries"),
        job.per_species, job.seed,
    )  # fmt: skip


def outcomes(out: Path) -> dict[str, dict[str, int]]:
    """Of each step that has a file, how many items ended how, the most frequent first."""
    return {
        step: dict(Counter(record["outcome"] for record in read_records(out / f"{step}.jsonl")).most_common())
        for step in LOGS
        if (out / f"{step}.jsonl").exists()
    }


def _log(job: Job, step: str, prompt: str, words: tuple[int, int]) -> StepLog:
    settings = {"model": name_of(job.models.language), "prompt": prompt, "words": list(words), "seed": job.seed}
    return StepLog(job.out / f"{step}.jsonl", settings | asdict(SAMPLING))


def _made_with(job: Job) -> dict[str, Any]:
    """Models with their revisions, prompts and settings, for the card."""

    def models(*steps: str) -> str:
        used = {record["model"] for step in steps for record in job.records(step) if "model" in record}
        return ", ".join(sorted(used))

    return {
        "image model": models("image_captions"), "image prompt": IMAGE_PROMPT,
        "language model": models("summaries", "captions"), "summary prompt": SUMMARY_PROMPT,
        "merging prompt": MERGE_PROMPT, "most rows of a species": job.per_species,
        "summaries of a species": job.summaries, "seed": job.seed,
        "words of a summary": "{} to {}".format(*SUMMARY_WORDS),
        "words of a merged caption": "{} to {}".format(*MERGED_WORDS), "size of the photos": job.photo_size,
        **{f"{name} of the image model": value for name, value in BEAMS.items()},
        **{f"{name} of the language model": value for name, value in asdict(SAMPLING).items()},
    }  # fmt: skip
