"""Photos of each species from iNaturalist: research grade, Creative Commons, a seeded choice, author and licence kept.

Fields and parameters are those of iNaturalist's API v1 (https://api.inaturalist.org/v1/docs/): observations have `id`
and `photos`, photos have `id`, `license_code`, `attribution`, `flags` and `url`, whose last part names the size. A page
has at most 200 observations, and pages end at 10,000: further ones are reached by `id_above` and `id_below`. Its terms
ask for 60 requests a minute and 10,000 a day at most; the photos themselves lie in a public bucket.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from confu.checks import check_known
from confu_paper.collecting.asking import progress_bar
from confu_paper.collecting.downloads import Downloads, Wanted, answered, clear_partial
from confu_paper.collecting.http import Client
from confu_paper.collecting.seeds import chance, seed_of
from confu_paper.collecting.steps import StepLog
from confu_paper.collecting.taxa import INATURALIST, Taxon

LICENCES = ("cc0", "cc-by", "cc-by-nc")
SIZES = ("small", "medium", "large", "original")  # at most 240, 500, 1024 and 2048 pixels a side
_PER_PAGE = 200
_MOST_BYTES = 25 << 20


def collect_photos(
    taxa: Sequence[Taxon],
    out: Path,
    client: Client,
    per_species: int = 1000,
    seed: int = 0,
    licences: Sequence[str] = LICENCES,
    size: str = "medium",
    api: str = INATURALIST,
    progress: bool = True,
) -> StepLog:
    """Fetch photos to `photos/TAXON/ID.jpg` and note them in `photos.jsonl`; what was asked is in `photos_found.jsonl`.

    The choice is a seeded random one, of different observations before further photos of one. Where a species has more
    than twice as many observations as photos are wanted, they are drawn from pages at random places. Asked for more
    photos later, it keeps those that are there.

    Args:
        taxa: species with their numbers.
        out: the collection's folder.
        client: asks.
        per_species: photos of each; fewer if there are not so many.
        seed: of the choice.
        licences: iNaturalist's codes of those that are taken.
        size: "small", "medium" (500 pixels at most), "large" or "original".
        api: address of the API.
        progress: show a bar on the terminal.

    Returns:
        the log; records have taxon_id, observation, licence, attribution, source_url, page_url, and if kept file and
        sha256.

    Raises:
        ValueError: an unknown size, settings other than those of an earlier run, a species without its number.
        Unavailable: iNaturalist does not answer; what was finished stays.
    """
    check_known("size", size, SIZES)
    if per_species < 1:
        raise ValueError(f"per_species: expected 1 photo or more; got {per_species}")
    found = StepLog(out / "photos_found.jsonl", {"licences": sorted(licences), "seed": seed})
    log = StepLog(out / "photos.jsonl", {"licences": sorted(licences), "seed": seed, "size": size})
    clear_partial(out / "photos")
    downloads = Downloads(client, log, out, "image", _MOST_BYTES, _check_readable)
    kept = Counter(record["taxon_id"] for record in log if record["outcome"] == "kept")
    with progress_bar("photos", progress) as bar:
        shown = bar.add_task("photos", total=per_species * len(taxa))
        for place, taxon in enumerate(taxa, start=1):
            number = _number(taxon)
            bar.update(shown, completed=(place - 1) * per_species + kept[number])
            if kept[number] >= per_species:
                continue
            for photo in _candidates(taxon, found, client, per_species, seed, licences, api):
                wanted = _wanted(photo, number, size)
                if log.done(wanted.key):
                    continue
                kept[number] += downloads.keep(wanted)
                bar.update(shown, completed=(place - 1) * per_species + kept[number])
                if kept[number] >= per_species:
                    break
        downloads.finish()
    return log


def _number(taxon: Taxon) -> str:
    if taxon.taxon_id is None:
        raise ValueError(f"{taxon.scientific_name}: its number at iNaturalist is not known; look the species up first")
    return taxon.taxon_id


def _candidates(
    taxon: Taxon, found: StepLog, client: Client, per_species: int, seed: int, licences: Sequence[str], api: str
) -> list[dict[str, Any]]:
    """All photos that may be taken, in the order in which they are."""
    ranked: dict[int, tuple[tuple[int, int, int], dict[str, Any]]] = {}
    for last, page in _pages(taxon, found, client, per_species, seed, licences, api):
        for photo in page["photos"] if page["outcome"] == "listed" else ():
            rank = (last, photo["nth"], seed_of(seed, "photo", photo["id"]))
            ranked.setdefault(photo["id"], (rank, photo))
    return [photo for _, photo in sorted(ranked.values(), key=lambda one: one[0])]


def _pages(
    taxon: Taxon, found: StepLog, client: Client, per_species: int, seed: int, licences: Sequence[str], api: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Pages of observations, with 1 for one that is only a last resort: the newest, if it is not one of all."""
    number = _number(taxon)
    fixed = {
        "taxon_id": number, "quality_grade": "research", "photos": "true", "photo_license": ",".join(licences),
        "per_page": _PER_PAGE, "order_by": "id",
    }  # fmt: skip

    def page(name: str, **place: str | int) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            return _listed(client.json(f"{api}/observations", {**fixed, **place}), licences)

        return answered(found, f"{number}/{name}", ask, {"taxon_id": number})

    newest = page("newest", order="desc")
    if newest["outcome"] != "listed":
        return
    pages = max(1, math.ceil(2 * per_species / _PER_PAGE))
    sampled = newest["total"] > pages * _PER_PAGE
    yield int(sampled), newest
    if sampled:
        draws = chance(seed, "pages", number).integers(newest["last"], size=pages)
        for draw in draws:
            yield 0, page(f"above-{draw}", order="asc", id_above=int(draw))
        return
    below, left = newest["first"], newest["total"] - newest["observations"]
    while left > 0:
        further = page(f"below-{below}", order="desc", id_below=below)
        if further["outcome"] != "listed":
            return
        yield 0, further
        below, left = further["first"], left - further["observations"]


