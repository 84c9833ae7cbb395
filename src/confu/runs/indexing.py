"""`confu index`: a manifest embedded with a trained model, and stored so that it can be searched."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confu.data.manifest import Manifest, read_manifest
from confu.data.manifest.address import full_address
from confu.index import About, Index
from confu.index.abilities import AddsParts
from confu.index.catalog import FILE, WriterLock, read_catalog
from confu.inference.embedder import Embedder, load
from confu.plan import Subset
from confu.runs.embedding.embed import EmbeddedManifest, embed_manifest
from confu.runs.embedding.embed_source import (
    ManifestShards,
    choose_columns,
    choose_shown_subsets,
    manifest_digest,
)
from confu.runs.index_checks import check_new, check_same, stored_subsets
from confu.runs.indexed_rows import items_of_shards, metadata_columns

WORK = ".embedding"
_ADDING = "adding"


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
    subsets: Sequence[Subset | str] | None = None,
    columns: Mapping[str, str] | None = None,
    metadata: Sequence[str] | None = None,
    backend: str | None = None,
    options: Mapping[str, Any] | None = None,
    replace: bool = False,
    on_error: str = "stop",
    batch_size: int = 256,
    workers: int = 4,
    threads: int = 1,
    device: str | None = None,
    allow_outside: bool = False,
    allow_custom: bool = False,
    progress: bool = True,
) -> Indexed:
    """Embed every row of a manifest and store it; killed at any moment, the same call goes on where it was.

    Until all rows are embedded nothing changes in the index; then they come into it in one write.

    Args:
        run: a run folder, a model folder, or `owner/name` on the Hugging Face hub.
        manifest: its address; see `read_manifest`.
        out: folder of the index: new, or an index of the same model, to which the rows are added.
        subsets: what to store; by default all that the model embeds and the manifest has columns for.
        columns: modality -> column, where it is not that of the training.
        metadata: the columns to store beside the vectors; by default all of one value a row that are no modality.
        backend: exact, faiss, postgres or qdrant; exact by default. That of an index that is there stays.
        options: of the backend.
        replace: rows whose id is in the index take the place of what is there; else they are an error.
        on_error: `"stop"` at a row that cannot be read, or `"skip"` it and list it in `skipped.csv`.
        batch_size: rows at once.
        workers: threads that read files.
        threads: of torch, on a CPU.
        device: by default a GPU if there is one.
        allow_outside: follow paths that leave the manifest's folder.
        allow_custom: build encoders by the function that the model's files name.
        progress: draw a progress bar.

    Raises:
        ValueError: if the index is of another model or another process writes it, an id is there, or a row cannot be
            read. What is embedded by then is kept for the next try.
    """
    folder = Path(out)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("confu index is one process; start it without torchrun")
    embedder = load(run, allow_custom=allow_custom)
    if embedder.model.score != "cosine":
        raise ValueError(
            f"{run}: its method compares all modalities at once ({embedder.model.score}), so that no nearest items of "
            "one embedding exist. Train with confu or clip to search"
        )
    there = read_catalog(folder) if (folder / FILE).exists() else None
    table = read_manifest(manifest, allow_outside)
    chosen = choose_columns(embedder, table, columns)
    shown = stored_subsets(folder, there, choose_shown_subsets(embedder, chosen, subsets), subsets is not None)
    chosen = {name: column for name, column in chosen.items() if any(name in subset for subset in shown)}
    names = metadata_columns(table, list(chosen.values()), metadata)
    source = ManifestShards(table, chosen, {name: embedder.readers[name].modality_kind for name in chosen})
    about = _about(run, embedder, shown)
    check_same(folder, run, about, there, backend)
    work = _work_folder(folder, about.fingerprint, manifest_digest(table, chosen), shown, chosen, batch_size, threads)
    again = (work / _ADDING).exists()  # killed in the last step: some or all of these rows may be there
    folder.mkdir(parents=True, exist_ok=True)
    if there is not None and not replace and not again:
        check_new(folder, table, options or {})
    lock = WriterLock(folder)  # before hours of work, not after
    try:
        _clear(work)
        made = embed_manifest(
            run, manifest, work, shown, chosen, batch_size=batch_size, workers=workers, threads=threads,
            on_error=on_error, device=device, allow_outside=allow_outside, allow_custom=allow_custom, progress=progress,
        )  # fmt: skip
    finally:
        lock.release()
    if there is None:
        index = Index.create(folder, about, backend or "exact", **(options or {}))
    else:
        index = Index.open(folder, writable=True, **(options or {}))
    with index:
        entry = _source(table, chosen, names, made)
        sources = [one for one in index.about.source.get("manifests", []) if one["manifest"] != table.address]
        items = items_of_shards(work, folder, table, source, names)
        (work / _ADDING).touch()
        try:
            change = index.add_parts(items, replace or again, {"manifests": [*sources, entry]})
        except Exception:
            if isinstance(index.backend, AddsParts):  # of the others' writes some are there
                (work / _ADDING).unlink()
            raise
        stored = len(index)
    _keep_skipped(work, folder)
    shutil.rmtree(folder / WORK)
    empty = len(table) - (made.skipped or 0) - change.added - change.replaced
    without = tuple(name for name in embedder.modalities if name not in chosen)
    return Indexed(
        folder, change.added, change.replaced, made.skipped or 0, empty, shown, tuple(names), without, stored
    )  # fmt: skip


def remove_items(folder: Path | str, ids: Sequence[str], **options: Any) -> int:
    """Take items out of an index, and return how many were there."""
    with Index.open(folder, writable=True, **options) as index:
        return index.delete(ids)


def _about(run: Path | str, embedder: Embedder, subsets: tuple[Subset, ...]) -> About:
    kinds = {name: reader.modality_kind for name, reader in embedder.readers.items()}
    model = full_address(run) if Path(run).exists() else str(run)
    return About(model, embedder.parts.fingerprint(), embedder.dim, subsets, kinds)


def _work_folder(folder: Path, *what: Any) -> Path:
    """Where the shards of just this work lie until they are in the index."""
    text = json.dumps(what, default=str)
    return folder / WORK / hashlib.sha256(text.encode()).hexdigest()[:16]


def _clear(work: Path) -> None:
    """Remove what is left of other work, which nothing will finish."""
    for one in work.parent.glob("*"):
        if one != work:
            shutil.rmtree(one)


def _source(table: Manifest, chosen: Mapping[str, str], names: Sequence[str], made: EmbeddedManifest) -> dict[str, Any]:
    cells = list(dict.fromkeys([*chosen.values(), *names]))
    return {
        "manifest": table.address, "allow_outside": table.allow_outside, "rows": len(table),
        "skipped": made.skipped or 0, "columns": dict(chosen), "metadata": list(names), "cells": cells,
        "digest": manifest_digest(table, {name: name for name in cells}),
    }  # fmt: skip


def _keep_skipped(work: Path, folder: Path) -> None:
    listed = work / "skipped.csv"
    if listed.exists():
        os.replace(listed, folder / listed.name)  # noqa: PTH105
    else:
        (folder / listed.name).unlink(missing_ok=True)
