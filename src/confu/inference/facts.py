"""What is known of a model's training: read from its run folder, kept with the model, told in its card.

No path of the machine that trained it is among them.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from confu.plan import Subset

_NUMBER = ("metric", "query", "target", "value", "count", "low", "high", "note")


@dataclass(frozen=True)
class Facts:
    """All of it may be missing: a model need not come from a run folder.

    Attributes:
        method: how it was trained, e.g. `"confu"`.
        seed: of the training.
        manifest: the name of the table of its data.
        columns: modality -> the column of the manifest.
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
    splits: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    rows: int | None = None
    complete: dict[str, int] = field(default_factory=dict)
    numbers: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON holds; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Facts":
        """The facts that `to_dict` wrote; what a later version added is left out."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


def facts_of_run(folder: Path, subsets: Iterable[Subset]) -> Facts:
    """Collect what the files of a run folder tell, as far as they are there.

    Args:
        folder: with `run.yaml`, `rows.parquet`, `report.json`, `versions.json`.
        subsets: those of the plan; for each, the complete rows are counted.

    Raises:
        ValueError: if one of the files is damaged.
    """
    found: dict[str, Any] = {}
    if (file := folder / "run.yaml").exists():
        found |= _of_run_file(file)
    if (file := folder / "rows.parquet").exists():
        found |= _of_rows(file, subsets)
    if (file := folder / "report.json").exists():
        rows = _json(file).get("rows", [])
        found["numbers"] = [{name: row[name] for name in _NUMBER if name in row} for row in rows]
    if (file := folder / "versions.json").exists():
        found["versions"] = {name: str(value) for name, value in _json(file).items() if name != "platform"}
    return Facts(**found)


def _of_run_file(file: Path) -> dict[str, Any]:
    try:
        run = yaml.safe_load(file.read_text(encoding="utf-8"))
        columns = {name: settings["column"] for name, settings in run["modalities"].items()}
        # Only its name: where it lies says something of the machine, and nothing of the data.
        name = PurePosixPath(str(run["manifest"]).rstrip("/")).name
        return {"method": run.get("method"), "seed": run.get("seed"), "manifest": name, "columns": columns}
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: not the settings of a run ({error}); train again, or remove the file") from error


def _of_rows(file: Path, subsets: Iterable[Subset]) -> dict[str, Any]:
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
    parts = {name: split.count(name) for name in ("train", "validation", "test")}
    return {"splits": parts, "skipped": int((~kept).sum()), "rows": int(kept.sum()), "complete": complete}


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not whole JSON ({error}); write it again, or remove it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected a JSON object; got a {type(content).__name__}")
    return content
