"""The table of a collected data set: one row a triplet, with the licence and the author of each of its parts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from confu.files import written_whole
from confu_paper.collecting.captions import merge_question, tags_text
from confu_paper.collecting.taxa import Taxon
from confu_paper.collecting.triplets import Triplet

_NAMES = (
    "id scientific_name audio_file photo_file combined_caption common_name taxon_id label group image_caption "
    "species_caption tags reused photo_licence photo_attribution photo_url audio_licence audio_licence_url "
    "audio_attribution audio_url text_licence text_licence_url text_attribution text_url"
)
COLUMNS = {name: pa.bool_() if name == "reused" else pa.string() for name in _NAMES.split()}
"""Those of the published csv (scientific_name, audio_file, photo_file, combined_caption), and ours."""


@dataclass(frozen=True)
class Written:
    """The rows of a manifest, and the id and the reason of each triplet that is none."""

    rows: list[dict[str, Any]]
    left_out: list[tuple[str, str]] = field(default_factory=list)


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
    written = Written([])
    used_clips: set[str] = set()
    for triplet in triplets:
        record = captions.get(merge_question(triplet).key)
        reason = _reason_to_skip(triplet, record, file.parent)
        if record is None or reason is not None:
            written.left_out.append((triplet.photo["key"], str(reason)))
            continue
        row = _row(triplet, taxa[triplet.taxon_id], names[triplet.taxon_id], record["text"])
        row["reused"] = row["audio_file"] in used_clips
        used_clips.add(row["audio_file"])
        written.rows.append(row)
    if not written.rows:
        counts = Counter(reason for _, reason in written.left_out)
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "there is no triplet"
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


def _reason_to_skip(triplet: Triplet, caption: Mapping[str, Any] | None, folder: Path) -> str | None:
    if caption is None:
        return "caption not made yet"
    if caption["outcome"] != "kept":
        return f"caption: {caption['outcome']}"
    media = (("photo", triplet.photo), ("clip", triplet.clip))
    gone = [name for name, record in media if not (folder / record["file"]).is_file()]
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
