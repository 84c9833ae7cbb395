"""`confu embed`: every row of a manifest with a trained model, in shards, by one process or by several."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from confu.checks import check_known
from confu.data.manifest import read_manifest
from confu.inference.embedder import Embedder, load
from confu.inference.shards import claim_shards, missing_shards, shard_range
from confu.nn.sizes import check_positive
from confu.plan import Subset
from confu.runs.embedding.embed_shard import Process, ShardWork, gather_skipped
from confu.runs.embedding.embed_source import ManifestShards, choose_columns, choose_shown_subsets, manifest_digest
from confu.runs.preparing.classes import class_names_of, class_numbers


@dataclass(frozen=True)
class EmbeddedManifest:
    """What `embed_manifest` did.

    Attributes:
        folder: of the shards; `confu.load_shards` reads them.
        subsets: what was embedded.
        columns: modality -> the column that it was read from.
        without: modalities of the model that the manifest has no column for.
        rows: of the manifest.
        skipped: rows that were set aside, listed in `skipped.csv`; None as long as shards are left.
        shards: in all.
        written: by this process, now.
        left: shards that are not done yet, as other processes are at work on them.
    """

    folder: Path
    subsets: tuple[Subset, ...]
    columns: dict[str, str]
    without: tuple[str, ...]
    rows: int
    skipped: int | None
    shards: int
    written: int
    left: int


def embed_manifest(
    run: Path | str,
    manifest: Path | str,
    out: Path | str,
    subsets: Sequence[Subset | str] | None = None,
    columns: Mapping[str, str] | None = None,
    shard_rows: int = 4096,
    batch_size: int = 256,
    workers: int = 4,
    threads: int = 1,
    on_error: str = "stop",
    device: str | None = None,
    allow_outside: bool = False,
    allow_custom: bool = False,
    progress: bool = True,
) -> EmbeddedManifest:
    """Embed a manifest into a folder of Parquet files, each an `EmbeddingTable` of some rows.

    Finished shards are kept if the call is repeated. Under `torchrun`, process r of w takes the shards r, r + w, ...;
    the files are the same, byte for byte, however many processes make them on one kind of device.

    Args:
        run: a run folder, a model folder, or `owner/name` on the Hugging Face hub.
        manifest: its address; see `read_manifest`.
        out: folder of the shards.
        subsets: what to embed; by default all that the model embeds and the manifest has columns for.
        columns: modality -> column, where it is not that of the training.
        shard_rows: rows in a file.
        batch_size: rows at once.
        workers: threads that read files.
        threads: of torch in each process, on a CPU. The last bits of a vector depend on them, so that one number is
            kept for all shards; where there are more cores, start more processes.
        on_error: `"stop"` at a row that cannot be read, or `"skip"` it and list it in `skipped.csv`.
        device: by default a GPU if there is one.
        allow_outside: follow paths that leave the manifest's folder.
        allow_custom: build encoders by the function that the model's files name.
        progress: draw a progress bar.

    Raises:
        ValueError: if the folder holds shards of something else, an id stands twice, or a row cannot be read. Shards
            that are done stay.
    """
    check_known("on_error", on_error, ("stop", "skip"))
    check_positive(shard_rows=shard_rows, batch_size=batch_size, workers=workers, threads=threads)
    process, folder = Process.from_environment(), Path(out)
    place = device or (f"cuda:{process.local_rank}" if torch.cuda.is_available() else "cpu")
    table = read_manifest(manifest, allow_outside)
    _check_ids(table.ids)
    embedder = load(run, device=place, allow_custom=allow_custom)
    chosen = choose_columns(embedder, table, columns)
    shown = choose_shown_subsets(embedder, chosen, subsets)
    chosen = {name: column for name, column in chosen.items() if any(name in subset for subset in shown)}
    classes = _classes(embedder, table.labels)
    labels = class_numbers(table.labels, classes)
    shards = -(-len(table) // shard_rows)
    settings = {
        "model": embedder.parts.fingerprint(), "manifest": manifest_digest(table, chosen), "rows": len(table),
        "shards": shards, "shard_rows": shard_rows, "batch_size": batch_size, "device": torch.device(place).type,
        "threads": threads,
        "subsets": [str(subset) for subset in shown], "columns": chosen,
        "class_names": None if labels is None else list(classes or ()),
    }  # fmt: skip
    claim_shards(folder, settings, process.rank)
    source = ManifestShards(table, chosen, {name: embedder.readers[name].modality_kind for name in chosen})
    own = [shard for shard in missing_shards(folder, shards) if shard % process.count == process.rank]
    total = sum(len(shard_range(shard, len(table), shard_rows)) for shard in own)
    with _bar(progress and process.rank == 0) as bar, _threads(threads):
        task = bar.add_task("embedding", total=total)
        work = ShardWork(
            embedder.parts, source, shown, labels, folder, Path(str(run)).name, on_error == "stop", batch_size, workers,
            advance=lambda count: bar.advance(task, count),
        )  # fmt: skip
        for shard in own:
            work.embed(shard, shard_range(shard, len(table), shard_rows))
    left = len(missing_shards(folder, shards))
    skipped = gather_skipped(folder, shards, process.rank) if not left else None
    without = tuple(name for name in embedder.modalities if name not in chosen)
    return EmbeddedManifest(folder, shown, chosen, without, len(table), skipped, shards, len(own), left)


def _classes(embedder: Embedder, labels: Sequence[str | None] | None) -> tuple[str, ...] | None:
    """The classes by number: the model's, and behind them those that only this manifest has."""
    if labels is None:
        return None
    known = embedder.parts.class_names or ()
    return (*known, *class_names_of([label for label in labels if label not in known]))


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """So many threads of torch, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_ids(ids: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for row, id in enumerate(ids):
        if first.setdefault(id, row) != row:
            raise ValueError(
                f"rows {first[id]} and {row} have the same id {id!r}; embeddings are found by it, so make each unique"
            )


def _bar(shown: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not (shown and console.is_terminal), transient=True)
