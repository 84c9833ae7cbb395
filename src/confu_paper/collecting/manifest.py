"""The table of a collected data set: one row a triplet, with the licence and the author of each of its parts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from confu.files import written_whole
from confu_paper.collecting.merged import merge_question, tags_text
from confu_paper.collecting.taxa import Taxon
from confu_paper.collecting.triplets import Triplet

COLUMNS = {
    "id": pa.string(), "scientific_name": pa.string(), "audio_file": pa.string(), "photo_file": pa.string(),
    "combined_caption": pa.string(), "common_name": pa.string(), "taxon_id": pa.string(), "label": pa.string(),
    "group": pa.string(), "image_caption": pa.string(), "species_caption": pa.string(), "tags": pa.string(),
    "reused": pa.bool_(), "photo_licence": pa.string(), "photo_attribution": pa.string(), "photo_url": pa.string(),
    "audio_licence": pa.string(), "audio_licence_url": pa.string(), "audio_attribution": pa.string(),
    "audio_url": pa.string(), "text_licence": pa.string(), "text_licence_url": pa.string(),
    "text_attribution": pa.string(), "text_url": pa.string(),
}  # fmt: skip
"""Those of the published csv (scientific_name, audio_file, photo_file, combined_caption), and ours."""


@dataclass(frozen=True)
class Written:
    """What became of the triplets.

    Attributes:
        file: the manifest.
        rows: its rows.
        left_out: why triplets are not among them, and how many.
        named: the id and the reason of each that was left out.
    """

    file: Path
    rows: list[dict[str, Any]]
    left_out: dict[str, int] = field(default_factory=dict)
    named: list[tuple[str, str]] = field(default_factory=list)


def write_manifest(
    file: Path, triplets: Iterable[Triplet], taxa: Mapping[str, Taxon], captions: Mapping[str, Any]
) -> Written:
    """Write the rows of all triplets that have a caption and whose files are there, as Parquet, whole or not at all.

    Paths are relative to the manifest's folder. `label` is the species' common name, `group` its recording: rows that
    share a recording must not be split between training and test. `reused` is counted over the rows that are written.

    Args:
        file: to write; the media lie in its folder.
        triplets: see `pair`.
        taxa: the species, by taxon_id.
        captions: records of the merged captions, by their key.

    Raises:
        ValueError: no row is left.
    """
    names = label_names(taxa)
    written = Written(file, [])
    heard: set[str] = set()
    for triplet in triplets:
        record = captions.get(merge_question(triplet).key)
        why = _lacking(triplet, record, file.parent)
        if record is None or why is not None:
            written.named.append((triplet.photo["key"], str(why)))
            continue
        row = _row(triplet, taxa[triplet.taxon_id], names[triplet.taxon_id], record["text"])
        row["reused"] = row["audio_file"] in heard
        heard.add(row["audio_file"])
        written.rows.append(row)
    written.left_out.update(Counter(why for _, why in written.named))
    if not written.rows:
        reasons = ", ".join(f"{count} {why}" for why, count in written.left_out.items()) or "there is no triplet"
        raise ValueError(f"{file}: no row is left ({reasons}); run the steps before this one")
    with written_whole(file) as temporary:
        parquet.write_table(pa.Table.from_pylist(written.rows, schema=pa.schema(COLUMNS)), temporary)
    return written


def label_names(taxa: Mapping[str, Taxon]) -> dict[str, str]:
    """What each species is called as a class: its common name; with the scientific one where two share theirs.

    >>> label_names({"1": Taxon("Tyto alba", "Owl"), "2": Taxon("Asio otus", "Owl"), "3": Taxon("Turdus merula")})
    {'1': 'Owl (Tyto alba)', '2': 'Owl (Asio otus)', '3': 'Turdus merula'}
    """
    named = {number: taxon.common_name or taxon.scientific_name for number, taxon in taxa.items()}
    counts = Counter(named.values())
    return {
        number: name if counts[name] == 1 else f"{name} ({taxa[number].scientific_name})"
        for number, name in named.items()
    }


def _lacking(triplet: Triplet, caption: Mapping[str, Any] | None, folder: Path) -> str | None:
    if caption is None:
        return "caption not made yet"
    if caption["outcome"] != "kept":
        return f"caption: {caption['outcome']}"
    gone = [what for what, record in (("photo", triplet.photo), ("clip", triplet.clip))
            if not (folder / record["file"]).is_file()]  # fmt: skip
    return f"{' and '.join(gone)} gone from the disk" if gone else None


def _row(triplet: Triplet, taxon: Taxon, label: str, caption: str) -> dict[str, Any]:
    photo, clip, text = triplet.photo, triplet.clip, triplet.summary
    return {
        "id": photo["key"],
        "scientific_name": taxon.scientific_name,
        "common_name": taxon.common_name,
        "taxon_id": triplet.taxon_id,
        "label": label,
        "group": clip["recording"],
        "photo_file": photo["file"],
        "audio_file": clip["file"],
        "combined_caption": caption,
        "image_caption": triplet.image_caption["text"],
        "species_caption": text["text"],
        "tags": tags_text(clip) or None,
        **_rights("photo", photo),
        **_rights("audio", clip),
        **_rights("text", text),
    }


def _rights(part: str, record: Mapping[str, Any]) -> dict[str, str | None]:
    about = {"licence": record.get("licence"), "attribution": record.get("attribution")}
    about["url"] = record.get("page_url") or record.get("source_url")
    if part != "photo":  # iNaturalist names its licences without a version, so there is no address of one
        about["licence_url"] = record.get("licence_url")
    return {f"{part}_{column}": value for column, value in about.items()}
