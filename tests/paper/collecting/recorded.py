"""A small collection as the steps that ask the sources leave it: step files, photos and clips of made-up species."""

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from confu_paper.collecting.collection import Taxon
from confu_paper.collecting.step_log import StepLog
from paper.collecting.killing import collection

SPECIES = {
    "12": ("Turdus merula", "Common Blackbird"),
    "34": ("Apteryx rowi", "Ōkārito Kiwi"),
    "56": ("Ciconia ciconia", "bocian biały"),
}
PHOTOS, CLIPS, SECTIONS = 6, 4, 3  # of each; a recording has two clips
LICENCES = ("cc-by", "cc-by-nc", "cc0")


def record_collection(
    out: Path,
    species: dict[str, tuple[str, str]] = SPECIES,
    photos: dict[str, int] | None = None,
    clips: dict[str, int] | None = None,
    sections: dict[str, int] | None = None,
) -> Path:
    """Write the step files and the media; of a species as many as is said, or the usual number."""
    out.mkdir(parents=True, exist_ok=True)
    logs = {step: StepLog(out / f"{step}.jsonl", {"recorded": True}) for step in ("photos", "clips", "sections")}
    collection(out, taxa=[Taxon(*names, taxon) for taxon, names in species.items()])
    draws = np.random.default_rng(0)
    for taxon, (scientific, common) in species.items():
        for number in range((photos or {}).get(taxon, PHOTOS)):
            _photo(out, logs["photos"], taxon, number, draws)
        for number in range((clips or {}).get(taxon, CLIPS)):
            _clip(out, logs["clips"], taxon, scientific, number, draws)
        for number in range((sections or {}).get(taxon, SECTIONS)):
            logs["sections"].add(f"{taxon}/Part {number}", {
                "outcome": "kept", "taxon_id": taxon, "title": scientific, "section": f"Part {number}", "revision": 77,
                "text": f"{common} sings a loud song near water. {{braces}} " * 4 + str(number),
                "licence": "CC BY-SA 4.0", "source_url": f"https://en.wikipedia.org/wiki/{scientific}?oldid=77",
                "licence_url": "https://creativecommons.org/licenses/by-sa/4.0/", "attribution": "Wikipedia's authors",
            })  # fmt: skip
    return out


def _photo(out: Path, log: StepLog, taxon: str, number: int, draws: np.random.Generator) -> None:
    key = f"{taxon}/{taxon}0{number}"
    file = f"photos/{key}.jpg"
    (out / file).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), tuple(int(value) for value in draws.integers(256, size=3))).save(out / file)
    log.add(key, {
        "outcome": "kept", "taxon_id": taxon, "file": file, "licence": LICENCES[number % 3],
        "attribution": f"(c) Zoë {number}", "source_url": f"https://example.org/photos/{number}",
    })  # fmt: skip


def _clip(out: Path, log: StepLog, taxon: str, scientific: str, number: int, draws: np.random.Generator) -> None:
    recording = f"XC{taxon}{number // 2}"
    file = f"audio/{scientific.replace(' ', '_')}/{recording}_clip{number % 2}.wav"
    (out / file).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(out / file, draws.normal(0, 0.1, 2205), 22_050, "PCM_16")
    log.add(f"{recording}/{number % 2}", {
        "outcome": "kept", "taxon_id": taxon, "recording": recording, "file": file, "licence": "cc-by-nc-nd",
        "attribution": "Łukasz, XC", "licence_url": "https://creativecommons.org/licenses/by-nc-nd/4.0/", "source_url": f"https://example.org/{recording}",
        "tags": {"type": "song", "sex": "male" if number else "", "stage": "adult"},
    })  # fmt: skip
