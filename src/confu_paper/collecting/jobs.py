"""What the steps of a collection share: its folder, its species, its settings, and what asks and writes for it."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from confu_paper.collecting.captions import IMAGE_MODEL
from confu_paper.collecting.http import Client
from confu_paper.collecting.inaturalist import SIZES
from confu_paper.collecting.language import LanguageModel
from confu_paper.collecting.steps import read_records
from confu_paper.collecting.summaries import LANGUAGE_MODEL
from confu_paper.collecting.taxa import INATURALIST, Taxon, read_taxa, resolved_taxa
from confu_paper.collecting.wikipedia import WIKIPEDIA
from confu_paper.collecting.xeno_canto import KEY_VARIABLE, XENO_CANTO

LOGS = ("taxa", "photos", "recordings", "clips", "sections", "image_captions", "summaries", "captions")
"""The steps that have a file of their items, in order."""

_ASKING = ("taxa", "photos", "recordings", "sections")


@dataclass(frozen=True)
class Addresses:
    """Where the sources are asked: the addresses of their APIs."""

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

    image: str = IMAGE_MODEL
    language: str = LANGUAGE_MODEL
    device: str | None = None
    batch_size: int = 16


@dataclass(frozen=True)
class Job:
    """What the steps share; the arguments of `collect_bird_mml`."""

    taxa_file: Path
    out: Path
    per_species: int = 1000
    summaries: int = 100
    seed: int = 0
    name: str = "Bird-MML"
    key: str | None = field(default=None, repr=False)
    contact: str | None = None
    own_client: Client | None = None
    photo_size: str = SIZES[1]
    addresses: Addresses = field(default_factory=Addresses)
    models: Models = field(default_factory=Models)
    progress: bool = True

    @cached_property
    def client(self) -> Client:
        """One for all steps, so that no host is asked faster than it allows."""
        return self.own_client or Client(self.contact or "")

    @cached_property
    def language(self) -> LanguageModel:
        """The language model, loaded once for both of its steps."""
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
        found: dict[str, Taxon] = {}
        for taxon in self._resolved:
            number = str(taxon.taxon_id)
            if number in found:
                raise ValueError(
                    f"{self.taxa_file}: {found[number].scientific_name} and {taxon.scientific_name} are one species to "
                    f"iNaturalist, number {number}; remove one"
                )
            found[number] = taxon
        return found

    @property
    def unknown(self) -> list[str]:
        """The species of the list that iNaturalist does not know by this name."""
        known = {taxon.scientific_name for taxon in self._resolved}
        return [taxon.scientific_name for taxon in self.listed if taxon.scientific_name not in known]

    @cached_property
    def _resolved(self) -> list[Taxon]:
        looked_up = {record["scientific_name"] for record in self.records("taxa")}
        if missing := [one.scientific_name for one in self.listed if one.scientific_name not in looked_up]:
            raise ValueError(f"{self.out / 'taxa.jsonl'}: {', '.join(missing[:5])} not looked up; run the step 'taxa'")
        return resolved_taxa(self.listed, self.out)

    def records(self, step: str) -> list[dict[str, Any]]:
        """What a step before has made."""
        return read_records(self.out / f"{step}.jsonl")

    def kept(self, step: str) -> list[dict[str, Any]]:
        """What a step before has made and kept, of the species of the list."""
        taxa = self.taxa
        return [record for record in self.records(step) if record["outcome"] == "kept" and record["taxon_id"] in taxa]

    def check(self, steps: list[str]) -> None:
        """Refuse what some of these steps would only find out later.

        Raises:
            ValueError: no list of species; no key or no contact where one is needed.
        """
        asking = [step for step in steps if step in _ASKING]
        begun = (self.out / "recordings.jsonl").exists()  # what is finished needs no key, and asks for it if it does
        if "recordings" in asking and not begun and not (self.key or os.environ.get(KEY_VARIABLE)):
            raise ValueError(
                f"key: the step 'recordings' needs a key of xeno-canto's API; set the environment variable "
                f"{KEY_VARIABLE}. Members find theirs at https://xeno-canto.org/account"
            )
        if asking and not self.contact and self.own_client is None:
            raise ValueError(
                f"contact: the steps {', '.join(asking)} tell the sources who asks; give an e-mail address or a web "
                "page of yours"
            )
        assert self.listed  # read now: a list with a mistake is told before anything is asked
