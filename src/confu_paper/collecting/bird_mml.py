"""Bird-MML's pipeline: from a list of species to photos, sounds and captions with their licences, step by step."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from confu.checks import check_known
from confu.files import written_whole
from confu_paper.collecting import captions as texts
from confu_paper.collecting import models as models_of
from confu_paper.collecting.captions import AskOptions
from confu_paper.collecting.card import dataset_card
from confu_paper.collecting.client import Client
from confu_paper.collecting.clips import cut_clips
from confu_paper.collecting.inaturalist import SIZES, collect_photos
from confu_paper.collecting.manifest import write_manifest
from confu_paper.collecting.step_log import StepLog, read_records
from confu_paper.collecting.taxa import INATURALIST, Taxon, read_taxa, resolve_taxa, resolved_taxa
from confu_paper.collecting.triplets import Pairing, pair
from confu_paper.collecting.wikipedia import WIKIPEDIA, collect_sections
from confu_paper.collecting.xeno_canto import KEY_VARIABLE, XENO_CANTO, collect_recordings

if TYPE_CHECKING:
    from confu_paper.collecting.models import LanguageModel

STEPS = {
    "taxa": "numbers and names of the species, from iNaturalist",
    "photos": "research-grade, Creative Commons photos, from iNaturalist",
    "recordings": "sound recordings, from xeno-canto (with a key of yours)",
    "clips": "10-second clips of the recordings",
    "sections": "sections of the species' articles, from Wikipedia",
    "image_captions": "what is seen on each photo, by InstructBLIP",
    "summaries": "what is known of each species, by a language model",
    "captions": "one caption a triplet, by the same language model",
    "manifest": "the table of all triplets, and its card",
}
"""The steps in order, and what each makes; all but the last have a log of this name."""

MANIFEST, CARD = "manifest.parquet", "README.md"
_NETWORK_STEPS = ("taxa", "photos", "recordings", "sections")
_MAX_REASONS = 4  # that a row of the table names


@dataclass(frozen=True)
class Addresses:
    """The addresses of the sources' APIs."""

    inaturalist: str = INATURALIST
    xeno_canto: str = XENO_CANTO
    wikipedia: str = WIKIPEDIA


@dataclass(frozen=True)
class Models:
    """What writes the captions, and on what.

    Attributes:
        image: an InstructBLIP, by hub id or local folder.
        language: a causal language model, likewise.
        device: "cuda", "cpu"...; by default the first GPU, the processor if there is none.
        batch_size: photos or prompts at a time.
    """

    image: str = models_of.IMAGE_MODEL
    language: str = models_of.LANGUAGE_MODEL
    device: str | None = None
    batch_size: int = 16


