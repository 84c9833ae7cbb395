"""The table of a collected data set, one row a triplet with the licence and author of each part, and its card."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import yaml

from confu.files import written_whole
from confu_paper.collecting import captions as texts
from confu_paper.collecting.captions import Pairing, Triplet, merge_question, pairing_of, tags_text
from confu_paper.collecting.collection import Collection, Taxon
from confu_paper.collecting.models import BEAMS, IMAGE_PROMPT, SAMPLING

MANIFEST, CARD = "manifest.parquet", "README.md"
_NAMES = (
    "id scientific_name audio_file photo_file combined_caption common_name taxon_id label group image_caption "
    "species_caption tags reused photo_licence photo_attribution photo_url audio_licence audio_licence_url "
    "audio_attribution audio_url text_licence text_licence_url text_attribution text_url"
)
COLUMNS = {name: pa.bool_() if name == "reused" else pa.string() for name in _NAMES.split()}
"""Those of the published csv (scientific_name, audio_file, photo_file, combined_caption), and ours."""
_MAX_NAMED = 20  # outcomes of a step that are named one by one
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class Written:
    """The rows of a manifest, and the id and the reason of each triplet that is none."""

    rows: list[dict[str, Any]]
    left_out: list[tuple[str, str]] = field(default_factory=list)


def make_manifest(job: Collection) -> None:
    """Write the manifest and its card, with models and their revisions, prompts and settings."""
    pairing = pairing_of(job)
    captions = {record["key"]: record for record in job.records("captions")}
    written = write_manifest(job.out / MANIFEST, pairing.triplets, job.taxa, captions)
    with written_whole(job.out / CARD) as temporary:
        temporary.write_text(dataset_card(job, pairing, written), encoding="utf-8")


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
    row = {
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
    }
    for part, record in (("photo", photo), ("audio", clip), ("text", text)):
        row |= {f"{part}_{name}": record.get(name) for name in ("licence", "attribution")}
        row[f"{part}_url"] = record.get("page_url") or record.get("source_url")
        if part != "photo":  # iNaturalist names its licences without a version, so there is no address of one
            row[f"{part}_licence_url"] = record.get("licence_url")
    return row


def dataset_card(job: Collection, pairing: Pairing, written: Written) -> str:
    """The README of a collected data set, in Markdown with the header that the Hugging Face hub reads."""
    from jinja2 import Environment, StrictUndefined

    rows, taxa = written.rows, job.taxa
    used = {
        kind: ", ".join(sorted({one["model"] for step in steps for one in job.records(step) if "model" in one}))
        for kind, steps in (("image", ("image_captions",)), ("language", ("summaries", "captions")))
    }
    header = {
        "pretty_name": _line(job.name),
        "license": "other",
        "license_name": "a-licence-a-row",
        "language": ["en"],
        "size_categories": [next((size for most, size in _SIZES if len(rows) < most), "1M<n<10M")],
        "tags": ["birds", "image", "audio", "text", "multimodal", "confu"],
    }
    settings = {
        "most rows of a species": job.per_species,
        "summaries of a species": job.summaries,
        "seed": job.seed,
        "words of a summary": "{} to {}".format(*texts.SUMMARY_WORDS),
        "words of a merged caption": "{} to {}".format(*texts.MERGED_WORDS),
        "size of the photos": job.photo_size,
        **{f"{name} of the image model": value for name, value in BEAMS.items()},
        **{f"{name} of the language model": value for name, value in asdict(SAMPLING).items()},
    }
    of_species, reused = (
        Counter(row["taxon_id"] for row in rows),
        Counter(row["taxon_id"] for row in rows if row["reused"]),
    )
    names = {number: (taxon.scientific_name, taxon.common_name or "") for number, taxon in taxa.items()}
    no_row = [
        (" / ".join(filter(None, names[taxon])), f"no {', no '.join(no)}") for taxon, no in pairing.lacking.items()
    ]
    fewest, most = texts.REQUESTED_WORDS
    context = {
        "header": yaml.safe_dump(header, sort_keys=False),
        "name": job.name,
        "rows": rows,
        "pairing": pairing,
        "columns": COLUMNS,
        "num_species": len(of_species),
        "reused": reused.total(),
        "species": [
            (
                *names[taxon],
                of_species[taxon],
                counts["photos"],
                counts["recordings"],
                counts["clips"],
                reused[taxon],
                counts["summaries"],
            )
            for taxon, counts in pairing.counts.items()
        ],
        "licences": _licences(rows),
        "models": {
            "image model": used["image"],
            "image prompt": IMAGE_PROMPT,
            "language model": used["language"],
            "summary prompt": texts.SUMMARY_PROMPT,
            "merging prompt": texts.MERGE_PROMPT,
        },
        "settings": sorted(settings.items()),
        "steps": _steps(job.outcomes),
        "no_row": [*no_row, *((name, "unknown to iNaturalist") for name in job.unknown)],
        "left_out": written.left_out,
        "words": (fewest, most),
        "outside": sum(not fewest <= len(row["combined_caption"].split()) <= most for row in rows),
        "num_distinct": len({row["combined_caption"] for row in rows}),
        "forbidden": sum("nd" in str(row["audio_licence"]).lower().replace("/", "-").split("-") for row in rows),
    }
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=False)
    environment.filters |= {"line": _line, "cell": _cell}
    template = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    return environment.from_string(template).render(context)


def _licences(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, int, int]]:
    """Part, licence, rows and different attributions."""
    lines = []
    for part, source in (("photo", "iNaturalist"), ("audio", "xeno-canto"), ("text", "Wikipedia")):
        credits = [(row[f"{part}_licence"] or "not stated", row[f"{part}_attribution"]) for row in rows]
        authors = Counter(licence for licence, author in set(credits) if author)
        counts = Counter(licence for licence, _ in credits)
        lines += [(f"{part} ({source})", licence, count, authors[licence]) for licence, count in counts.most_common()]
    return lines


def _steps(outcomes: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str, int]]:
    """Step, outcome and items; rare outcomes are summed up."""
    lines = []
    for step, counts in outcomes.items():
        first = list(counts.items())[:_MAX_NAMED]
        lines += [(step, outcome, count) for outcome, count in first]
        if more := sum(counts.values()) - sum(count for _, count in first):
            lines.append((step, f"other reasons, in {step}.jsonl", more))
    return lines


def _cell(value: object) -> str:
    return (f"{value:,}" if isinstance(value, int) else _line(str(value))).replace("|", r"\|")


def _line(text: str) -> str:
    """One line, so that a name cannot break out of its place in the page."""
    return " ".join(text.split())
