"""Embeddings of a large table in shards: a folder of Parquet files, each an `EmbeddingTable`, and what made them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from confu.embeddings import EmbeddingTable
from confu.files import write_json

FORMAT = 1
SETTINGS = "embed.json"


def shard_name(shard: int) -> str:
    """The file of a shard.

    >>> shard_name(7)
    'part-00007.parquet'
    """
    return f"part-{shard:05d}.parquet"


def shard_range(shard: int, rows: int, shard_rows: int) -> range:
    """The rows of a shard.

    >>> [list(shard_range(shard, rows=5, shard_rows=2)) for shard in range(3)]
    [[0, 1], [2, 3], [4]]
    """
    return range(shard * shard_rows, min((shard + 1) * shard_rows, rows))


def claim_shards(folder: Path, settings: Mapping[str, Any], process: int = 0) -> None:
    """Make a folder of shards, or make sure that the shards in it were made in the same way."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / SETTINGS
    expected = json.loads(json.dumps({"format": FORMAT, **settings}))
    # Looked for first: another process may write the settings and then its first shard just now.
    has_shards = any(folder.glob("part-*.parquet"))
    if not file.exists():
        if has_shards:
            raise ValueError(f"{folder} holds shards but no {SETTINGS} that says what made them; choose another folder")
        # Processes that write at once write the same content; `write_json` alone would have them share one file.
        own = file.with_name(f".{file.name}.{process}")
        write_json(own, expected)
        os.replace(own, file)  # noqa: PTH105
        return
    existing = read_settings(folder)
    if differ := [
        f"{name} is {_short(existing.get(name))} there and {_short(expected.get(name))} here"
        for name in dict.fromkeys([*existing, *expected])
        if existing.get(name) != expected.get(name)
    ]:
        raise ValueError(
            f"{folder} holds shards that were made otherwise: {'; '.join(differ)}. Choose another folder, or delete "
            "this one to start again"
        )


def read_settings(folder: Path | str) -> dict[str, Any]:
    """What made the shards of a folder: model, manifest, subsets, number of rows and of shards, class names."""
    file = Path(folder) / SETTINGS
    if not file.is_file():
        raise ValueError(f"{folder}: holds no {SETTINGS}; expected a folder that `confu embed` wrote")
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not whole JSON ({error}); delete the folder and embed again") from error
    if not isinstance(settings, dict) or settings.get("format") != FORMAT:
        raise ValueError(f"{file}: not of format {FORMAT}, which this version of confu reads; embed again")
    return settings


def missing_shards(folder: Path, shards: int) -> list[int]:
    """The shards that are not written yet."""
    return [shard for shard in range(shards) if not (folder / shard_name(shard)).exists()]


def load_shards(folder: Path | str) -> EmbeddingTable:
    """Read all shards of a folder as one table, in the order of the manifest.

    Raises:
        ValueError: if a shard is missing or damaged, or they do not go together.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    if missing := missing_shards(folder, settings["shards"]):
        raise ValueError(
            f"{folder}: {len(missing)} of {settings['shards']} shards are not there yet, the first is "
            f"{shard_name(missing[0])}; run the same `confu embed` again to finish"
        )
    tables = [EmbeddingTable.load(folder / shard_name(shard)) for shard in range(settings["shards"])]
    first = tables[0]
    for shard, table in enumerate(tables):
        alike = (table.subsets, table.dim, table.plan, table.score, table.model, table.labels is None)
        if alike != (first.subsets, first.dim, first.plan, first.score, first.model, first.labels is None):
            raise ValueError(
                f"{folder / shard_name(shard)}: was not made as {shard_name(0)}; delete it and embed again"
            )
    labels = [table.labels for table in tables if table.labels is not None]
    return EmbeddingTable(
        tuple(id for table in tables for id in table.ids),
        {subset: torch.cat([table[subset] for table in tables]) for subset in first.subsets},
        {subset: torch.cat([table.complete[subset] for table in tables]) for subset in first.subsets},
        torch.cat(labels) if labels else None,
        first.model,
        first.plan,
        first.score,
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
