"""The card of a collected data set: a README with what it holds, from whom, how it was made, and what it is not."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from confu_paper.collecting.captions import REQUESTED_WORDS
from confu_paper.collecting.manifest import COLUMNS, Written
from confu_paper.collecting.taxa import Taxon
from confu_paper.collecting.triplets import Pairing

_MAX_NAMED = 20  # items that were left out and are named one by one
_LIMITS = (
    "Photo and sound of a row are of one species, and of nothing else in common: they were put together by chance.",
    "The captions were written by models and checked by nobody. They may claim what is wrong; they are no source on "
    "birds. A caption rests on the species' article as much as on the photo: it may tell of what is not to be seen.",
    "Rows that share a recording share its sound or its background. Keep them on one side of a split: the column "
    "`group` names the recording.",
    "The tags are what the recording's author noted of the whole recording; a 10-second clip may lack what they say.",
    "Sexes, ages, seasons and regions come as people photograph and record them, not as they are in nature.",
)
_RIGHTS = (
    "Every row names the licence and the author of its photo, its sound and the text behind its caption, in the "
    "columns `*_licence`, `*_attribution` and `*_url`; who passes rows on must pass these on. A licence with NC "
    "forbids commercial use. One with ND forbids to pass on changed works, and a clip is cut from its recording: leave "
    "those rows out before publishing. One with SA, Wikipedia's among them, asks that what is derived be under it as "
    "well. The terms of the models that wrote the captions hold too."
)


def dataset_card(
    name: str,
    taxa: Mapping[str, Taxon],
    unknown: Sequence[str],
    pairing: Pairing,
    written: Written,
    outcomes: Mapping[str, Mapping[str, int]],
    made_with: Mapping[str, Any],
) -> str:
    """The README of a collected data set, in Markdown with the header that the Hugging Face hub reads.

    Args:
        name: of the data set.
        taxa: the species, by taxon_id.
        unknown: scientific names that iNaturalist does not know.
        pairing: what there was of each species.
        written: the rows, and what was left out.
        outcomes: of each step, how many items ended how.
        made_with: models, prompts and settings, by name.
    """
    rows = written.rows
    models = {key: value for key, value in made_with.items() if key.endswith(("model", "prompt"))}
    settings = {key: value for key, value in made_with.items() if key not in models}
    sections = [
        _header(name, len(rows)),
        f"# {_line(name)}\n\n{_about(rows, pairing)}",
        "## Use\n\n```python\nfrom confu.data.manifest import read_manifest\n\n"
        'rows = read_manifest("manifest.parquet")\nphotos = rows.sources("photo_file", "image")\n```\n\n'
        "```text\nconfu init manifest.parquet --columns photo_file,audio_file,combined_caption\n```\n\n"
        f"Columns: {', '.join(f'`{column}`' for column in COLUMNS)}.",
        "## Species\n\n" + _species(taxa, pairing, rows),
        "## Licences\n\n" + _RIGHTS + "\n\n" + _licences(rows),
        "## How it was made\n\n" + _made(models) + "\n\n" + _table(("setting", "value"), sorted(settings.items())),
        "## Its steps, and what was left out\n\n" + _left_out(taxa, unknown, pairing, written, outcomes),
        "## Known limits\n\n" + "\n".join(f"- {limit}" for limit in (*_LIMITS, *_measured(rows))),
    ]
    return "\n\n".join(sections) + "\n"


def _header(name: str, rows: int) -> str:
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    fields = {
        "pretty_name": _line(name),
        "license": "other",
        "license_name": "a-licence-a-row",
        "language": ["en"],
        "size_categories": [next((size for most, size in bounds if rows < most), "1M<n<10M")],
        "tags": ["birds", "image", "audio", "text", "multimodal", "confu"],
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---"


def _about(rows: Sequence[Mapping[str, Any]], pairing: Pairing) -> str:
    species = len({row["taxon_id"] for row in rows})
    reused = sum(row["reused"] for row in rows)
    return (
        f"{len(rows):,} triplets of a photo, a sound of 10 seconds and a caption, of {species:,} of "
        f"{len(pairing.counts):,} species. {reused:,} rows ({reused / len(rows):.0%}) use a clip that an earlier row "
        "has used already. Photos are from iNaturalist, sounds from xeno-canto, the texts behind the captions from "
        "Wikipedia. Built by `confu data bird-mml`, after section 4 and appendix D.1 of [the ConFu "
        "paper](https://arxiv.org/abs/2511.21331)."
    )


def _species(taxa: Mapping[str, Taxon], pairing: Pairing, rows: Iterable[Mapping[str, Any]]) -> str:
    written, reused = Counter(), Counter()
    for row in rows:
        written[row["taxon_id"]] += 1
        reused[row["taxon_id"]] += row["reused"]
    lines = []
    for taxon, counts in pairing.counts.items():
        before, after = (counts[name] for name in ("photos", "recordings")), counts["clips"]
        names = _names(taxa[taxon])
        lines.append((*names, written[taxon], *before, after, reused[taxon], counts["summaries"]))
    head = "species|common name|rows|photos|recordings|clips|rows with a clip used again|summaries"
    return _table(head.split("|"), lines)


def _licences(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for part, source in (("photo", "iNaturalist"), ("audio", "xeno-canto"), ("text", "Wikipedia")):
        counts = Counter(row[f"{part}_licence"] or "not stated" for row in rows)
        credits = {(row[f"{part}_licence"] or "not stated", row[f"{part}_attribution"]) for row in rows}
        authors = Counter(licence for licence, author in credits if author)
        lines += [(f"{part} ({source})", licence, count, authors[licence]) for licence, count in counts.most_common()]
    return _table(("part", "licence", "rows", "different attributions"), lines)


def _made(models: Mapping[str, Any]) -> str:
    return "\n\n".join(
        f"{key}:\n\n```text\n{value}\n```" if key.endswith("prompt") else f"{key}: `{value}`"
        for key, value in models.items()
    )


def _left_out(
    taxa: Mapping[str, Taxon],
    unknown: Sequence[str],
    pairing: Pairing,
    written: Written,
    outcomes: Mapping[str, Mapping[str, int]],
) -> str:
    steps = []
    for step, counts in outcomes.items():
        first = list(counts.items())[:_MAX_NAMED]
        steps += [(step, outcome, count) for outcome, count in first]
        if more := sum(counts.values()) - sum(count for _, count in first):
            steps.append((step, f"other reasons, in {step}.jsonl", more))
    lines = [_table(("step", "outcome", "items"), steps)]
    if pairing.lacking or unknown:
        named = [
            f"- {' / '.join(filter(None, _names(taxa[taxon])))}: no {', no '.join(lacking)}"
            for taxon, lacking in pairing.lacking.items()
        ]
        named += [f"- {name}: unknown to iNaturalist" for name in unknown]
        lines.append(f"Species without a row ({len(named)}):\n\n" + "\n".join(named))
    if written.left_out:
        named = [f"- photo {_line(photo)}: {_line(reason)}" for photo, reason in written.left_out[:_MAX_NAMED]]
        if (more := len(written.left_out) - _MAX_NAMED) > 0:
            named.append(f"- and {more:,} more, in `captions.jsonl`")
        lines.append(f"Triplets that are no row ({len(written.left_out):,}):\n\n" + "\n".join(named))
    return "\n\n".join(lines)


def _measured(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    fewest, most = REQUESTED_WORDS
    outside = sum(not fewest <= len(row["combined_caption"].split()) <= most for row in rows)
    distinct = len({row["combined_caption"] for row in rows})
    forbidden = sum("nd" in str(row["audio_licence"]).lower().replace("/", "-").split("-") for row in rows)
    return [
        f"{outside:,} of {len(rows):,} captions have fewer than {fewest} or more than {most} words, which is what the "
        f"model was asked for; {distinct:,} captions differ from one another.",
        f"{forbidden:,} rows have a clip of a recording whose licence forbids to pass on changed works (ND).",
    ]


def _names(taxon: Taxon) -> tuple[str, str]:
    return taxon.scientific_name, taxon.common_name or ""


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    cells = [[f"{cell:,}" if isinstance(cell, int) else _line(str(cell)) for cell in row] for row in rows]
    lines = [list(head), ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _line(text: str) -> str:
    """One line, so that a name cannot break out of its place in the page."""
    return " ".join(text.split())
