"""The steps that ask the sources: species, photos, recordings and their clips, sections of articles."""

from confu_paper.collecting.clips import cut_clips
from confu_paper.collecting.inaturalist import collect_photos
from confu_paper.collecting.jobs import Job
from confu_paper.collecting.taxa import resolve_taxa
from confu_paper.collecting.wikipedia import collect_sections
from confu_paper.collecting.xeno_canto import collect_recordings


def fetch_taxa(job: Job) -> None:
    """`taxa.jsonl`: number and names of each species."""
    resolve_taxa(job.listed, job.out, job.client, job.addresses.inaturalist, job.progress)


def fetch_photos(job: Job) -> None:
    """`photos.jsonl` and photos/: as many photos of each species as rows are wanted."""
    collect_photos(
        list(job.taxa.values()), job.out, job.client, job.per_species, job.seed, size=job.photo_size,
        api=job.addresses.inaturalist, progress=job.progress,
    )  # fmt: skip


def fetch_recordings(job: Job) -> None:
    """`recordings.jsonl` and recordings/: until they give as many clips as rows are wanted."""
    collect_recordings(
        list(job.taxa.values()), job.out, job.client, job.key, job.per_species, seed=job.seed,
        api=job.addresses.xeno_canto, progress=job.progress,
    )  # fmt: skip


def make_clips(job: Job) -> None:
    """`clips.jsonl` and audio/."""
    cut_clips(job.out, progress=job.progress)


def fetch_sections(job: Job) -> None:
    """`sections.jsonl`."""
    collect_sections(list(job.taxa.values()), job.out, job.client, job.addresses.wikipedia, job.progress)


SOURCE_STEPS = {
    "taxa": fetch_taxa,
    "photos": fetch_photos,
    "recordings": fetch_recordings,
    "clips": make_clips,
    "sections": fetch_sections,
}
"""By name, in order; each takes a `Job`."""
