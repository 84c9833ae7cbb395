"""A collection: its list of species, checked and looked up at iNaturalist, and all that its steps have in common."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confu.checks import check_known
from confu.data.parallel import tracked
from confu_paper.collecting.client import Client
from confu_paper.collecting.step_log import StepLog, read_records

if TYPE_CHECKING:
    from confu_paper.collecting.models import LanguageModel

PHOTO_SIZES = ("small", "medium", "large", "original")  # at most 240, 500, 1024 and 2048 pixels a side
# Genus and species, a subspecies if there is one; hyphens stand in some (Corvus corone-pica).
_NAME = re.compile(r"[A-Z][a-zà-ÿ]+(-[a-z]+)? [a-zà-ÿ]+(-[a-zà-ÿ]+)*( [a-zà-ÿ-]+)?")
_ID_COLUMNS = ("taxon_id", "inat_taxon_id_cor", "inat_taxon_id")  # the last two: the taxa list released with the paper


@dataclass(frozen=True)
class Taxon:
    """A species.

    Attributes:
        scientific_name: genus and species.
        common_name: in English, if it is known.
        taxon_id: iNaturalist's number, if it is known.
        sound_names: what xeno-canto calls it, if that is something else.
        article: title or page number of its Wikipedia article, if its name does not lead there.
    """

    scientific_name: str
    common_name: str | None = None
    taxon_id: str | None = None
    sound_names: tuple[str, ...] = ()
    article: str | None = None

    @property
    def folder(self) -> str:
        """Its name as that of a folder, e.g. Ardea_alba."""
        return self.scientific_name.replace(" ", "_")

    @property
    def key(self) -> str:
        """In the log of the species that were looked up: one whose number is corrected in the list is another item."""
        return f"{self.scientific_name} ({self.taxon_id})" if self.taxon_id else self.scientific_name


@dataclass(frozen=True)
class Addresses:
    """The addresses of the sources' APIs."""

    inaturalist: str = "https://api.inaturalist.org/v1"
    xeno_canto: str = "https://xeno-canto.org/api/3"
    wikipedia: str = "https://en.wikipedia.org/w/api.php"


@dataclass(frozen=True)
class Models:
    """What writes the captions, and on what.

    Attributes:
        image: an InstructBLIP, by hub id or local folder; the paper's has 16 GB of weights.
        language: a causal language model, likewise; the paper's has 5 GB of weights, to be had once its licence is
            accepted on the hub.
        device: "cuda", "cpu"...; by default the first GPU, the processor if there is none.
        batch_size: photos or prompts at a time.
    """

    image: str = "Salesforce/instructblip-flan-t5-xl"
    language: str = "google/gemma-2-2b-it"
    device: str | None = None
    batch_size: int = 16


