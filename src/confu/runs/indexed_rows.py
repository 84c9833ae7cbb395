"""The rows of a manifest as items of an index: their metadata, and where their files lie."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright cannot see them.

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from confu.checks import check_known
from confu.data.manifest import ROLES, Manifest
from confu.data.manifest.cells import Source, filled
from confu.embeddings import EmbeddingTable
from confu.index.items import Items, is_scalar
from confu.inference.shards import missing_shards, read_settings, shard_name, shard_range
from confu.runs.embedding.embed_source import ManifestShards

MEDIA = "media"
_ENDINGS = (
    (0, b"\x89PNG\r\n\x1a\n", ".png"), (0, b"\xff\xd8\xff", ".jpg"), (0, b"GIF8", ".gif"), (8, b"WEBP", ".webp"),
    (0, b"BM", ".bmp"), (0, b"II*\0", ".tif"), (0, b"MM\0*", ".tif"), (8, b"WAVE", ".wav"), (0, b"fLaC", ".flac"),
    (0, b"OggS", ".ogg"), (0, b"ID3", ".mp3"), (0, b"\xff\xfb", ".mp3"), (0, b"\xff\xf3", ".mp3"), (4, b"ftyp", ".mp4"),
    (0, b"\x1aE\xdf\xa3", ".webm"), (0, b"\x93NUMPY", ".npy"), (0, b"PK\x03\x04", ".npz"),
)  # fmt: skip


def metadata_columns(manifest: Manifest, modalities: Sequence[str], given: Sequence[str] | None = None) -> list[str]:
    """The columns that become metadata: those given, or all of one value a row that are no modality and not the id.

    Raises:
        ValueError: if `given` names a column that is not there, or one of lists, records or bytes.
    """
    table = manifest.table
    fit = [field.name for field in table.schema if field.name != "id" and is_scalar(field.type)]
    if given is None:
        return [name for name in fit if name not in modalities]
    for name in given:
        check_known(f"{manifest.address}: metadata column", name, [one for one in table.column_names if one != "id"])
        if name not in fit:
            raise ValueError(
                f"{manifest.address}: metadata column {name!r} holds {table.schema.field(name).type}; expected one "
                "text, number, boolean or time a row. Leave it out"
            )
    return list(dict.fromkeys(given))


def metadata_of(manifest: Manifest, names: Sequence[str]) -> pa.Table:
    """These columns of all rows, null where a cell is missing; label, split and group as texts."""
    roles = {"label": manifest.labels, "split": manifest.splits, "group": manifest.groups}
    columns = {}
    for name in names:
        if name in ROLES:
            columns[name] = pa.array(roles[name], pa.string())
        else:
            column = manifest.column(name)
            there = pa.array(filled(column))
            columns[name] = pc.if_else(there, column, pa.scalar(None, column.type))
    return pa.table(columns)


def items_of_shards(
    folder: Path, index: Path, manifest: Manifest, source: ManifestShards, metadata: Sequence[str]
) -> Iterator[Items]:
    """The items of a folder of shards, a shard at a time; rows of which nothing could be embedded are left out.

    Args:
        folder: of the shards.
        index: where files that the manifest itself holds are written to, as `media/SHA256.png`.
        manifest: that the shards were made of.
        source: its modalities.
        metadata: names of columns.
    """
    settings = read_settings(folder)
    if missing_shards(folder, settings["shards"]):
        raise AssertionError("the shards are not complete")
    every = metadata_of(manifest, metadata)
    written = False
    for shard in range(settings["shards"]):
        rows = shard_range(shard, len(manifest), settings["shard_rows"])
        table = EmbeddingTable.load(folder / shard_name(shard))
        has = np.zeros(len(table), dtype=bool)
        for mask in table.complete.values():
            has |= mask.numpy()
        place = {manifest.ids[row]: row for row in rows}
        chosen = np.array([place[id] for id, use in zip(table.ids, has) if use], dtype=np.int64)
        if not len(chosen):
            continue
        sources, _ = source.sources(rows)
        media: dict[str, list[str | None]] = {}
        for name, column in sources.items():
            cells = [column[row - rows.start] for row in chosen]
            media[name] = [None if cell is None else media_text(cell, source.kinds[name], index) for cell in cells]
            written = written or any(one is not None and one.startswith(f"{MEDIA}/") for one in media[name])
        kept = table.select(torch.from_numpy(has))
        yield Items(
            EmbeddingTable(kept.ids, kept.vectors, kept.complete),
            every.take(pa.array(chosen)) if every.num_columns else every,
            media,
        )
    if written:
        os.sync()  # once for all: to wait for each of a million pictures would take hours


def media_text(source: Source, kind: str, index: Path) -> str:
    """What an index says of a source: a text itself, a number as text, else an address.

    Args:
        source: of one modality of one row.
        kind: of the modality.
        index: the folder of the index. Content that has no file gets one there, named by its SHA-256; its address is
            relative to the folder, so that this can be moved.
    """
    if kind in ("text", "number"):
        return str(source)
    if isinstance(source, str | Path):
        return str(source)
    if not isinstance(source, bytes):
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(source, dtype=np.float32), allow_pickle=False)
        source = buffer.getvalue()
    name = f"{MEDIA}/{hashlib.sha256(source).hexdigest()}{_ending(source)}"
    file = index / name
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        temporary = file.with_name(f".{file.name}.partial")
        temporary.write_bytes(source)
        os.replace(temporary, file)  # noqa: PTH105
    return name


def _ending(content: bytes) -> str:
    return next((ending for at, mark, ending in _ENDINGS if content[at : at + len(mark)] == mark), ".bin")
