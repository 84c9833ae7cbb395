"""A tiny table of one's own: pictures, sounds and sentences of ten digits, with gaps."""

import csv
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RUN = """
manifest: clips.csv
out: runs/clips
modalities:
  image: {column: image, kind: image, encoder: {kind: conv, channels: [4, 8], out_dim: 16}}
  audio: {column: audio, kind: audio, encoder: {kind: conv, channels: [4, 8], out_dim: 16}}
  text: {column: text, kind: text, encoder: {kind: tokens, width: 16, heads: 2, layers: 1, out_dim: 16}}
model: {dim: 16, fusion_dim: 16}
train: {epochs: 2, batch_size: 16, lr: 1e-3}
"""


def make_rows(folder: Path, count: int = 60, gaps: bool = True) -> list[dict[str, str]]:
    """Write the files of some rows; every fifth sound and every seventh text is missing."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 200, (10, 12, 12))
    rows = []
    for number in range(count):
        digit = number % 10
        image, audio = f"images/{number}.png", f"sounds/{number}.wav"
        for name in (image, audio):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = (patterns[digit] + random.integers(0, 56, (12, 12))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / image)
        tone = 0.3 * np.sin(2 * np.pi * (300 + 200 * digit) * np.arange(1600) / 8000)
        soundfile.write(folder / audio, tone + 0.05 * random.standard_normal(1600), 8000)
        row = {"id": f"clip-{number}", "image": image, "audio": audio, "text": f"the {WORDS[digit]} of row {number}"}
        if gaps and number % 5 == 1:
            row["audio"] = ""
        if gaps and number % 7 == 2:
            row["text"] = ""
        rows.append({**row, "label": WORDS[digit]})
    return rows


def write_table(folder: Path, rows: list[dict[str, str]], name: str = "clips.csv") -> Path:
    """Write rows as a table."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / name


def write_run(folder: Path, text: str = RUN) -> Path:
    """Write a run file."""
    (folder / "run.yaml").write_text(text)
    return folder / "run.yaml"
