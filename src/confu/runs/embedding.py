"""`confu embed`: every row of a manifest with a trained model, in shards, by one process or by several."""

import csv
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from confu.checks import check_known
from confu.data.manifest import Manifest, Problem
from confu.data.readers.text import count_cut, warn_of_cut
from confu.files import written_whole
from confu.inference import embed
from confu.inference.embedder import Embedder, load
from confu.inference.reading import read_batches
from confu.inference.shards import claim_shards, missing_shards, shard_name, shard_range
from confu.nn.layers import check_positive
from confu.plan import Subset
from confu.runs.columns import cell_problem, class_names_of, manifest_digest, read_like, read_sources
from confu.runs.rows import class_numbers

SKIPPED = "skipped.csv"
_FIELDS = ("row", "id", "column", "source", "what")


@dataclass(frozen=True)
class EmbedOptions:
    """How a manifest is embedded.

    Attributes:
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

    Raises:
        ValueError: for a number below 1, or an unknown word.
    """

    subsets: Sequence[Subset | str] | None = None
    columns: Mapping[str, str] | None = None
    shard_rows: int = 4096
    batch_size: int = 256
    workers: int = 4
    threads: int = 1
    on_error: str = "stop"
    device: str | None = None
    allow_outside: bool = False
    allow_custom: bool = False

    def __post_init__(self) -> None:
        check_known("on_error", self.on_error, ("stop", "skip"))
        check_positive(
            shard_rows=self.shard_rows, batch_size=self.batch_size, workers=self.workers, threads=self.threads
        )


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
    options: EmbedOptions | None = None,
    progress: bool = True,
    **changes: Any,
) -> EmbeddedManifest:
    """Embed a manifest into a folder of Parquet files, each an `EmbeddingTable` of some rows.

    Finished shards are kept if the call is repeated. Under `torchrun`, process r of w takes the shards r, r + w, ...;
    the files are the same, byte for byte, however many processes make them on one kind of device.

    Args:
        run: a run folder, a model folder, or `owner/name` on the Hugging Face hub.
        manifest: its address; see `read_manifest`.
        out: folder of the shards.
        options: how; see `EmbedOptions`.
        progress: draw a progress bar.
        changes: options by their names, in place of `options`: `shard_rows=150`.

    Raises:
        ValueError: if the folder holds shards of something else, an id stands twice, or a row cannot be read. Shards
            that are done stay.
    """
    opts = options or EmbedOptions(**changes)
    rank, count, local_rank = _process()
    folder = Path(out).expanduser()
    device = opts.device or (f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu")
    embedder = load(run, device=device, allow_custom=opts.allow_custom)
    table = read_like(embedder.parts.facts.table, manifest, opts.allow_outside)
    _check_ids(table.ids)
    columns, subsets = choose_columns(embedder, table, opts)
    classes = None
    if table.labels is not None:  # the model's, and behind them those that only this manifest has
        known = embedder.parts.class_names or ()
        classes = (*known, *class_names_of(label for label in table.labels if label not in known))
    labels = class_numbers(table.labels, classes)
    shards = -(-len(table) // opts.shard_rows)
    settings = {
        "model": embedder.parts.fingerprint(),
        "manifest": manifest_digest(table, list(columns.values())),
        "rows": len(table),
        "shards": shards,
        "shard_rows": opts.shard_rows,
        "batch_size": opts.batch_size,
        "device": torch.device(device).type,
        "threads": opts.threads,
        "subsets": [str(subset) for subset in subsets],
        "columns": columns,
        "class_names": None if labels is None else list(classes or ()),
    }
    claim_shards(folder, settings, rank)
    own = [shard for shard in missing_shards(folder, shards) if shard % count == rank]
    total = sum(len(shard_range(shard, len(table), opts.shard_rows)) for shard in own)
    with _progress_bar(progress and rank == 0) as bar, _torch_threads(opts.threads):
        task = bar.add_task("embedding", total=total)
        work = _ShardWork(embedder, table, columns, subsets, labels, Path(str(run)).name, opts)
        for shard in own:
            rows = shard_range(shard, len(table), opts.shard_rows)
            work.write(folder / shard_name(shard), rows, lambda done: bar.advance(task, done))
    warn_of_cut(embedder.readers, work.cut)
    left = len(missing_shards(folder, shards))
    skipped = _gather_skipped(folder, shards, rank) if not left else None
    without = tuple(name for name in embedder.modalities if name not in columns)
    return EmbeddedManifest(folder, subsets, columns, without, len(table), skipped, shards, len(own), left)


def choose_columns(
    embedder: Embedder, manifest: Manifest, options: EmbedOptions
) -> tuple[dict[str, str], tuple[Subset, ...]]:
    """The column of each modality that is needed, and the subsets to embed, in the plan's order.

    What is known of the model's training says which column a modality came from; else it is its own name.

    Raises:
        ValueError: for an unknown modality, column or subset, or if no modality or subset has its columns.
    """
    requested, names = dict(options.columns or {}), manifest.table.column_names
    for name, column in requested.items():
        check_known("modality", name, embedder.modalities)
        if not manifest.has(column):
            check_known(f"{manifest.address}: column", column, names)
    own = {name: embedder.parts.facts.columns.get(name, name) for name in embedder.modalities} | requested
    columns = {name: column for name, column in own.items() if manifest.has(column)}
    if not columns:
        raise ValueError(
            f"{manifest.address}: has none of the columns {', '.join(own.values())} that the model's modalities come "
            f"from, only {', '.join(manifest.columns) or 'none'}; say which is which, e.g. --column "
            f"{embedder.modalities[0]}={manifest.columns[0] if manifest.columns else 'COLUMN'}"
        )
    known = ", ".join(map(str, embedder.subsets))
    if options.subsets is None:
        subsets = tuple(subset for subset in embedder.subsets if subset <= set(columns))
        if not subsets:
            names = ", ".join(columns)
            raise ValueError(
                f"the manifest has columns for {names}, of which the model embeds no subset; it embeds {known}"
            )
    else:
        wanted = set(map(Subset.parse, options.subsets))
        for subset in map(Subset.parse, options.subsets):
            if not embedder.supports(subset):
                raise ValueError(f"the model does not embed {subset}; it embeds {known}")
            if missing := [name for name in subset if name not in columns]:
                raise ValueError(f"the manifest has no column for {', '.join(missing)}, which {subset} needs")
        subsets = tuple(subset for subset in embedder.subsets if subset in wanted)
    return {name: column for name, column in columns.items() if any(name in subset for subset in subsets)}, subsets


@dataclass(frozen=True)
class _ShardWork:
    """How the shards of a manifest are made; `labels` is the class of each of its rows, `name` that of the model."""

    embedder: Embedder
    manifest: Manifest
    columns: Mapping[str, str]
    subsets: Sequence[Subset]
    labels: Int[Tensor, " n"] | None
    name: str
    options: EmbedOptions
    cut: Counter[str] = field(default_factory=Counter)
    """By modality, how many texts were longer than their encoder takes."""

    def write(self, file: Path, rows: range, advance: Callable[[int], None]) -> None:
        """Write the file of a shard, and beside it `part-....skipped.csv` if rows of it were set aside."""
        kinds = {name: self.embedder.readers[name].modality_kind for name in self.columns}
        sources: dict[str, list[Any]] = {}
        problems: list[Problem] = []
        for name, column in self.columns.items():
            sources[name], more = read_sources(self.manifest, column, kinds[name], rows)
            problems += more
        if problems:
            self._stop_or_go_on(problems[0])
        self.cut.update(count_cut(self.embedder.readers, sources))
        bad = {problem.row for problem in problems}
        kept = [row for row in rows if row not in bad]
        sources = {name: [cells[row - rows.start] for row in kept] for name, cells in sources.items()}

        def on_broken(position: int, modality: str, reason: str) -> None:
            column, source = self.columns[modality], sources[modality][position]
            problem = cell_problem(self.manifest, kept[position], column, kinds[modality], source, reason)
            self._stop_or_go_on(problem)
            problems.append(problem)

        ids = [self.manifest.ids[row] for row in kept]
        size = self.options.batch_size
        groups = [(list(self.columns), range(len(kept))[start : start + size]) for start in range(0, len(kept), size)]
        batches = read_batches(self.embedder.readers, sources, groups, on_broken, ids, self.options.workers)
        table = embed(self.embedder.model, batches, self.subsets, model_name=self.name, advance=advance)
        if self.labels is not None:
            row_of = dict(zip(ids, kept))
            labels = self.labels[torch.tensor([row_of[id] for id in table.ids], dtype=torch.long)]
            table = dataclasses.replace(table, labels=labels)
        advance(len(rows) - len(table))
        try:
            beside = _skipped_beside(file)
            beside.unlink(missing_ok=True)  # of a run that was killed before its rows were repaired
            if problems:
                ordered = sorted(problems, key=lambda problem: problem.row)
                _write_lines(beside, [{name: str(getattr(one, name)) for name in _FIELDS} for one in ordered])
            table.save(file)  # last: the shard is done when this file is there
        except OSError as error:
            raise ValueError(
                f"{file} cannot be written ({error}); the shards before it are whole. Make room, and run the same "
                "command again"
            ) from error

    def _stop_or_go_on(self, problem: Problem) -> None:
        if self.options.on_error == "stop":
            raise ValueError(
                f"{problem}. Repair it, or set such rows aside with --on-error skip; the shards that are done stay"
            )


def _process() -> tuple[int, int, int]:
    """The rank, number and local rank that `torchrun` says, or those of one process alone."""
    names = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    texts = {name: os.environ.get(name, default) for name, default in names.items()}
    if not all(text.isdecimal() for text in texts.values()) or int(texts["RANK"]) >= int(texts["WORLD_SIZE"]):
        raise ValueError(f"expected whole numbers 0 <= RANK < WORLD_SIZE in the environment; got {texts}")
    return int(texts["RANK"]), int(texts["WORLD_SIZE"]), int(texts["LOCAL_RANK"])


def _gather_skipped(folder: Path, shards: int, rank: int) -> int:
    """Write the rows that were set aside, of all shards, into one `skipped.csv`, and count them."""
    lines: list[dict[str, str]] = []
    for shard in range(shards):
        if (file := _skipped_beside(folder / shard_name(shard))).exists():
            with file.open(newline="", encoding="utf-8") as opened:
                lines += csv.DictReader(opened)
    if lines:
        # Each process that finds all shards done does this; the same content comes out, under a name of its own.
        own = folder / f".{SKIPPED}.{rank}"
        _write_lines(own, lines)
        own.replace(folder / SKIPPED)
    else:
        (folder / SKIPPED).unlink(missing_ok=True)
    return len({line["row"] for line in lines})


def _skipped_beside(file: Path) -> Path:
    return file.with_suffix(".skipped.csv")


def _write_lines(file: Path, lines: Sequence[Mapping[Any, str]]) -> None:
    with written_whole(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, _FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
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


def _progress_bar(shown: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not (shown and console.is_terminal),
        transient=True,
    )
