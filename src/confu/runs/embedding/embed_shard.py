"""One shard of an embedded manifest, and the list of the rows that had to be set aside."""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from confu.data.manifest import Problem
from confu.files import written_whole
from confu.inference import embed
from confu.inference.model_folder import ModelParts
from confu.inference.reading import read_batches
from confu.inference.shards import shard_name
from confu.plan import Subset
from confu.runs.embedding.embed_source import ManifestShards

SKIPPED = "skipped.csv"
_FIELDS = ("row", "id", "column", "source", "what")


@dataclass(frozen=True)
class Process:
    """This process among those that `torchrun` started, or one alone."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> "Process":
        """As `torchrun` says it.

        Raises:
            ValueError: if RANK or WORLD_SIZE are no whole numbers with 0 <= RANK < WORLD_SIZE.
        """
        texts = {name: os.environ.get(name, default) for name, default in
                 (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))}  # fmt: skip
        if not all(text.isdecimal() for text in texts.values()) or int(texts["RANK"]) >= int(texts["WORLD_SIZE"]):
            raise ValueError(f"expected whole numbers 0 <= RANK < WORLD_SIZE in the environment; got {texts}")
        return cls(int(texts["RANK"]), int(texts["WORLD_SIZE"]), int(texts["LOCAL_RANK"]))


@dataclass(frozen=True)
class ShardWork:
    """How the shards of a manifest are made.

    Attributes:
        parts: the model and its readers.
        source: the manifest.
        subsets: what to embed.
        labels: (n,) the class of each row of the manifest.
        folder: where the shards go.
        name: of the model.
        stop: raise at the first row that cannot be read, rather than set it aside.
        batch_size: rows at once.
        workers: threads that read files.
        advance: called with the number of rows that are done.
    """

    parts: ModelParts
    source: ManifestShards
    subsets: Sequence[Subset]
    labels: Int[Tensor, " n"] | None
    folder: Path
    name: str
    stop: bool
    batch_size: int
    workers: int
    advance: Callable[[int], None]

    def embed(self, shard: int, rows: range) -> None:
        """Write the file of a shard, and beside it `part-....skipped.csv` if rows of it were set aside.

        Raises:
            ValueError: if a row cannot be read and this shall stop the work, or the file cannot be written.
        """
        sources, problems = self.source.sources(rows)
        if problems and self.stop:
            raise _stopped(problems[0])
        bad = {problem.row for problem in problems}
        use = [row for row in rows if row not in bad]
        chosen = {name: [column[row - rows.start] for row in use] for name, column in sources.items()}

        def on_broken(position: int, modality: str, reason: str) -> None:
            problem = self.source.problem(use[position], modality, chosen[modality][position], reason)
            if self.stop:
                raise _stopped(problem)
            problems.append(problem)

        names = list(dict.fromkeys(name for subset in self.subsets for name in subset))
        positions = range(len(use))
        groups = [(names, positions[i : i + self.batch_size]) for i in range(0, len(use), self.batch_size)]
        ids = [self.source.manifest.ids[row] for row in use]
        batches = read_batches(self.parts.readers, chosen, groups, on_broken, ids, self.workers)
        table = embed(self.parts.model, batches, self.subsets, model_name=self.name, advance=self.advance)
        if self.labels is not None:
            row_of = dict(zip(ids, use))
            kept = torch.tensor([row_of[id] for id in table.ids], dtype=torch.long)
            table = replace(table, labels=self.labels[kept])
        self.advance(len(rows) - len(table))
        file = self.folder / shard_name(shard)
        try:
            _write_problems(_beside(file), sorted(problems, key=lambda one: one.row))
            table.save(file)  # last: the shard is done when this file is there
        except OSError as error:
            raise ValueError(
                f"{file} cannot be written ({error}); the shards before it are whole. Make room, and run the same "
                "command again"
            ) from error


def gather_skipped(folder: Path, shards: int, process: int = 0) -> int:
    """Write the rows that were set aside, of all shards, into one `skipped.csv`, and count them."""
    lines: list[dict[str, str]] = []
    for shard in range(shards):
        if (file := _beside(folder / shard_name(shard))).exists():
            with file.open(newline="", encoding="utf-8") as opened:
                lines += csv.DictReader(opened)
    if lines:
        # Each process that finds all shards done does this; the same content comes out, under a name of its own.
        own = folder / f".{SKIPPED}.{process}"
        _write_lines(own, lines)
        os.replace(own, folder / SKIPPED)  # noqa: PTH105
    else:
        (folder / SKIPPED).unlink(missing_ok=True)
    return len({line["row"] for line in lines})


def _stopped(problem: Problem) -> ValueError:
    return ValueError(
        f"{problem}. Repair it, or set such rows aside with --on-error skip; the shards that are done stay"
    )


def _beside(file: Path) -> Path:
    return file.with_suffix(".skipped.csv")


def _write_problems(file: Path, problems: Sequence[Problem]) -> None:
    if not problems:
        file.unlink(missing_ok=True)  # of a run that was killed before its rows were repaired
        return
    _write_lines(file, [{name: str(getattr(problem, name)) for name in _FIELDS} for problem in problems])


def _write_lines(file: Path, lines: Sequence[Mapping[Any, str]]) -> None:
    with written_whole(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, _FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
