"""Which species a data set is of: a list of names, checked, and looked up at iNaturalist."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from confu_paper.collecting.client import Client
from confu_paper.collecting.downloads import expected_shape
from confu_paper.collecting.step_log import StepLog, progress_bar, read_records

INATURALIST = "https://api.inaturalist.org/v1"
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
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: expected a text in UTF-8; {error}") from error
    rows = _of_csv(file, text) if file.suffix.lower() == ".csv" else _of_text(text)
    taxa, lines = [], {}
    for number, row in rows:
        taxon = _taxon(row, f"{file}, line {number}")
        for name in filter(None, (taxon.scientific_name, taxon.taxon_id)):
            if name in lines:
                raise ValueError(f"{file}, line {number}: {name} stands in line {lines[name]} already; remove one")
            lines[name] = number
        taxa.append(taxon)
    if not taxa:
        raise ValueError(f"{file}: expected at least one species, found none")
    return taxa


def resolve_taxa(
    taxa: Sequence[Taxon], out: Path, client: Client, api: str = INATURALIST, progress: bool = True
) -> StepLog:
    """Look up the species whose number is not known, and write them all to `taxa.jsonl`.

    Asks `GET /taxa?q=NAME&rank=species,subspecies` and takes the active taxon of exactly this name, else the only one
    that the name is a synonym of (its `matched_term`); fields as in iNaturalist's API v1 documentation.

    Returns:
        the log; records have taxon_id, scientific_name, common_name, and as outcome "kept", "unknown to iNaturalist"
        or "the same species as ...".

    Raises:
        Unavailable: iNaturalist does not answer.
    """
    log = StepLog(out / "taxa.jsonl", {"source": "iNaturalist"})
    named = {log.get(_key(taxon))["taxon_id"]: taxon.scientific_name for taxon in taxa if log.done(_key(taxon))}
    with progress_bar("species", progress) as bar:
        for taxon in bar.track(taxa, description="looking up"):
            if log.done(_key(taxon)):
                continue
            match = {"id": taxon.taxon_id} if taxon.taxon_id else _looked_up(taxon.scientific_name, client, api)
            number = str(match["id"]) if match else None
            other = named.setdefault(number, taxon.scientific_name)
            outcome = "kept" if other == taxon.scientific_name else f"the same species as {other}"
            log.add(
                _key(taxon),
                {
                    "outcome": outcome if match else "unknown to iNaturalist",
                    "taxon_id": number,
                    "scientific_name": taxon.scientific_name,
                    "accepted_name": (match or {}).get("name"),
                    "common_name": taxon.common_name or (match or {}).get("preferred_common_name") or "",
                },
            )
    return log


def resolved_taxa(taxa: Sequence[Taxon], out: Path) -> list[Taxon]:
    """Those of the species that `resolve_taxa` found, with their numbers and common names."""
    records = {record["key"]: record for record in read_records(out / "taxa.jsonl")}
    resolved = []
    for taxon in taxa:
        record = records.get(_key(taxon))
        if record is not None and record["outcome"] == "kept":
            common_name = record["common_name"] or None
            resolved.append(replace(taxon, taxon_id=record["taxon_id"], common_name=common_name))
    return resolved


def _key(taxon: Taxon) -> str:
    """In the log: a species whose number is corrected in the list is another item."""
    return f"{taxon.scientific_name} ({taxon.taxon_id})" if taxon.taxon_id else taxon.scientific_name


def _looked_up(name: str, client: Client, api: str) -> Mapping[str, Any] | None:
    params = {"q": name, "rank": "species,subspecies", "is_active": "true", "per_page": 30}
    with expected_shape(f"taxa, {name}"):
        results = [dict(result, id=int(result["id"])) for result in client.json(f"{api}/taxa", params)["results"]]
    exact = [result for result in results if str(result.get("name", "")).lower() == name.lower()]
    synonyms = [result for result in results if str(result.get("matched_term", "")).lower() == name.lower()]
    return exact[0] if exact else synonyms[0] if len(synonyms) == 1 else None


def _of_text(text: str) -> list[tuple[int, dict[str, str]]]:
    lines = [(number, line.split("#")[0].strip()) for number, line in enumerate(text.splitlines(), start=1)]
    parts = [(number, line.partition("\t")) for number, line in lines if line]
    return [(number, {"scientific_name": name, "common_name": common}) for number, (name, _, common) in parts]


def _of_csv(file: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    rows = csv.DictReader(text.splitlines())
    if "scientific_name" not in (rows.fieldnames or ()):
        columns = ", ".join(rows.fieldnames or ()) or "nothing"
        raise ValueError(f"{file}: expected a column scientific_name; found {columns}")
    return [(rows.line_num, {name: value or "" for name, value in row.items() if name}) for row in rows]


def _taxon(row: Mapping[str, str], where: str) -> Taxon:
    given = {name: " ".join(value.split()) for name, value in row.items() if isinstance(value, str)}
    name = given["scientific_name"]
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
