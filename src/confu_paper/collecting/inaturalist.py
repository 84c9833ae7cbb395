"""Photos of each species from iNaturalist: research grade, Creative Commons, a seeded choice, author and licence kept.

Fields and parameters are those of iNaturalist's API v1 (https://api.inaturalist.org/v1/docs/): observations have `id`
and `photos`, photos have `id`, `license_code`, `attribution`, `flags` and `url`, whose last part names the size. A page
has at most 200 observations, and pages end at 10,000: further ones are reached by `id_above` and `id_below`. Its terms
ask for 60 requests a minute and 10,000 a day at most; the photos themselves lie in a public bucket.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confu.checks import check_known
from confu_paper.collecting.body import FileLimits
from confu_paper.collecting.client import Client
from confu_paper.collecting.downloads import Downloads, FileRequest, clear_partial, logged_answer
from confu_paper.collecting.seeds import generator_of, seed_of
from confu_paper.collecting.step_log import StepLog, progress_bar
from confu_paper.collecting.taxa import INATURALIST, Taxon

LICENCES = ("cc0", "cc-by", "cc-by-nc")
SIZES = ("small", "medium", "large", "original")  # at most 240, 500, 1024 and 2048 pixels a side
_PER_PAGE = 200
_MAX_BYTES = 25 << 20


def collect_photos(
    taxa: Sequence[Taxon],
    out: Path,
    client: Client,
    per_species: int = 1000,
    seed: int = 0,
    size: str = "medium",
    api: str = INATURALIST,
    progress: bool = True,
) -> StepLog:
    """Fetch photos to `photos/TAXON/ID.jpg`, noted in `photos.jsonl`; the answers are kept in `photos_found.jsonl`.

    The choice is a seeded random one, of different observations before further photos of one. Where a species has more
    than twice as many observations as requested photos, they are drawn from pages at random places. With a larger
    `per_species` later, the photos that are there stay.

    Args:
        taxa: species with their numbers.
        out: the collection's folder.
        client: sends the requests.
        per_species: photos of each; fewer if there are not so many.
        seed: of the choice.
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
    settings = {"licences": sorted(LICENCES), "seed": seed}
    pages = StepLog(out / "photos_found.jsonl", settings)
    log = StepLog(out / "photos.jsonl", {**settings, "size": size})
    clear_partial(out / "photos")
    downloads = Downloads(client, log, out, FileLimits("image", _MAX_BYTES, _check_readable))
    kept = Counter(record["taxon_id"] for record in log if record["outcome"] == "kept")
    with progress_bar("photos", progress) as bar:
        task = bar.add_task("photos", total=per_species * len(taxa))
        for place, taxon in enumerate(taxa):
            if taxon.taxon_id is None:
                raise ValueError(
                    f"{taxon.scientific_name}: its number at iNaturalist is not known; look the species up first"
                )
            number = taxon.taxon_id
            bar.update(task, completed=place * per_species + kept[number])
            if kept[number] >= per_species:
                continue
            for photo in _Search(number, pages, client, per_species, seed, api).photos():
                request = _file_request(photo, number, size)
                if log.done(request.key):
                    continue
                kept[number] += downloads.keep(request)
                bar.update(task, completed=place * per_species + kept[number])
                if kept[number] >= per_species:
                    break
        downloads.finish()
    return log


@dataclass(frozen=True)
class _Search:
    """The observations of one species."""

    number: str
    log: StepLog
    client: Client
    per_species: int
    seed: int
    api: str

    def photos(self) -> list[dict[str, Any]]:
        """All photos that may be taken, in the order in which they are."""
        ranked: dict[int, tuple[tuple[int, int, int], dict[str, Any]]] = {}
        for last_resort, page in self._pages():
            for photo in page["photos"] if page["outcome"] == "listed" else ():
                rank = (last_resort, photo["nth"], seed_of(self.seed, "photo", photo["id"]))
                ranked.setdefault(photo["id"], (rank, photo))
        return [photo for _, photo in sorted(ranked.values(), key=lambda pair: pair[0])]

    def _pages(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Pages of observations, with 1 for one that is only a last resort: the newest, where others are drawn."""
        newest = self._page("newest", order="desc")
        if newest["outcome"] != "listed":
            return
        pages = max(1, math.ceil(2 * self.per_species / _PER_PAGE))
        sampled = newest["total"] > pages * _PER_PAGE
        yield int(sampled), newest
        if sampled:
            draws = generator_of(self.seed, "pages", self.number).integers(newest["last"], size=pages)
            for draw in draws:
                yield 0, self._page(f"above-{draw}", order="asc", id_above=int(draw))
            return
        below, left = newest["first"], newest["total"] - newest["observations"]
        while left > 0:
            page = self._page(f"below-{below}", order="desc", id_below=below)
            if page["outcome"] != "listed":
                return
            yield 0, page
            below, left = page["first"], left - page["observations"]

    def _page(self, name: str, **place: str | int) -> dict[str, Any]:
        params = {
            "taxon_id": self.number,
            "quality_grade": "research",
            "photos": "true",
            "photo_license": ",".join(LICENCES),
            "per_page": _PER_PAGE,
            "order_by": "id",
            **place,
        }

        def ask() -> dict[str, Any]:
            return _listed(self.client.json(f"{self.api}/observations", params))

        return logged_answer(self.log, f"{self.number}/{name}", ask, {"taxon_id": self.number})


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
    record = {
        "taxon_id": number,
        "observation": photo["observation"],
        "licence": photo["licence"],
        "attribution": photo["attribution"],
        "page_url": f"https://www.inaturalist.org/photos/{photo['id']}",
    }
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