@dataclass(frozen=True)
class Collection:
    """What is collected, where, and with what.

    Attributes:
        taxa_file: the list of species; see `read_taxa`.
        out: the folder of the collection.
        per_species: photos, and so most triplets, of each species.
        summaries: of each species' article.
        seed: of every draw.
        name: of the data set, for its card.
        key: of xeno-canto's API, for the step "recordings"; by default the environment variable XENO_CANTO_KEY.
        contact: an e-mail address or a web page of yours for the sources; the steps that use the network need it.
        client: sends the requests; by default one with this contact that keeps to the sources' rates.
        photo_size: "small", "medium" (500 pixels at most), "large" or "original".
        addresses: of the sources.
        models: what writes the captions.
        progress: say which step runs, and show bars on the terminal.
    """

    taxa_file: Path
    out: Path
    per_species: int = 1000
    summaries: int = 100
    seed: int = 0
    name: str = "Bird-MML"
    key: str | None = field(default=None, repr=False)
    contact: str | None = None
    client: Client | None = None
    photo_size: str = SIZES[1]
    addresses: Addresses = field(default_factory=Addresses)
    models: Models = field(default_factory=Models)
    progress: bool = True

    @cached_property
    def http(self) -> Client:
        """One client for all steps, so that no host is asked faster than it allows."""
        return self.client or Client(self.contact or "")

    @cached_property
    def language(self) -> "LanguageModel":
        """The language model, loaded once for both of its steps."""
        return models_of.LanguageModel(self.models.language, self.models.device)

    @cached_property
    def listed(self) -> list[Taxon]:
        """The species of the list."""
        return read_taxa(self.taxa_file)

    @cached_property
    def taxa(self) -> dict[str, Taxon]:
        """taxon_id -> the species of the list that iNaturalist knows, in its order.

        Raises:
            ValueError: a species that was not looked up yet, or two that are one to iNaturalist.
        """
        looked_up = {record["scientific_name"] for record in self.records("taxa")}
        names = [taxon.scientific_name for taxon in self.listed]
        if missing := [name for name in names if name not in looked_up]:
            raise ValueError(f"{self.out / 'taxa.jsonl'}: {', '.join(missing[:5])} not looked up; run the step 'taxa'")
        taxa: dict[str, Taxon] = {}
        for taxon in resolved_taxa(self.listed, self.out):
            number = str(taxon.taxon_id)
            if number in taxa:
                raise ValueError(
                    f"{self.taxa_file}: {taxa[number].scientific_name} and {taxon.scientific_name} are one species to "
                    f"iNaturalist, number {number}; remove one"
                )
            taxa[number] = taxon
        return taxa

    @property
    def unknown(self) -> list[str]:
        """The species of the list that iNaturalist does not know by this name."""
        known = {taxon.scientific_name for taxon in self.taxa.values()}
        return [taxon.scientific_name for taxon in self.listed if taxon.scientific_name not in known]

    def records(self, step: str) -> list[dict[str, Any]]:
        """The log of an earlier step."""
        return read_records(self.out / f"{step}.jsonl")

    def kept(self, step: str) -> list[dict[str, Any]]:
        """What an earlier step has kept, of the species of the list."""
        taxa = self.taxa
        return [record for record in self.records(step) if record["outcome"] == "kept" and record["taxon_id"] in taxa]

    def triplets(self) -> Pairing:
        """The triplets of what the steps before have made; the same each time."""
        parts = (self.kept(step) for step in ("photos", "image_captions", "clips", "summaries"))
        return pair(list(self.taxa), *parts, per_species=self.per_species, seed=self.seed)

    @property
    def ask_options(self) -> AskOptions:
        """How the models' answers are requested."""
        return AskOptions(self.seed, batch_size=self.models.batch_size, progress=self.progress)

    def check(self, steps: Sequence[str]) -> None:
        """Refuse what some of these steps would only find out later.

        Raises:
            ValueError: no list of species; no key or no contact where one is needed.
        """
        network = [step for step in steps if step in _NETWORK_STEPS]
        begun = (self.out / "recordings.jsonl").exists()  # what is finished needs no key, and asks for it if it does
        if "recordings" in network and not begun and not (self.key or os.environ.get(KEY_VARIABLE)):
            raise ValueError(
                f"key: the step 'recordings' needs a key of xeno-canto's API; set the environment variable "
                f"{KEY_VARIABLE}. Members find theirs at https://xeno-canto.org/account"
            )
        if network and not self.contact and self.client is None:
            raise ValueError(
                f"contact: the steps {', '.join(network)} tell the sources who asks; give an e-mail address or a web "
                "page of yours"
            )
        assert self.listed  # read now: a mistake in the list is reported before anything is requested


def collect_bird_mml(collection: Collection, steps: Sequence[str] | None = None) -> Path:
    """Build a data set of photos, sounds and captions of species, as the paper built Bird-MML.

    Each step keeps what it has finished in a log of its own; the same call goes on after a kill, and repeats no
    finished request and no finished prompt. Run as many steps at a time as you like, on different machines too: the
    sources need a network, the captions a GPU.

    Args:
        collection: what, where, and with what.
        steps: some of `STEPS`; all by default. They run in their own order.

    Returns:
        where the manifest is, or will be when its step has run.

    Raises:
        ValueError: an unknown step, a step whose inputs are not there, no key or contact where one is needed, settings
            that differ from those of an earlier run.
        OSError: a source does not answer; run the same again later.

    Reference: section 4 and appendix D.1.
    """
    chosen = chosen_steps(steps)
    collection.check(chosen)
    console = Console(stderr=True, quiet=not collection.progress)
    for step in chosen:
        console.print(f"{step}: {STEPS[step]}", highlight=False, markup=False, soft_wrap=True)
        _run_step(step, collection)
    return collection.out / MANIFEST


def chosen_steps(steps: Sequence[str] | None) -> list[str]:
    """These steps in the order in which they run; all for None.

    >>> chosen_steps(["manifest", "captions"])
    ['captions', 'manifest']
    """
    for step in steps or ():
        check_known("step", step, STEPS)
    return [step for step in STEPS if steps is None or step in steps]


def done_table(out: Path | str) -> Table:
    """The steps, what each makes, and how many of its items have ended how."""
    out = Path(out)
    counts_of = outcomes(out)
    table = Table("step", "makes", "items kept", "left out", title=str(out), title_justify="left")
    for step, what in STEPS.items():
        if step == "manifest":
            written = (out / MANIFEST).is_file() and (out / CARD).is_file()
            table.add_row(step, what, "written" if written else "-", "")
            continue
        counts = dict(counts_of.get(step, {}))
        kept = counts.pop("kept", 0)
        reasons = [f"{count:,} {outcome}" for outcome, count in counts.items()]
        more = [f"more in {step}.jsonl"] if len(reasons) > _MAX_REASONS else []
        left_out = escape(", ".join(reasons[:_MAX_REASONS] + more))
        table.add_row(step, what, f"{kept:,}" if step in counts_of else "-", left_out)
    return table


