"""The card of a model: a README with its plan, data, numbers and usage, and the facts of its training behind it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from confu.data.readers import Reader
from confu.models import MultimodalModel
from confu.plan import Subset

_EXAMPLES = {
    "image": '"photo.jpg"',
    "audio": '"sound.wav"',
    "video": '"clip.mp4"',
    "text": '"a sentence"',
    "vector": "[0.1, 0.2, ...]",
    "sequence": '"steps.npy"',
    "number": "1.5",
    "table": '{"column": 1.5, ...}',
}
_UNSTATED = "unknown"  # what the hub's list of licences calls it
_MOST_NUMBERS = 60  # rows of the table of numbers
_TABLE = ("roles", "missing", "label_separator")  # settings of the run file's section `data` that say how it is read


@dataclass(frozen=True)
class Facts:
    """What is known of a model's training; all of it may be missing. No path of the machine that trained is in it.

    Attributes:
        method: how it was trained, e.g. `"confu"`.
        seed: of the training.
        manifest: the name of the table of its data.
        columns: modality -> the column of the manifest.
        table: how its cells were understood: `roles`, `missing` and `label_separator` of the run file's section `data`.
        splits: `train`, `validation`, `test` -> rows.
        skipped: rows that were set aside because something in them was broken.
        rows: rows of the splits together.
        complete: subset, as text -> rows that have all of it.
        numbers: what an evaluation measured; each a dict with `metric`, `query`, `target`, `value`, `count`.
        versions: package -> version, at training.
    """

    method: str | None = None
    seed: int | None = None
    manifest: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    table: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    rows: int | None = None
    complete: dict[str, int] = field(default_factory=dict)
    numbers: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Facts":
        """The facts of plain data, as `dataclasses.asdict` gives them; what a later version added is left out."""
        names = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in names})


def facts_of_run(folder: Path, subsets: Iterable[Subset]) -> Facts:
    """Read the facts from `run.yaml`, `rows.parquet`, `report.json` and `versions.json`, as far as they are there."""
    facts: dict[str, Any] = {}
    if (file := folder / "run.yaml").exists():
        import yaml

        try:
            run = yaml.safe_load(file.read_text(encoding="utf-8"))
            facts["columns"] = {name: settings["column"] for name, settings in run["modalities"].items()}
            data = run.get("data") or {}
            facts["table"] = {name: data[name] for name in _TABLE if data.get(name) is not None}
            # Only its name: where it lies says something of the machine, and nothing of the data.
            facts["manifest"] = PurePosixPath(str(run["manifest"]).rstrip("/")).name
            facts |= {"method": run.get("method"), "seed": run.get("seed")}
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file}: not the settings of a run ({error}); train again, or remove the file") from error
    if (file := folder / "rows.parquet").exists():
        facts |= _row_counts(file, subsets)
    if (file := folder / "report.json").exists():
        names = ("metric", "query", "target", "value", "count", "low", "high", "note")
        facts["numbers"] = [{n: row[n] for n in names if n in row} for row in _json(file).get("rows", [])]
    if (file := folder / "versions.json").exists():
        facts["versions"] = {name: str(value) for name, value in _json(file).items() if name != "platform"}
    return Facts(**facts)


def _row_counts(file: Path, subsets: Iterable[Subset]) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
        split = table["split"].to_pylist()
        has = {name: table[name].to_numpy() for name in table.column_names if name.startswith("has_")}
    except (OSError, pa.ArrowException, KeyError) as error:
        raise ValueError(f"{file}: not the rows of a run ({error}); train again, or remove the file") from error
    kept = np.array([part is not None for part in split], dtype=bool)
    complete = {
        str(subset): int(np.logical_and.reduce([kept, *(has[f"has_{name}"] for name in subset)]).sum())
        for subset in subsets
        if all(f"has_{name}" in has for name in subset)
    }
    splits = {name: split.count(name) for name in ("train", "validation", "test")}
    return {"splits": splits, "skipped": int((~kept).sum()), "rows": int(kept.sum()), "complete": complete}


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not whole JSON ({error}); write it again, or remove it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected a JSON object; got a {type(content).__name__}")
    return content


def model_card(
    model: MultimodalModel,
    readers: Mapping[str, Reader],
    facts: Facts,
    licence: str | None = None,
    name: str | None = None,
) -> str:
    """The README of a model folder, in Markdown with the header that the Hugging Face hub reads."""
    import yaml

    plan, kinds = model.plan, sorted({reader.modality_kind for reader in readers.values()})
    header = {
        "library_name": "confu",
        "license": _UNSTATED if licence is None else _line(licence),
        "pipeline_tag": "feature-extraction",
        "tags": ["confu", "contrastive-learning", "multimodal", *kinds],
    }
    method = f" with the method `{facts.method}`" if facts.method else ""
    fused = ", ".join(map(str, plan.fused_subsets)) or "none"
    fusion = f" (fusion network: {model.settings['fusion']})" if plan.fused_subsets else ""
    sections = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# {_line(name or 'A multimodal embedding model')}",
        f"It embeds {', '.join(plan.modalities)} in one space of {model.dim} dimensions. It was trained{method} "
        f"by [confu](https://arxiv.org/abs/2511.21331). Combinations that have an embedding of their own: "
        f"{fused}{fusion}.",
        "## Use\n\n" + _usage(model, readers, name),
        f"## Plan\n\nWhat was aligned with what:\n\n```text\n{plan}\n```",
        "## Modalities\n\n" + _modalities(model, readers),
        _data(facts),
        _numbers(facts),
        "## Licence\n\n"
        + (_line(licence or "") or "The author has not stated under which licence these weights may be used."),
    ]
    if facts.versions:
        sections.append("## Versions\n\n" + _table(("trained with", "version"), sorted(facts.versions.items())))
    return "\n\n".join(section for section in sections if section) + "\n"


def _usage(model: MultimodalModel, readers: Mapping[str, Reader], name: str | None) -> str:
    example = model.subsets[-1]
    sources = ", ".join(f'"{one}": [{_EXAMPLES.get(readers[one].modality_kind, "...")}]' for one in example)
    code = (
        f"import confu\n\nembedder = confu.load({(name if name and '/' in name else 'path/to/this/folder')!r})\n"
        f"items = embedder.encode({{{sources}}})\n"
        f"print(items.vectors.shape, items.subsets)  # (1, {model.dim}), one subset an item"
    )
    if model.score == "cosine":
        return f"```python\n{code}\nprint(embedder.similarity(items, items))\n```"
    return (
        f"```python\n{code}\n```\n\nThe method compares the embeddings of all modalities at once, by {model.score}: "
        "see `confu.evaluation.pair_scores`."
    )


def _modalities(model: MultimodalModel, readers: Mapping[str, Reader]) -> str:
    rows = []
    for name, encoder in model.encoders.items():
        settings = getattr(encoder, "settings", None) or {}
        kind = settings.get("name") or settings.get("model") or settings.get("kind") or type(encoder).__name__
        weights = sum(weight.numel() for weight in encoder.parameters())
        reader = readers[name]
        rows.append((name, reader.modality_kind, reader.settings.get("kind", ""), kind, f"{weights:,}"))
    return _table(("modality", "kind", "reader", "encoder", "weights of the encoder"), rows)


def _data(facts: Facts) -> str:
    if facts.rows is None:
        return ""
    splits = ", ".join(f"{count:,} {split}" for split, count in facts.splits.items())
    text = f"{facts.rows:,} rows ({splits})" + (f" of `{_line(facts.manifest)}`" if facts.manifest else "")
    if facts.skipped:
        was, them = ("was", "it") if facts.skipped == 1 else ("were", "them")
        text += f"; {facts.skipped:,} more {was} set aside because something in {them} was broken"
    rows = [(subset, f"{count:,}", f"{count / max(facts.rows, 1):.1%}") for subset, count in facts.complete.items()]
    return f"## Data\n\n{text}.\n\n" + _table(("has all of", "rows", "share"), rows)


def _numbers(facts: Facts) -> str:
    if not facts.numbers:
        return ""
    rows = []
    for one in facts.numbers[:_MOST_NUMBERS]:
        interval = f" ({one['low']:.3f} to {one['high']:.3f})" if "low" in one and "high" in one else ""
        rows.append((one["metric"], one["query"], one["target"], f"{one['value']:.3f}{interval}", f"{one['count']:,}"))
    more = len(facts.numbers) - _MOST_NUMBERS
    rest = f"\n\n{more} more are in `inputs.json`." if more > 0 else ""
    return "## Numbers\n\n" + _table(("metric", "query", "target", "value", "rows"), rows) + rest


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_line(str(cell)).replace("|", r"\|") for cell in line) + " |" for line in lines)


def _line(text: str) -> str:
    """One line, so that a name cannot break out of its place in the page."""
    return " ".join(text.split())
