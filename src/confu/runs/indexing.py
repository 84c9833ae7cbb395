"""`confu index`: a manifest embedded with a trained model, and stored so that it can be searched."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright cannot see them.

import hashlib
import io
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from confu.checks import check_known
from confu.data.manifest import Manifest, TableOptions, read_manifest
from confu.data.manifest.address import full_address
from confu.data.manifest.cells import filled
from confu.data.media import FILE_KINDS, format_of
from confu.embeddings import EmbeddingTable
from confu.index import About, Index
from confu.index.backend import load_backend
from confu.index.catalog import FILE, Catalog, WriterLock, read_catalog
from confu.index.columns import KEPT, flat_columns, merged_schema, plain_columns, stored_type
from confu.index.items import Items
from confu.inference.embedder import Embedder, load
from confu.inference.shards import missing_shards, read_settings, shard_name, shard_range
from confu.plan import Subset
from confu.runs.columns import manifest_digest, read_like, read_sources
from confu.runs.embedding import EmbeddedManifest, EmbedOptions, choose_columns, embed_manifest

WORK, MEDIA = ".embedding", "media"
_ADDING = "adding"


@dataclass(frozen=True)
class IndexOptions:
    """What of a manifest is stored, and where.

    Attributes:
        metadata: the columns to store beside the vectors; by default all that can be and are no modality.
        backend: exact, faiss, postgres or qdrant; exact by default. That of an index that is there stays.
        options: of the backend.
        replace: rows whose id is in the index take the place of what is there; else they are an error.
    """

    metadata: Sequence[str] | None = None
    backend: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    replace: bool = False


@dataclass(frozen=True)
class Indexed:
    """What `index_manifest` did.

    Attributes:
        folder: of the index.
        added: items that are new.
        replaced: items that were there before.
        skipped: rows that could not be read, listed in `skipped.csv` of the folder.
        empty: rows of which nothing could be embedded, for what they have is no subset that is stored.
        subsets: what was embedded.
        metadata: the columns that became metadata.
        without: modalities of the model that the manifest has no column for.
        items: in the index now.
    """

    folder: Path
    added: int
    replaced: int
    skipped: int
    empty: int
    subsets: tuple[Subset, ...]
    metadata: tuple[str, ...]
    without: tuple[str, ...]
    items: int


def index_manifest(
    run: Path | str,
    manifest: Path | str,
    out: Path | str,
    options: IndexOptions | None = None,
    embed: EmbedOptions | None = None,
    progress: bool = True,
) -> Indexed:
    """Embed every row of a manifest and store it; killed at any moment, the same call goes on where it was.

    Until all rows are embedded nothing changes in the index; then they come into it in one write.

    Args:
        run: a run folder, a model folder, or `owner/name` on the Hugging Face hub.
        manifest: its address; see `read_manifest`.
        out: folder of the index: new, or an index of the same model, to which the rows are added.
        options: what is stored, and where.
        embed: how rows are embedded.
        progress: draw a progress bar.

    Raises:
        ValueError: if the index is of another model or another process writes it, an id is there, or a row cannot be
            read. What is embedded by then is kept for the next try.
    """
    folder, opts, embed = Path(out).expanduser(), options or IndexOptions(), embed or EmbedOptions()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("confu index is one process; start it without torchrun")
    embedder = load(run, allow_custom=embed.allow_custom)
    if embedder.model.score != "cosine":
        raise ValueError(
            f"{run}: its method compares all modalities at once ({embedder.model.score}), so that no nearest items of "
            "one embedding exist. Train with confu or clip to search"
        )
    stored = read_catalog(folder) if (folder / FILE).exists() else None
    table = read_like(embedder.parts.facts.table, manifest, embed.allow_outside)
    embed = _in_stored_subsets(folder, stored, embedder, table, embed)
    columns, subsets = choose_columns(embedder, table, embed)
    embed = replace(embed, columns=columns, subsets=subsets)
    metadata = _metadata_columns(table, list(columns.values()), opts.metadata)
    stored_metadata = _metadata_table(table, metadata)  # what cannot be stored is refused before hours of work
    kinds = {name: reader.modality_kind for name, reader in embedder.readers.items()}
    model = full_address(run) if Path(run).exists() else str(run)
    about = About(model, embedder.parts.fingerprint(), embedder.dim, subsets, kinds)
    _check_same(folder, run, about, stored, opts.backend)
    digest = manifest_digest(table, list(columns.values()))
    work = _work_folder(folder, about.fingerprint, digest, subsets, columns, embed.batch_size, embed.threads)
    again = (work / _ADDING).exists()  # killed in the last step: some or all of these rows may be there
    folder.mkdir(parents=True, exist_ok=True)
    fresh = not opts.replace and not again  # then no row may be there already
    if stored is not None and (fresh or stored.segments is None):
        with Index.open(folder, **opts.options) as index:
            merged_schema(index.schema, stored_metadata.schema)
            if fresh:
                _check_new(index, table)
    lock = WriterLock(folder)  # before hours of work, not after
    try:
        for left in work.parent.glob("*"):  # of other work, which nothing will finish
            if left != work:
                shutil.rmtree(left)
        made = embed_manifest(run, manifest, work, embed, progress)
    finally:
        lock.release()
    if stored is None:
        index = Index.create(folder, about, opts.backend or "exact", **opts.options)
    else:
        index = Index.open(folder, writable=True, **opts.options)
    with index:
        entry = _manifest_entry(table, columns, metadata, made)
        entries = [one for one in index.about.source.get("manifests", []) if one["manifest"] != table.address]
        (work / _ADDING).touch()
        try:
            items = items_of_shards(
                work, folder, table, {name: (columns[name], kinds[name]) for name in columns}, stored_metadata
            )
            change = index.add_parts(items, opts.replace or again, {"manifests": [*entries, entry]})
        except Exception:
            (work / _ADDING).unlink()
            raise
        count = len(index)
    skipped = made.skipped or 0
    _keep_skipped(work, folder)
    shutil.rmtree(folder / WORK)
    empty = len(table) - skipped - change.added - change.replaced
    without = tuple(name for name in embedder.modalities if name not in columns)
    return Indexed(
        folder,
        change.added,
        change.replaced,
        skipped,
        empty,
        subsets,
        tuple(stored_metadata.column_names),
        without,
        count,
    )


def remove_items(folder: Path | str, ids: Sequence[str], **options: Any) -> int:
    """Take items out of an index, and return how many were there."""
    with Index.open(folder, writable=True, **options) as index:
        return index.delete(ids)


def verify_index(folder: Path | str, **options: Any) -> list[str]:
    """Read all of an index again, also of one that is too damaged to be opened, and report damage."""
    try:
        with Index.open(folder, **options) as index:
            return index.verify()
    except ValueError as error:
        return [str(error)]


def check_fresh(folder: Path | str, allow_custom: bool = False, **options: Any) -> list[str]:
    """What has changed since an index was made, of its model and its manifests; nothing if it is up to date.

    Manifests are read again and compared cell by cell. The files that they name are not opened: a picture that was
    replaced under its old name is not seen.

    Args:
        folder: of the index.
        allow_custom: build encoders by the function that the model's files name.
        options: of the backend.
    """
    with Index.open(folder, **options) as index:
        about = index.about
    if not about.source:
        return []  # made by hand: nothing is said of where it came from
    stale: list[str] = []
    try:
        if load(about.model, allow_custom=allow_custom).parts.fingerprint() != about.fingerprint:
            stale.append(f"the model {about.model} was trained further or replaced; index again")
    except ValueError as error:
        stale.append(f"the model cannot be had ({error})")
    for entry in about.source.get("manifests", []):
        try:
            table = read_manifest(entry["manifest"], entry["allow_outside"], TableOptions(**entry.get("table", {})))
            digest = manifest_digest(table, entry["cells"])
        except ValueError as error:
            stale.append(f"the manifest {entry['manifest']} is not as it was ({error})")
            continue
        if digest != entry["digest"]:
            stale.append(
                f"the manifest {entry['manifest']} has changed ({entry['rows']} rows then, {len(table)} now); index it "
                "again with --replace"
            )
    return stale


def items_of_shards(
    folder: Path, index: Path, manifest: Manifest, columns: Mapping[str, tuple[str, str]], metadata: pa.Table
) -> Iterator[Items]:
    """The items of a folder of shards, a shard at a time; rows of which nothing could be embedded are left out.

    Args:
        folder: of the shards.
        index: where files that the manifest itself holds are written to, as `media/SHA256.png`.
        manifest: that the shards were made of.
        columns: modality -> its column and kind.
        metadata: a row for each of the manifest.
    """
    settings = read_settings(folder)
    if missing_shards(folder, settings["shards"]):
        raise AssertionError("the shards are not complete")
    wrote_media = False
    for shard in range(settings["shards"]):
        rows = shard_range(shard, len(manifest), settings["shard_rows"])
        table = EmbeddingTable.load(folder / shard_name(shard))
        has_any = torch.zeros(len(table), dtype=torch.bool)
        for mask in table.complete.values():
            has_any |= mask
        row_of = {manifest.ids[row]: row for row in rows}
        chosen = [row_of[id] for id, use in zip(table.ids, has_any.tolist()) if use]
        if not chosen:
            continue
        media: dict[str, list[str | None]] = {}
        for name, (column, kind) in columns.items():
            cells = read_sources(manifest, column, kind, rows)[0]
            texts = [cells[row - rows.start] for row in chosen]
            media[name] = [None if cell is None else media_text(cell, kind, index) for cell in texts]
            wrote_media |= any(text is not None and text.startswith(f"{MEDIA}/") for text in media[name])
        kept = table.select(has_any)
        values = metadata.take(pa.array(chosen, pa.int64())) if metadata.num_columns else metadata
        yield Items(EmbeddingTable(kept.ids, kept.vectors, kept.complete), values, media)
    if wrote_media:
        os.sync()  # once for all: to wait for each of a million pictures would take hours


def media_text(source: Any, kind: str, index: Path) -> str:
    """What an index says of a source: a text itself, a number as text, else an address.

    Args:
        source: of one modality of one row.
        kind: of the modality.
        index: the folder of the index. Content that has no file gets one there, named by its SHA-256; its address is
            relative to the folder, so that this can be moved.
    """
    if isinstance(source, list) and kind in FILE_KINDS:
        source = source[0]
    if kind == "table":
        return json.dumps(source, ensure_ascii=False, default=str)
    if kind in ("text", "number") or isinstance(source, str | Path):
        return str(source)
    if not isinstance(source, bytes):
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(source, dtype=np.float32), allow_pickle=False)
        source = buffer.getvalue()
    known = format_of(source)
    name = f"{MEDIA}/{hashlib.sha256(source).hexdigest()}{known.suffix if known else '.bin'}"
    file = index / name
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        temporary = file.with_name(f".{file.name}.partial")
        temporary.write_bytes(source)
        temporary.replace(file)
    return name


def _in_stored_subsets(
    folder: Path, stored: Catalog | None, embedder: Embedder, table: Manifest, embed: EmbedOptions
) -> EmbedOptions:
    """The options with the subsets to embed: of an index that is there, those that it stores."""
    subsets = choose_columns(embedder, table, embed)[1]
    if stored is None:
        return replace(embed, subsets=subsets)
    known = stored.about.subsets
    if embed.subsets is not None and (more := [str(subset) for subset in subsets if subset not in known]):
        raise ValueError(
            f"{folder} stores {', '.join(map(str, known))}; it cannot take {', '.join(more)} now. Make a new index"
        )
    kept = tuple(subset for subset in subsets if subset in known)
    if not kept:
        raise ValueError(
            f"{folder} stores {', '.join(map(str, known))}, and the manifest has columns for none of these"
        )
    return replace(embed, subsets=kept)


def _check_same(folder: Path, run: Path | str, about: About, stored: Catalog | None, backend: str | None) -> None:
    """An index that is there must be of this model, and of this backend if one was asked for."""
    if backend is not None:
        load_backend(backend)
    if stored is None:
        return
    if stored.about.fingerprint != about.fingerprint:
        raise ValueError(
            f"{folder} is an index of another model ({stored.about.model}); what {run} embeds cannot be compared with "
            "it. Index into another folder"
        )
    if backend is not None and backend != stored.kind:
        raise ValueError(f"{folder} is kept in the backend {stored.kind!r}; for {backend!r} make a new index")


def _check_new(index: Index, table: Manifest) -> None:
    """No row may be in the index already; said before anything is embedded."""
    new = set(table.ids)
    if known := [id for id in index.ids() if id in new]:
        raise ValueError(
            f"{len(known)} of the {len(table)} rows of {table.address} are in {index.folder} already, {known[0]!r} the "
            "first; replace them with replace=True (--replace), or give the new rows other ids"
        )


def _work_folder(folder: Path, *what: Any) -> Path:
    """Where the shards of just this work lie until they are in the index."""
    text = json.dumps(what, default=str)
    return folder / WORK / hashlib.sha256(text.encode()).hexdigest()[:16]


def _manifest_entry(
    table: Manifest, columns: Mapping[str, str], metadata: Sequence[str], made: EmbeddedManifest
) -> dict[str, Any]:
    """What an index keeps of a manifest, so that `check_fresh` can tell whether it has changed."""
    cells = list(dict.fromkeys([*columns.values(), *metadata]))
    return {
        "manifest": table.address,
        "allow_outside": table.allow_outside,
        "table": asdict(table.options),
        "rows": len(table),
        "skipped": made.skipped or 0,
        "columns": dict(columns),
        "metadata": list(metadata),
        "cells": cells,
        "digest": manifest_digest(table, cells),
    }


def _keep_skipped(work: Path, folder: Path) -> None:
    listed = work / "skipped.csv"
    if listed.exists():
        listed.replace(folder / listed.name)
    else:
        (folder / listed.name).unlink(missing_ok=True)


def _metadata_columns(manifest: Manifest, modalities: Sequence[str], requested: Sequence[str] | None) -> list[str]:
    """The columns that become metadata: those requested, or all that can be stored and are no modality."""
    table = manifest.table
    others = {one.name: one.type for one in table.schema if one.name != manifest.role_column("id")}
    unfit = {
        name: kind
        for name, kind in others.items()
        if None in map(stored_type, flat_columns(pa.schema([(name, kind)]).empty_table()).schema.types)
    }
    for name in requested or ():
        check_known(f"{manifest.address}: metadata column", name, others)
        if name in unfit:
            raise ValueError(
                f"{manifest.address}: metadata column {name!r} holds {unfit[name]}; expected {KEPT}. Leave it out"
            )
    if requested is not None:
        return list(dict.fromkeys(requested))
    if left_out := [f"{name} ({kind})" for name, kind in unfit.items() if name not in modalities]:
        warnings.warn(
            f"{manifest.address}: {', '.join(left_out)}: not in the index, whose metadata is {KEPT}",
            stacklevel=3,
        )
    return [name for name in others if name not in (*modalities, *unfit)]


def _metadata_table(manifest: Manifest, names: Sequence[str]) -> pa.Table:
    """These columns of all rows as they are stored, null where a cell is missing; label, split and group as texts.

    Raises:
        ValueError: naming the column, if a value cannot be stored.
    """
    roles = {"label": manifest.labels, "split": manifest.splits, "group": manifest.groups}
    texts = {manifest.role_column(role): values for role, values in roles.items() if values is not None}
    columns = {}
    for name in names:
        column = manifest.column(name)
        if name in texts:
            columns[name] = pa.array(texts[name], pa.string())
        else:
            columns[name] = pc.if_else(pa.array(filled(column)), column, pa.scalar(None, column.type))
    try:
        return plain_columns(pa.table(columns))
    except ValueError as error:
        raise ValueError(f"{manifest.address}: {error} (--metadata names those to keep)") from error
