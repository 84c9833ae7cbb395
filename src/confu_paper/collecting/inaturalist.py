"""Photos of each species from iNaturalist: research grade, Creative Commons, a seeded choice, author and licence kept.

Fields and parameters are those of iNaturalist's API v1 (https://api.inaturalist.org/v1/docs/): observations have `id`
and `photos`, photos have `id`, `license_code`, `attribution`, `flags` and `url`, whose last part names the size. A page
has at most 200 observations, and pages end at 10,000: further ones are reached by `id_above` and `id_below`. Its terms
ask for 60 requests a minute and 10,000 a day at most; the photos themselves lie in a public bucket.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from confu_paper.collecting.client import FileLimits
from confu_paper.collecting.collection import Collection, Taxon
from confu_paper.collecting.fetch import FileRequest, fetch_files, logged_answer
from confu_paper.collecting.step_log import StepLog, generator_of, seed_of

LICENCES = ("cc0", "cc-by", "cc-by-nc")
_PER_PAGE = 200
_MAX_BYTES = 25 << 20


def collect_photos(job: Collection) -> StepLog:
    """Fetch photos to `photos/TAXON/ID.jpg`, noted in `photos.jsonl`; the answers are kept in `photos_found.jsonl`.

    The choice is a seeded random one, of different observations before further photos of one. Where a species has more
    than twice as many observations as requested photos, they are drawn from pages at random places. With a larger
    `per_species` later, the photos that are there stay.

    Returns:
        the log; records have taxon_id, observation, licence, attribution, source_url, page_url, and if kept file and
        sha256.

    Raises:
        ValueError: settings other than those of an earlier run.
        Unavailable: iNaturalist does not answer; what was finished stays.
    """
    settings = {"licences": sorted(LICENCES), "seed": job.seed}
    pages = job.log("photos_found", settings)
    log = job.log("photos", {**settings, "size": job.photo_size})

    def candidates(taxon: Taxon) -> Iterator[FileRequest]:
        number = str(taxon.taxon_id)
        ranked: dict[int, tuple[tuple[int, int, int], dict[str, Any]]] = {}
        for last_resort, page in _pages(job, pages, number):
            for photo in page["photos"] if page["outcome"] == "listed" else ():
                rank = (last_resort, photo["nth"], seed_of(job.seed, "photo", photo["id"]))
                ranked.setdefault(photo["id"], (rank, photo))
        for _, photo in sorted(ranked.values(), key=lambda pair: pair[0]):
            yield _file_request(photo, number, job.photo_size)

    return fetch_files(job, log, FileLimits("image", _MAX_BYTES, _check_readable), candidates)


def _pages(job: Collection, log: StepLog, number: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Pages of observations, with 1 for one that is only a last resort: the newest, where others are drawn."""

    def page(name: str, **place: str | int) -> dict[str, Any]:
        params = {
            "taxon_id": number,
            "quality_grade": "research",
            "photos": "true",
            "photo_license": ",".join(LICENCES),
            "per_page": _PER_PAGE,
            "order_by": "id",
            **place,
        }
        address = f"{job.addresses.inaturalist}/observations"
        return logged_answer(log, f"{number}/{name}", lambda: _listed(job.http.json(address, params)), number)

    newest = page("newest", order="desc")
    if newest["outcome"] != "listed":
        return
    pages = max(1, math.ceil(2 * job.per_species / _PER_PAGE))
    sampled = newest["total"] > pages * _PER_PAGE
    yield int(sampled), newest
    if sampled:
        for draw in generator_of(job.seed, "pages", number).integers(newest["last"], size=pages):
            yield 0, page(f"above-{draw}", order="asc", id_above=int(draw))
        return
    below, left = newest["first"], newest["total"] - newest["observations"]
    while left > 0:
        further = page(f"below-{below}", order="desc", id_below=below)
        if further["outcome"] != "listed":
            return
        yield 0, further
        below, left = further["first"], left - further["observations"]


def _listed(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a page: `nth` is a photo's place among those of its observation."""
    photos = []
    for observation in answer["results"]:
        usable = [
            photo
            for photo in observation["photos"]
            if isinstance(photo["id"], int)  # it becomes a file's name
            and photo.get("license_code") in LICENCES
            and not photo.get("flags")
            and photo.get("url")
        ]
        for nth, photo in enumerate(usable):
            rights = {"licence": photo["license_code"], "attribution": photo.get("attribution", "")}
            about = {"id": photo["id"], "nth": nth, "observation": observation["id"]}
            photos.append({**about, **rights, "url": photo["url"]})
    ids = [observation["id"] for observation in answer["results"]]
    if not ids:
        return {"outcome": "no photos"}
    counts = {"total": answer["total_results"], "observations": len(ids), "first": min(ids), "last": max(ids)}
    return {"outcome": "listed", **counts, "photos": photos}


def _file_request(photo: Mapping[str, Any], number: str, size: str) -> FileRequest:
    folder, _, name = photo["url"].rpartition("/")
    about = {fact: photo[fact] for fact in ("observation", "licence", "attribution")}
    record = {"taxon_id": number, **about, "page_url": f"https://www.inaturalist.org/photos/{photo['id']}"}
    url = f"{folder}/{name.replace('square', size, 1)}"
    return FileRequest(f"{number}/{photo['id']}", url, f"photos/{number}/{photo['id']}", record)


def _check_readable(file: Path) -> None:
    from PIL import Image

    try:
        with Image.open(file) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow names the file, which is a temporary one.
        raise ValueError(str(error).replace(str(file), "the picture")) from error
