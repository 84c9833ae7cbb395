"""Triplets of photo, clip and summary: as many as photos of each species, clips reused where there are fewer."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confu_paper.collecting.seeds import generator_of

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Triplet:
    """A photo, a clip and a summary of one species.

    Attributes:
        taxon_id: of the species.
        photo: its record.
        clip: its record.
        image_caption: what is seen on the photo; the record.
        summary: of a section on the species; the record.
        reused: whether the clip stands in an earlier triplet already.
    """

    taxon_id: str
    photo: Record
    clip: Record
    image_caption: Record
    summary: Record
    reused: bool

    @property
    def key(self) -> str:
        """One a triplet: photos are used once."""
        return f"{self.photo['key']}+{self.clip['key']}+{self.summary['key']}"


@dataclass(frozen=True)
class Pairing:
    """All triplets, and what there was of each species.

    Attributes:
        triplets: species by species.
        counts: taxon_id -> photos (with a caption), clips, recordings, summaries, triplets, reused.
        lacking: taxon_id -> what there is none of, for the species that have no triplet.
    """

    triplets: list[Triplet]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    lacking: dict[str, list[str]] = field(default_factory=dict)


def pair(
    taxa: Sequence[str],
    photos: Iterable[Record],
    image_captions: Iterable[Record],
    clips: Iterable[Record],
    summaries: Iterable[Record],
    per_species: int = 1000,
    seed: int = 0,
) -> Pairing:
    """Put triplets together: of each species the smaller of `per_species` and its photos that have a caption.

    Clips come in random order, those of different recordings before further ones of the same; where there are fewer
    than photos, they are gone through again. Summaries are drawn anew for every photo. What is drawn for one species
    does not depend on the others.

    Args:
        taxa: the species, by taxon_id.
        photos: records with key, taxon_id and file; like all here, those alone count whose outcome is "kept".
        image_captions: records with the key of the photo.
        clips: records with key, taxon_id and recording.
        summaries: records with key, taxon_id and text.
        per_species: most triplets of each.
        seed: of the draws.

    Returns:
        the triplets. A species that lacks photos, clips or summaries has none and is named in `lacking`.
    """
    if per_species < 1:
        raise ValueError(f"per_species: expected 1 triplet or more; got {per_species}")
    captioned = {record["key"]: record for record in image_captions if record["outcome"] == "kept"}
    # Photos as they came, so that further ones change nothing of the first; others need an order that is always there.
    photos_of = _by_species(photo for photo in photos if photo["key"] in captioned)
    clips_of, summaries_of = (
        _by_species(sorted(records, key=lambda record: record["key"])) for records in (clips, summaries)
    )
    pairing = Pairing([])
    for taxon in taxa:
        pictures, sounds, texts = photos_of[taxon][:per_species], clips_of[taxon], summaries_of[taxon]
        counts = {"photos": len(photos_of[taxon]), "clips": len(sounds), "summaries": len(texts)}
        if lacking := [name for name, number in counts.items() if not number]:
            pairing.lacking[taxon] = lacking
            pictures = []
        order = _spread(sounds, taxon, seed)
        for place, photo in enumerate(pictures):
            text = texts[int(generator_of(seed, "summary", taxon, photo["key"]).integers(len(texts)))]
            clip = order[place % len(order)]
            pairing.triplets.append(
                Triplet(taxon, photo, clip, captioned[photo["key"]], text, reused=place >= len(order))
            )
        pairing.counts[taxon] = {
            **counts,
            "recordings": len({clip["recording"] for clip in sounds}),
            "triplets": len(pictures),
            "reused": max(0, len(pictures) - len(order)) if order else 0,
        }
    return pairing


def _spread(clips: Sequence[Record], taxon: str, seed: int) -> list[Record]:
    """In random order, but the first clip that is drawn of each recording before any second one."""
    draws = generator_of(seed, "clips", taxon)
    shuffled = [clips[place] for place in draws.permutation(len(clips))]
    counts: dict[str, int] = defaultdict(int)
    ranked = []
    for place, clip in enumerate(shuffled):
        ranked.append((counts[clip["recording"]], place, clip))
        counts[clip["recording"]] += 1
    return [clip for _, _, clip in sorted(ranked, key=lambda rank: rank[:2])]


def _by_species(records: Iterable[Record]) -> defaultdict[str, list[Record]]:
    """Those that were kept."""
    by_species: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.get("outcome", "kept") == "kept":
            by_species[str(record["taxon_id"])].append(record)
    return by_species
