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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confu_paper.collecting.body import FileLimits, Refused
from confu_paper.collecting.client import Client
from confu_paper.collecting.downloads import Downloads, FileRequest, clear_partial, logged_answer
from confu_paper.collecting.seeds import seed_of
from confu_paper.collecting.step_log import StepLog, progress_bar
from confu_paper.collecting.taxa import Taxon

XENO_CANTO = "https://xeno-canto.org/api/3"
KEY_VARIABLE = "XENO_CANTO_KEY"
CLIP_SECONDS = 10.0
LONGEST = 600.0  # seconds; longer recordings are passed over
_MAX_PAGES = 4  # of 500 recordings: as many are chosen from, of the few species that have more
_MAX_BYTES = 300 << 20
_ACCOUNT = "Members find theirs at https://xeno-canto.org/account"


def collect_recordings(
    taxa: Sequence[Taxon],
    out: Path,
    client: Client,
    key: str | None = None,
    clips_per_species: int = 1000,
    seed: int = 0,
    api: str = XENO_CANTO,
    progress: bool = True,
) -> StepLog:
    """Fetch recordings to `recordings/GENUS_SPECIES/ID.mp3` (or what they are) and note them in `recordings.jsonl`.

    Recordings under a Creative Commons licence are taken in a seeded random order until they give as many clips as
    requested, or until none is left. The answers are kept in `recordings_found.jsonl`; the key is written nowhere.

    Args:
        taxa: the species.
        out: the collection's folder.
        client: sends the requests.
        key: of the user at xeno-canto; None takes the environment variable XENO_CANTO_KEY.
        clips_per_species: clips of 10 s that the recordings of a species shall give together.
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
    pages = StepLog(out / "recordings_found.jsonl", {"per_page": 500})
    log = StepLog(out / "recordings.jsonl", {"longest": LONGEST, "licences": None, "seed": seed})
    clear_partial(out / "recordings")
    downloads = Downloads(client, log, out, FileLimits("audio", _MAX_BYTES))
    clips: Counter[str] = Counter()
    for record in log:
        clips[record["taxon_id"]] += _num_clips(record["seconds"]) if record["outcome"] == "kept" else 0
    search = _Search(pages, client, key, api, seed)
    with progress_bar("recordings", progress) as bar:
        for taxon in bar.track(taxa, description="recordings"):
            number = taxon.taxon_id or taxon.folder
            if clips[number] >= clips_per_species:
                continue
            for recording in search.recordings(taxon, number):
                request = _file_request(recording, taxon, number)
                usable = recording["seconds"] <= LONGEST and recording["licence"].startswith("cc")
                if log.done(request.key) or not usable:
                    continue
                clips[number] += _num_clips(recording["seconds"]) if downloads.keep(request) else 0
                if clips[number] >= clips_per_species:
                    break
        downloads.finish()
    return log


@dataclass(frozen=True)
class _Search:
    """The lists of recordings."""

    log: StepLog
    client: Client
    key: str | None
    api: str
    seed: int

    def recordings(self, taxon: Taxon, number: str) -> list[dict[str, Any]]:
        """All recordings of a species that may be fetched, in the order in which they are."""
        listed: dict[str, dict[str, Any]] = {}
        for name in taxon.sound_names or (taxon.scientific_name,):
            page, pages = 1, 1
            while page <= min(pages, _MAX_PAGES):

                def ask(name: str = name, page: int = page) -> dict[str, Any]:
                    return _listed(self._page(name, page))

                record = logged_answer(self.log, f"{number}/{name}/{page}", ask, {"taxon_id": number})
                if record["outcome"] != "listed":
                    break
                listed.update({recording["id"]: recording for recording in record["recordings"]})
                page, pages = page + 1, record["pages"]
        return sorted(listed.values(), key=lambda recording: seed_of(self.seed, "recording", recording["id"]))

    def _page(self, name: str, page: int) -> dict[str, Any]:
        key = self.key or os.environ.get(KEY_VARIABLE)
        if not key:
            raise ValueError(f"key: xeno-canto asks for one; set the environment variable {KEY_VARIABLE}. {_ACCOUNT}")
        params = {"query": f'sp:"{name.lower()}"', "per_page": 500, "page": page}
        try:
            return self.client.json(f"{self.api}/recordings", params, secrets={"key": key})
        except Refused as refused:
            if refused.reason.startswith("HTTP 401"):
                raise ValueError(f"key: xeno-canto refuses it: {refused.reason}. {_ACCOUNT}") from None
            raise


def _listed(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a page: the recordings that have a file and a licence."""
    recordings = [
        {
            "id": str(recording["id"]),
            "seconds": _seconds(recording.get("length", "")),
            "licence": licence_name(recording["lic"]),
            "licence_url": _with_scheme(recording["lic"]),
            "recordist": recording.get("rec", ""),
            "url": _with_scheme(recording["file"]),
            "quality": recording.get("q", ""),
            "tags": {tag: recording.get(tag) or "" for tag in ("type", "sex", "stage")},
        }
        for recording in answer["recordings"]
        # The id becomes a file's name.
        if str(recording["id"]).isdigit() and recording.get("file") and recording.get("lic")
    ]
    outcome = "listed" if recordings else "no recordings"
    return {"outcome": outcome, "pages": int(answer["numPages"]), "recordings": recordings}


def _file_request(recording: Mapping[str, Any], taxon: Taxon, number: str) -> FileRequest:
    name, page = f"XC{recording['id']}", f"https://xeno-canto.org/{recording['id']}"
    record = {
        "taxon_id": number,
        "recording": name,
        "scientific_name": taxon.scientific_name,
        "common_name": taxon.common_name,
        **{fact: recording[fact] for fact in ("seconds", "tags", "quality", "licence", "licence_url")},
        "attribution": f"{recording['recordist']}, {name}. Accessible at {page}",
        "page_url": page,
    }
    return FileRequest(name, recording["url"], f"recordings/{taxon.folder}/{recording['id']}", record)


def licence_name(address: str) -> str:
    """A Creative Commons licence by its address, in the form of iNaturalist's codes, with its version.

    >>> licence_name("//creativecommons.org/licenses/by-nc-sa/4.0/")
    'cc-by-nc-sa-4.0'
    """
    match = re.search(r"creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)(?:/([\d.]+))?", address)
    if match is None:
        return address
    name = "cc0" if match[1] == "zero" else f"cc-{match[1]}"
    return f"{name}-{match[2]}" if match[2] else name


def _with_scheme(address: str) -> str:
    return f"https:{address}" if address.startswith("//") else address


def _seconds(length: str) -> float:
    """The seconds of m:ss or h:mm:ss; 0 where nothing is said."""
    parts = [float(part) for part in length.split(":")] if re.fullmatch(r"[\d.]+(:[\d.]+)*", length) else []
    return sum(part * 60**place for place, part in enumerate(reversed(parts)))


def _num_clips(seconds: float) -> int:
    return max(1, math.ceil(seconds / CLIP_SECONDS))
