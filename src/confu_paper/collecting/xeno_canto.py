"""Recordings of each species from xeno-canto, with their recordist, licence and tags.

Fields and parameters are those of xeno-canto's API v3 (https://xeno-canto.org/explore/api): `query` with tags, `key`,
`page`, `per_page` from 50 to 500; the answer has `numRecordings`, `numPages` and `recordings` with `id`, `rec`, `lic`,
`file` (empty where a species' recordings are withheld), `length` as m:ss, `type`, `sex`, `stage`, `q`. Every member of
xeno-canto has a key. It is asked once in four seconds, its page on the API names a limit, and busy clients are blocked.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confu_paper.collecting.asking import progress_bar
from confu_paper.collecting.downloads import Downloads, Wanted, answered, clear_partial
from confu_paper.collecting.http import Client
from confu_paper.collecting.received import Refused
from confu_paper.collecting.seeds import seed_of
from confu_paper.collecting.steps import StepLog
from confu_paper.collecting.taxa import Taxon

XENO_CANTO = "https://xeno-canto.org/api/3"
KEY_VARIABLE = "XENO_CANTO_KEY"
CLIP_SECONDS = 10.0
_PAGES = 4  # of 500 recordings: from so many is chosen, of the few species that have more
_MOST_BYTES = 300 << 20


def collect_recordings(
    taxa: Sequence[Taxon],
    out: Path,
    client: Client,
    key: str | None = None,
    clips_per_species: int = 1000,
    longest: float = 600.0,
    licences: Sequence[str] | None = None,
    seed: int = 0,
    api: str = XENO_CANTO,
    progress: bool = True,
) -> StepLog:
    """Fetch recordings to `recordings/GENUS_SPECIES/ID.mp3` (or what they are) and note them in `recordings.jsonl`.

    Recordings are taken in a seeded random order until they give as many clips as are wanted, or until there is none
    left. What was asked is in `recordings_found.jsonl`. The key goes over the wire and nowhere else.

    Args:
        taxa: the species.
        out: the collection's folder.
        client: asks.
        key: of the user at xeno-canto; None takes the environment variable XENO_CANTO_KEY.
        clips_per_species: clips of 10 s that the recordings of a species shall give together.
        longest: seconds; longer recordings are passed over.
        licences: those that are taken, e.g. ["cc-by-nc-sa"]; None takes every Creative Commons one.
        seed: of the choice.
        api: address of the API.
        progress: show a bar on the terminal.

    Returns:
        the log; records have taxon_id, recording, seconds, tags (type, sex, stage), quality, licence, licence_url,
        attribution, source_url, page_url, and if kept file and sha256.

    Raises:
        ValueError: no key, or one that xeno-canto refuses; settings other than those of an earlier run.
        Unavailable: xeno-canto does not answer; what was finished stays.
    """
    settings = {"longest": float(longest), "licences": sorted(licences) if licences else None, "seed": seed}
    found = StepLog(out / "recordings_found.jsonl", {"per_page": 500})
    log = StepLog(out / "recordings.jsonl", settings)
    clear_partial(out / "recordings")
    downloads = Downloads(client, log, out, "audio", _MOST_BYTES)
    clips: Counter[str] = Counter()
    for record in log:
        clips[record["taxon_id"]] += _clips(record["seconds"]) if record["outcome"] == "kept" else 0
    with progress_bar("recordings", progress) as bar:
        for taxon in bar.track(taxa, description="recordings"):
            number = taxon.taxon_id or taxon.folder
            if clips[number] >= clips_per_species:
                continue
            for recording in _recordings(taxon, number, found, client, key, api, seed):
                wanted = _wanted(recording, taxon, number)
                usable = recording["seconds"] <= longest and _allowed(recording["licence"], licences)
                if log.done(wanted.key) or not usable:
                    continue
                clips[number] += _clips(recording["seconds"]) if downloads.keep(wanted) else 0
                if clips[number] >= clips_per_species:
                    break
        downloads.finish()
    return log


def _recordings(
    taxon: Taxon, number: str, found: StepLog, client: Client, key: str | None, api: str, seed: int
) -> list[dict[str, Any]]:
    """All recordings of a species that may be fetched, in the order in which they are."""
    listed: dict[str, dict[str, Any]] = {}
    for name in taxon.sound_names or (taxon.scientific_name,):
        page, pages = 1, 1
        while page <= min(pages, _PAGES):

            def ask(name: str = name, page: int = page) -> dict[str, Any]:
                return _listed(_page(name, page, client, key, api))

            record = answered(found, f"{number}/{name}/{page}", ask, {"taxon_id": number})
            if record["outcome"] != "listed":
                break
            listed.update({recording["id"]: recording for recording in record["recordings"]})
            page, pages = page + 1, record["pages"]
    return sorted(listed.values(), key=lambda recording: seed_of(seed, "recording", recording["id"]))


def _page(name: str, page: int, client: Client, key: str | None, api: str) -> dict[str, Any]:
    key = key or os.environ.get(KEY_VARIABLE)
    if not key:
        raise ValueError(
            f"key: xeno-canto asks for one; set the environment variable {KEY_VARIABLE}. "
            "Members find theirs at https://xeno-canto.org/account"
        )
    params = {"query": f'sp:"{name.lower()}"', "per_page": 500, "page": page}
    try:
        return client.json(f"{api}/recordings", params, secrets={"key": key})
    except Refused as refused:
        if refused.reason.startswith("HTTP 401"):
            raise ValueError(
                f"key: xeno-canto refuses it: {refused.reason}. Members find theirs at https://xeno-canto.org/account"
            ) from None
        raise


def _listed(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a page: the recordings that have a file and a licence."""
    recordings = [
        {
            "id": str(one["id"]), "seconds": _seconds(one.get("length", "")), "licence": licence_name(one["lic"]),
            "licence_url": _address(one["lic"]), "recordist": one.get("rec", ""), "url": _address(one["file"]),
            "quality": one.get("q", ""), "tags": {tag: one.get(tag) or "" for tag in ("type", "sex", "stage")},
        }
        for one in answer["recordings"]
        if str(one["id"]).isdigit() and one.get("file") and one.get("lic")  # the id becomes a file's name
    ]  # fmt: skip
    outcome = "listed" if recordings else "no recordings"
    return {"outcome": outcome, "pages": int(answer["numPages"]), "recordings": recordings}


