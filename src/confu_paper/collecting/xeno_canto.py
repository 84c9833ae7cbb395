"""Recordings of each species from xeno-canto, with their recordist, licence and tags.

Fields and parameters are those of xeno-canto's API v3 (https://xeno-canto.org/explore/api): `query` with tags, `key`,
`page`, `per_page` from 50 to 500; the answer has `numRecordings`, `numPages` and `recordings` with `id`, `rec`, `lic`,
`file` (empty where a species' recordings are withheld), `length` as m:ss, `type`, `sex`, `stage`, `q`. Every member of
xeno-canto has a key. It is asked once in four seconds, its page on the API names a limit, and busy clients are blocked.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from confu_paper.collecting.client import FileLimits, Refused
from confu_paper.collecting.collection import Collection, Taxon
from confu_paper.collecting.fetch import FileRequest, fetch_files, logged_answer
from confu_paper.collecting.step_log import StepLog, seed_of

KEY_VARIABLE = "XENO_CANTO_KEY"
CLIP_SECONDS = 10.0
LONGEST = 600.0  # seconds; longer recordings are passed over
_MAX_PAGES = 4  # of 500 recordings: as many are chosen from, of the few species that have more
_MAX_BYTES = 300 << 20


def collect_recordings(job: Collection) -> StepLog:
    """Fetch recordings to `recordings/GENUS_SPECIES/ID.mp3` (or what they are) and note them in `recordings.jsonl`.

    Recordings under a Creative Commons licence are taken in a seeded random order until they give `per_species` clips,
    or until none is left. The answers are kept in `recordings_found.jsonl`; the key is written nowhere.

    Returns:
        the log; records have taxon_id, recording, seconds, tags (type, sex, stage), quality, licence, licence_url,
        attribution, source_url, page_url, and if kept file and sha256.

    Raises:
        ValueError: no key, or one that xeno-canto refuses; settings other than those of an earlier run.
        Unavailable: xeno-canto does not answer; what was finished stays.
    """
    pages = job.log("recordings_found", {"per_page": 500})
    log = job.log("recordings", {"longest": LONGEST, "licences": None, "seed": job.seed})

    def candidates(taxon: Taxon) -> Iterator[FileRequest]:
        for recording in _recordings(job, pages, taxon):
            if recording["seconds"] <= LONGEST and recording["licence"].startswith("cc"):
                yield _file_request(recording, taxon)

    def num_clips(record: Mapping[str, Any]) -> int:
        return max(1, math.ceil(record["seconds"] / CLIP_SECONDS))

    return fetch_files(job, log, FileLimits("audio", _MAX_BYTES), candidates, num_clips)


def api_key(job: Collection) -> str:
    """The user's key.

    Raises:
        ValueError: there is none.
    """
    key = job.key or os.environ.get(KEY_VARIABLE)
    if not key:
        raise ValueError(
            f"key: the step 'recordings' needs a key of xeno-canto's API; set the environment variable {KEY_VARIABLE}. "
            "Members find theirs at https://xeno-canto.org/account"
        )
    return key


def _recordings(job: Collection, log: StepLog, taxon: Taxon) -> list[dict[str, Any]]:
    """All recordings of a species that may be fetched, in the order in which they are."""

    def ask(name: str, page: int) -> dict[str, Any]:
        params = {"query": f'sp:"{name.lower()}"', "per_page": 500, "page": page}
        try:
            key = {"key": api_key(job)}
            return _listed(job.http.json(f"{job.addresses.xeno_canto}/recordings", params, secrets=key))
        except Refused as refused:
            if refused.reason.startswith("HTTP 401"):
                raise ValueError(
                    f"key: xeno-canto refuses it: {refused.reason}. Members find theirs at "
                    "https://xeno-canto.org/account"
                ) from None
            raise

    number, listed = str(taxon.taxon_id), {}
    for name in taxon.sound_names or (taxon.scientific_name,):
        page, pages = 1, 1
        while page <= min(pages, _MAX_PAGES):
            record = logged_answer(log, f"{number}/{name}/{page}", partial(ask, name, page), number)
            if record["outcome"] != "listed":
                break
            listed.update({recording["id"]: recording for recording in record["recordings"]})
            page, pages = page + 1, record["pages"]
    return sorted(listed.values(), key=lambda recording: seed_of(job.seed, "recording", recording["id"]))


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


def _file_request(recording: Mapping[str, Any], taxon: Taxon) -> FileRequest:
    name, page = f"XC{recording['id']}", f"https://xeno-canto.org/{recording['id']}"
    record = {
        "taxon_id": taxon.taxon_id,
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