def _listed(answer: Mapping[str, Any], licences: Sequence[str]) -> dict[str, Any]:
    """What is kept of a page: `nth` is a photo's place among those of its observation."""
    photos = []
    for observation in answer["results"]:
        usable = [
            photo
            for photo in observation["photos"]
            if isinstance(photo["id"], int)  # it becomes a file's name
            and photo.get("license_code") in licences
            and not photo.get("flags")
            and photo.get("url")
        ]
        photos += [
            {"id": photo["id"], "nth": nth, "observation": observation["id"], "licence": photo["license_code"],
             "attribution": photo.get("attribution", ""), "url": photo["url"]}
            for nth, photo in enumerate(usable)
        ]  # fmt: skip
    if not answer["results"]:
        return {"outcome": "no photos"}
    ids = [observation["id"] for observation in answer["results"]]
    return {
        "outcome": "listed", "total": answer["total_results"], "observations": len(ids), "first": min(ids),
        "last": max(ids), "photos": photos,
    }  # fmt: skip


def _wanted(photo: Mapping[str, Any], number: str, size: str) -> Wanted:
    folder, _, name = photo["url"].rpartition("/")
    url = f"{folder}/{name.replace('square', size, 1)}"
    record = {
        "taxon_id": number, "observation": photo["observation"], "licence": photo["licence"],
        "attribution": photo["attribution"], "page_url": f"https://www.inaturalist.org/photos/{photo['id']}",
    }  # fmt: skip
    return Wanted(f"{number}/{photo['id']}", url, f"photos/{number}/{photo['id']}", record)


def _check_readable(file: Path) -> None:
    try:
        with Image.open(file) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow names the file, which is a temporary one.
        raise ValueError(str(error).replace(str(file), "the picture")) from error