def outcomes(out: Path) -> dict[str, dict[str, int]]:
    """Of each step that has a log, how many items ended how, the most frequent first."""
    files = {step: out / f"{step}.jsonl" for step in STEPS}
    return {
        step: dict(Counter(record["outcome"] for record in read_records(file)).most_common())
        for step, file in files.items()
        if file.exists()
    }


def _run_step(step: str, job: Collection) -> None:
    out, progress = job.out, job.progress
    match step:
        case "taxa":
            resolve_taxa(job.listed, out, job.http, job.addresses.inaturalist, progress)
        case "photos":
            settings = (job.per_species, job.seed, job.photo_size, job.addresses.inaturalist)
            collect_photos(list(job.taxa.values()), out, job.http, *settings, progress)
        case "recordings":
            taxa = list(job.taxa.values())
            api = job.addresses.xeno_canto
            collect_recordings(taxa, out, job.http, job.key, job.per_species, job.seed, api, progress)
        case "clips":
            cut_clips(out, progress=progress)
        case "sections":
            collect_sections(list(job.taxa.values()), out, job.http, job.addresses.wikipedia, progress)
        case "image_captions":
            _write_image_captions(job)
        case "summaries":
            questions = texts.summary_questions(job.kept("sections"), list(job.taxa), job.summaries, job.seed)
            if not questions:
                raise ValueError(f"{out / 'sections.jsonl'}: no section is long enough to be summed up")
            _ask(job, step, questions, texts.SUMMARY_PROMPT, texts.SUMMARY_WORDS)
        case "captions":
            pairing = job.triplets()
            if not pairing.triplets:
                lacking = "; ".join(
                    f"{job.taxa[taxon].scientific_name}: no {', no '.join(parts)}"
                    for taxon, parts in pairing.lacking.items()
                )
                raise ValueError(f"{out}: no species has photos, clips and summaries ({lacking})")
            questions = [texts.merge_question(triplet) for triplet in pairing.triplets]
            _ask(job, step, questions, texts.MERGE_PROMPT, texts.MERGED_WORDS)
        case "manifest":
            _write_manifest(job)


def _write_image_captions(job: Collection) -> None:
    photos = job.kept("photos")
    if not photos:
        raise ValueError(f"{job.out / 'photos.jsonl'}: no photo was kept, so there is nothing to caption")
    model = models_of.model_name(job.models.image)
    log = StepLog(
        job.out / "image_captions.jsonl", {"model": model, "prompt": models_of.IMAGE_PROMPT, **models_of.BEAMS}
    )

    def load() -> models_of.Captioner:
        return models_of.Captioner(job.models.image, job.models.device)

    texts.caption_photos(photos, job.out, log, load, job.ask_options)


def _ask(job: Collection, step: str, questions: Sequence[texts.Question], prompt: str, words: tuple[int, int]) -> None:
    model = models_of.model_name(job.models.language)
    settings = {"model": model, "prompt": prompt, "words": list(words), "seed": job.seed}
    log = StepLog(job.out / f"{step}.jsonl", settings | asdict(models_of.SAMPLING))
    texts.ask(questions, log, lambda: job.language, words, job.ask_options)


def _write_manifest(job: Collection) -> None:
    """The manifest and its card, with models and their revisions, prompts and settings."""
    pairing = job.triplets()
    captions = {record["key"]: record for record in job.records("captions")}
    written = write_manifest(job.out / MANIFEST, pairing.triplets, job.taxa, captions)

    def models(*steps: str) -> str:
        used = {record["model"] for step in steps for record in job.records(step) if "model" in record}
        return ", ".join(sorted(used))

    made_with = {
        "image model": models("image_captions"),
        "image prompt": models_of.IMAGE_PROMPT,
        "language model": models("summaries", "captions"),
        "summary prompt": texts.SUMMARY_PROMPT,
        "merging prompt": texts.MERGE_PROMPT,
        "most rows of a species": job.per_species,
        "summaries of a species": job.summaries,
        "seed": job.seed,
        "words of a summary": "{} to {}".format(*texts.SUMMARY_WORDS),
        "words of a merged caption": "{} to {}".format(*texts.MERGED_WORDS),
        "size of the photos": job.photo_size,
        **{f"{name} of the image model": value for name, value in models_of.BEAMS.items()},
        **{f"{name} of the language model": value for name, value in asdict(models_of.SAMPLING).items()},
    }
    card = dataset_card(job.name, job.taxa, job.unknown, pairing, written, outcomes(job.out), made_with)
    with written_whole(job.out / CARD) as temporary:
        temporary.write_text(card, encoding="utf-8")
