"""A small model of three modalities with its readers, and a run folder that holds it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

from confu.data.readers import build_reader
from confu.inference.embedder import Embedder
from confu.models import MultimodalModel, save_model
from confu.nn.encoders import build_encoder
from confu.plan import Plan, confu_plan

SENTENCES = ["a red bird", "two blue fish", "the old cat sleeps"]
WORDS = sorted({word for sentence in SENTENCES for word in sentence.split()})
READERS = {
    "sensor": {"kind": "vector", "dim": 6},
    "steps": {"kind": "sequence", "dim": 3, "max_steps": None},
    "text": {"kind": "words", "vocabulary": WORDS},
}
ENCODERS = {
    "sensor": {"kind": "mlp", "in_dim": 6, "hidden_dims": [8], "out_dim": 5},
    "steps": {"kind": "sequence", "in_dim": 3, "width": 8, "heads": 2, "layers": 1, "hidden_dim": 8, "dropout": 0.0},
    "text": {"kind": "tokens", "vocab_size": len(WORDS) + 3, "width": 8, "heads": 2, "layers": 1},
}
NAMES = tuple(READERS)
# No term fuses sensor and steps, so that an item with just these two has no embedding.
SPARSE = ["sensor ~ text", "steps ~ text", "sensor ~ steps+text"]


def model(plan: Plan | None = None, **settings) -> MultimodalModel:
    torch.manual_seed(0)
    plan = confu_plan(NAMES) if plan is None else plan
    encoders = {name: build_encoder(ENCODERS[name]) for name in plan.modalities}
    return MultimodalModel(plan, encoders, **{"dim": 4, "fusion_dim": 8, **settings})


def embedder(plan: Plan | None = None, **settings) -> Embedder:
    made = model(plan, **settings)
    return Embedder(made, {name: build_reader(READERS[name]) for name in made.plan.modalities}, ("bird", "fish", "cat"))


def items(n: int) -> dict[str, list]:
    """Items of which all have everything."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 5, (n,), generator=generator).tolist()
    return {
        "sensor": [torch.randn(6, generator=generator).tolist() for _ in range(n)],
        "steps": [torch.randn(length, 3, generator=generator).tolist() for length in lengths],
        "text": [SENTENCES[row % 3] for row in range(n)],
    }


def without(sources: dict[str, list], lacking: dict[str, set[int]]) -> dict[str, list]:
    return {
        name: [None if row in lacking.get(name, ()) else one for row, one in enumerate(column)]
        for name, column in sources.items()
    }


def run_folder(folder: Path, plan: Plan | None = None) -> Path:
    """What training leaves, as far as it matters here; the texts came from a column of another name."""
    made = model(plan)
    save_model(made, folder / "best")
    inputs = {
        "format": 1,
        "readers": {name: READERS[name] for name in made.plan.modalities},
        "kinds": {"sensor": "vector", "steps": "sequence", "text": "text"},
        "class_names": ["bird", "fish", "cat"],
    }
    (folder / "inputs.json").write_text(json.dumps(inputs))
    columns = {name: {"column": "caption" if name == "text" else name} for name in made.plan.modalities}
    run = {"manifest": "../somewhere/private/clips.parquet", "method": "confu", "seed": 3, "modalities": columns}
    (folder / "run.yaml").write_text(yaml.safe_dump(run))
    (folder / "versions.json").write_text(json.dumps({"confu": "1.2.3", "torch": "9.9", "platform": "Secret-5.0"}))
    rows = {
        "row": list(range(6)),
        "id": list("abcdef"),
        "split": ["train", "train", "train", "validation", "test", None],
        "has_sensor": [True] * 6,
        "has_steps": [True, False, True, True, True, True],
        "has_text": [True, True, False, True, True, True],
        "problems": [None] * 6,
    }
    pq.write_table(pa.table(rows), folder / "rows.parquet")
    return folder


def write_report(folder: Path) -> None:
    row = {"metric": "recall@1", "query": "sensor+steps", "target": "text", "value": 0.625, "count": 8, "seed": 3}
    report = {"format": "confu.report", "version": 1, "settings": {}, "versions": {}, "rows": [row]}
    (folder / "report.json").write_text(json.dumps(report))