@dataclass(frozen=True)
class Collection:
    """What is collected, where, and with what.

    Attributes:
        taxa_file: the list of species; see `read_taxa`.
        out: the folder of the collection.
        per_species: photos, clips, and so most triplets, of each species.
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

    Raises:
        ValueError: an unknown size of photos, or a number below 1.
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
    photo_size: str = "medium"
    addresses: Addresses = field(default_factory=Addresses)
    models: Models = field(default_factory=Models)
    progress: bool = True

    def __post_init__(self) -> None:
        check_known("size", self.photo_size, PHOTO_SIZES)
        numbers = {"per_species": self.per_species, "summaries": self.summaries, "batch_size": self.models.batch_size}
        for name, number in numbers.items():
            if number < 1:
                raise ValueError(f"{name}: expected 1 or more; got {number}")

    @cached_property
    def http(self) -> Client:
        """One client for all steps, so that no host is asked faster than it allows."""
        return self.client or Client(self.contact or "")

    @cached_property
    def language(self) -> "LanguageModel":
        """The language model, loaded once for both of its steps."""
        from confu_paper.collecting.models import LanguageModel

        return LanguageModel(self.models.language, self.models.device)

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
        records = self.records("taxa")
        looked_up = {record["scientific_name"] for record in records}
        names = [taxon.scientific_name for taxon in self.listed]
        if missing := [name for name in names if name not in looked_up]:
            raise ValueError(f"{self.out / 'taxa.jsonl'}: {', '.join(missing[:5])} not looked up; run the step 'taxa'")
        kept = {record["key"]: record for record in records if record["outcome"] == "kept"}
        taxa: dict[str, Taxon] = {}
        for taxon in self.listed:
            if (record := kept.get(taxon.key)) is None:
                continue
            number = record["taxon_id"]
            if number in taxa:
                raise ValueError(
                    f"{self.taxa_file}: {taxa[number].scientific_name} and {taxon.scientific_name} are one species to "
                    f"iNaturalist, number {number}; remove one"
                )
            taxa[number] = replace(taxon, taxon_id=number, common_name=record["common_name"] or None)
        return taxa

    @property
    def unknown(self) -> list[str]:
        """The species of the list that iNaturalist does not know by this name."""
        known = {taxon.scientific_name for taxon in self.taxa.values()}
        return [taxon.scientific_name for taxon in self.listed if taxon.scientific_name not in known]

    def log(self, step: str, settings: Mapping[str, Any]) -> StepLog:
        """The log of a step, to add to."""
        return StepLog(self.out / f"{step}.jsonl", settings)

    def records(self, step: str) -> list[dict[str, Any]]:
        """The items of an earlier step."""
        return read_records(self.out / f"{step}.jsonl")

    def kept(self, step: str) -> list[dict[str, Any]]:
        """What an earlier step has kept, of the species of the list."""
        return [one for one in self.records(step) if one["outcome"] == "kept" and one["taxon_id"] in self.taxa]

    @property
    def outcomes(self) -> dict[str, dict[str, int]]:
        """Of each step that has a log, how many items ended how, the most frequent first."""
        files = {file.stem: file for file in self.out.glob("*.jsonl")}
        return {
            step: dict(Counter(one["outcome"] for one in read_records(files[step])).most_common())
            for step in STEPS
            if step in files
        }


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


def read_taxa(file: Path) -> list[Taxon]:
    """Read a list of species.

    Args:
        file: a text file with a scientific name a line (after a tab its common name; lines with # are passed over); or
            a csv file with a column `scientific_name`, and if known `common_name`, `taxon_id` (or `inat_taxon_id`),
            `xeno_canto_names` (several with ; between them) and `wikipedia_id` (title or page number).

    Raises:
        ValueError: no such file, no species in it, a name that is none, a species or a number that stands there twice.
    """
    file = Path(file)
    if not file.is_file():
        raise ValueError(f"{file}: no such file; expected a text or csv file with scientific names")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: expected a text in UTF-8; {error}") from error
    if file.suffix.lower() == ".csv":
        rows = csv.DictReader(lines)
        if "scientific_name" not in (rows.fieldnames or ()):
            columns = ", ".join(rows.fieldnames or ()) or "nothing"
            raise ValueError(f"{file}: expected a column scientific_name; found {columns}")
        numbered = [(rows.line_num, row) for row in rows]
    else:
        names = [(number, line.split("#")[0].strip().split("\t")) for number, line in enumerate(lines, start=1)]
        numbered = [
            (number, dict(zip(("scientific_name", "common_name"), cells))) for number, cells in names if cells[0]
        ]
    taxa, first_line = [], {}
    for number, row in numbered:
        taxon = _taxon(row, f"{file}, line {number}")
        for name in filter(None, (taxon.scientific_name, taxon.taxon_id)):
            if name in first_line:
                raise ValueError(f"{file}, line {number}: {name} stands in line {first_line[name]} already; remove one")
            first_line[name] = number
        taxa.append(taxon)
    if not taxa:
        raise ValueError(f"{file}: expected at least one species, found none")
    return taxa


def _taxon(row: Mapping[str, Any], where: str) -> Taxon:
    given = {name: " ".join(value.split()) for name, value in row.items() if isinstance(value, str)}
    name = given.get("scientific_name", "")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{where}: expected genus and species, as in 'Ardea alba'; got {name!r}")
    number = next((given[column] for column in _ID_COLUMNS if given.get(column)), None)
    if number is not None:
        whole = number.removesuffix(".0")  # tables that went through floats hold 144814.0
        if not whole.isdigit():
            raise ValueError(f"{where}: expected a number as taxon_id; got {number!r}")
        number = whole
    names = tuple(part.strip() for part in given.get("xeno_canto_names", "").split(";") if part.strip())
    return Taxon(name, given.get("common_name") or None, number, names, given.get("wikipedia_id") or None)


def resolve_taxa(job: Collection) -> StepLog:
    """Look up the species whose number is not known, and write them all to `taxa.jsonl`.

    Asks `GET /taxa?q=NAME&rank=species,subspecies` and takes the active taxon of exactly this name, else the only one
    that the name is a synonym of (its `matched_term`); fields as in iNaturalist's API v1 documentation.

    Returns:
        the log; records have taxon_id, scientific_name, common_name, and as outcome "kept", "unknown to iNaturalist"
        or "the same species as ...".

    Raises:
        Unavailable: iNaturalist does not answer.
    """
    log = job.log("taxa", {"source": "iNaturalist"})
    named = {log.get(one.key)["taxon_id"]: one.scientific_name for one in job.listed if log.done(one.key)}
    for taxon in tracked(job.listed, "looking up species", job.listed, job.progress):
        if log.done(taxon.key):
            continue
        name = taxon.scientific_name
        match = {"id": taxon.taxon_id} if taxon.taxon_id else _looked_up(name, job)
        number = str(match["id"]) if match else None
        other = named.setdefault(number, name)
        outcome = "kept" if other == name else f"the same species as {other}"
        common_name = taxon.common_name or (match or {}).get("preferred_common_name") or ""
        about = {"accepted_name": (match or {}).get("name"), "common_name": common_name}
        outcome = outcome if match else "unknown to iNaturalist"
        log.add(taxon.key, {"outcome": outcome, "taxon_id": number, "scientific_name": name, **about})
    return log


def _looked_up(name: str, job: Collection) -> Mapping[str, Any] | None:
    params = {"q": name, "rank": "species,subspecies", "is_active": "true", "per_page": 30}
    with expected_shape(f"taxa, {name}"):
        answer = job.http.json(f"{job.addresses.inaturalist}/taxa", params)
        results = [dict(result, id=int(result["id"])) for result in answer["results"]]
    exact = [result for result in results if str(result.get("name", "")).lower() == name.lower()]
    synonyms = [result for result in results if str(result.get("matched_term", "")).lower() == name.lower()]
    return exact[0] if exact else synonyms[0] if len(synonyms) == 1 else None


@contextmanager
def expected_shape(where: str) -> Iterator[None]:
    """Turn the error of a JSON answer that lacks what its API promises into one that says where and what."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{where}: the answer is not what the API's documentation promises ({type(error).__name__}: {error}); "
            "the API may have changed"
        ) from error