def _wanted(recording: Mapping[str, Any], taxon: Taxon, number: str) -> Wanted:
    name = f"XC{recording['id']}"
    page = f"https://xeno-canto.org/{recording['id']}"
    record = {
        "taxon_id": number, "recording": name, "scientific_name": taxon.scientific_name,
        "common_name": taxon.common_name, "seconds": recording["seconds"], "tags": recording["tags"],
        "quality": recording["quality"], "licence": recording["licence"], "licence_url": recording["licence_url"],
        "attribution": f"{recording['recordist']}, {name}. Accessible at {page}", "page_url": page,
    }  # fmt: skip
    return Wanted(name, recording["url"], f"recordings/{taxon.folder}/{recording['id']}", record)


def licence_name(address: str) -> str:
    """A Creative Commons licence by its address, in the form that iNaturalist's codes have, with its version.

    >>> licence_name("//creativecommons.org/licenses/by-nc-sa/4.0/")
    'cc-by-nc-sa-4.0'
    """
    match = re.search(r"creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)(?:/([\d.]+))?", address)
    if match is None:
        return address
    name = "cc0" if match[1] == "zero" else f"cc-{match[1]}"
    return f"{name}-{match[2]}" if match[2] else name


def _allowed(licence: str, licences: Sequence[str] | None) -> bool:
    return licence.startswith("cc") if licences is None else re.sub(r"-[\d.]+$", "", licence) in licences


def _address(address: str) -> str:
    """Addresses come without their scheme in some answers."""
    return f"https:{address}" if address.startswith("//") else address


def _seconds(length: str) -> float:
    """The seconds of m:ss or h:mm:ss; 0 where nothing is said."""
    parts = [float(part) for part in length.split(":")] if re.fullmatch(r"[\d.]+(:[\d.]+)*", length) else []
    return sum(part * 60**place for place, part in enumerate(reversed(parts)))


def _clips(seconds: float) -> int:
    return max(1, math.ceil(seconds / CLIP_SECONDS))
