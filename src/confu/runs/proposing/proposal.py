"""A first run file for a table that confu has never seen: what its columns are, what to train, and what it costs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confu.checks import check_known
from confu.data.coverage import Coverage, coverage
from confu.data.manifest import ColumnGuess, Manifest, guess_columns, read_manifest, unread_columns
from confu.files import written_whole
from confu.plan import Plan, confu_plan, disjoint_plan, pairwise_plan
from confu.runs.preparing.classes import class_names_of
from confu.runs.preparing.table import readable_sources
from confu.runs.proposing.init_text import Draft, draft_text
from confu.runs.proposing.peek import proposed_reader
from confu.runs.proposing.propose import left_out, modality_name, proposed_encoder, sparse_terms, training_size
from confu.runs.run_files.reading import read_run_file
from confu.runs.run_files.run_file import RunFile

_REPEATED = 0.5  # with fewer distinct texts than this share of the rows, texts are captions that repeat


@dataclass(frozen=True)
class Proposal:
    """What `init` found and wrote.

    Attributes:
        run: the settings.
        file: where they were written.
        text: what was written.
        manifest: the table.
        guesses: modality -> what its column seems to be.
        unused: column -> why it is no modality.
        coverage: which rows have what.
        plan: with `print(plan)`, its cost.
        notes: what to look at.
    """

    run: RunFile
    file: Path
    text: str
    manifest: Manifest
    guesses: dict[str, ColumnGuess]
    unused: dict[str, str]
    coverage: Coverage
    plan: Plan
    notes: tuple[str, ...]


def init(
    manifest: str | Path,
    out: str | Path = "run.yaml",
    *,
    columns: Sequence[str] | None = None,
    folder: str | None = None,
    pretrained: bool = False,
    dim: int = 128,
    seed: int = 0,
    overwrite: bool = False,
    allow_outside: bool = False,
) -> Proposal:
    """Look at a manifest and write a commented run file for it.

    Args:
        manifest: a table, a folder of class folders or a WebDataset tar; see `read_manifest`.
        out: the run file to write.
        columns: those to use; by default all that seem to hold a modality.
        folder: the run folder, relative to the run file; by default `runs/` and the manifest's name.
        pretrained: propose pretrained encoders, where there are any, in place of small ones that learn from scratch.
        dim: size of an embedding.
        seed: of the run.
        overwrite: replace `out` if it is there.
        allow_outside: follow paths that leave the manifest's folder.

    Raises:
        ValueError: as `read_manifest`; for an unknown column, fewer than two modalities, or a file that is there.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise ValueError(f"{out} is there already; give another name, or --overwrite")
    table = read_manifest(manifest, allow_outside=allow_outside)
    guesses, unused = _modalities(table, columns)
    if len(guesses) < 2:
        why = "; ".join(f"{column!r}: {text}" for column, text in unused.items()) or "there are no others"
        raise ValueError(
            f"{table.address}: {len(guesses)} column{'s' * (len(guesses) != 1)} can be a modality "
            f"({', '.join(guesses) or 'none'}), but at least two are aligned. Not used: {why}"
        )
    found = coverage({name: table.present(guess.column) for name, guess in guesses.items()})
    kind, plan = _plan(list(guesses))
    settings = {name: _settings(table, guess, dim, pretrained) for name, guess in guesses.items()}
    sparse = sparse_terms(plan, found)
    group, same_group, notes = _groups(table, guesses)
    if sparse:
        notes.append(f"Few rows are complete for {', '.join(sparse[:3])}{', ...' if len(sparse) > 3 else ''}: "
                     "sampling is balanced, so that each batch has some.")  # fmt: skip
    training, split = _split(table)
    size = training_size(training)
    draft = Draft(
        manifest=_relative(table.address, out), run_file=out.name, out=folder or f"runs/{_stem(table.address)}",
        rows=len(table), modalities=settings, guesses=guesses, unused=unused, plan=plan, plan_kind=kind, coverage=found,
        split=split, group=group, same_group=same_group, dim=dim, seed=seed, notes=notes, roles=_roles(table),
        allow_outside=allow_outside,
        train={**size, "steps": training // size["batch_size"], "lr": 1e-3, "weight_decay": 0.01,
               "sampling": "balanced" if sparse else "uniform"},
    )  # fmt: skip
    text = draft_text(draft)
    with written_whole(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Proposal(read_run_file(out), out, text, table, guesses, unused, found, plan, tuple(notes))


def _modalities(table: Manifest, columns: Sequence[str] | None) -> tuple[dict[str, ColumnGuess], dict[str, str]]:
    """The columns to use by their modality's name, and why the others are not used."""
    for column in columns or ():
        check_known(f"{table.address}: column", column, table.columns)
    unused = dict(unread_columns(table))
    guesses: dict[str, ColumnGuess] = {}
    for column, guess in guess_columns(table).items():
        why = "not among those that were asked for" if columns and column not in columns else left_out(guess)
        if why is not None:
            unused[column] = why
        else:
            guesses[modality_name(column, list(guesses))] = guess
    return guesses, unused


def _plan(names: list[str]) -> tuple[str, Plan]:
    if len(names) == 2:
        return "pairwise", pairwise_plan(names)
    return ("confu", confu_plan(names)) if len(names) == 3 else (
        "disjoint", disjoint_plan(names, max_order=2, fused_weight=0.5))  # fmt: skip


def _settings(table: Manifest, guess: ColumnGuess, dim: int, pretrained: bool) -> dict[str, Any]:
    encoder = proposed_encoder(guess.kind, dim, pretrained)
    settings: dict[str, Any] = {"column": guess.column, "kind": guess.kind, "encoder": encoder}
    if guess.kind in ("image", "audio", "video") and isinstance(encoder, dict):
        sources = readable_sources(table, guess.column, guess.kind, range(len(table)))
        settings["reader"] = proposed_reader(guess.kind, sources)
    return settings


def _groups(table: Manifest, guesses: dict[str, ColumnGuess]) -> tuple[tuple[str | None, str], str, list[str]]:
    """For `data.group` and `loss.same_group`, with notes."""
    if table.groups is not None:
        return ("group", "rows of one group are no negatives of one another; null: they are"), "excluded", []
    for name, guess in guesses.items():
        if guess.kind != "text":
            continue
        distinct = len(set(readable_sources(table, guess.column, "text", range(len(table)))))
        if distinct < _REPEATED * guess.filled:
            note = (f"Only {distinct:,} of {guess.filled:,} texts in {guess.column!r} differ: rows with the same one "
                    "are one group, and no negatives of one another.")  # fmt: skip
            return (name, "rows with the same text are one group; null: each stands for itself"), "excluded", [note]
    return (None, "'group' (a column of that name), or a text modality: rows with one text"), "negatives", []


def _roles(table: Manifest) -> list[str]:
    """What the columns hold that are no modality."""
    found = []
    if "id" in table.table.column_names:
        found.append("id names the rows.")
    if table.labels is not None:
        classes = class_names_of(table.labels)
        some = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
        found.append(f"label holds {len(classes):,} classes ({some}); the report asks for them, training does not.")
    if table.splits is not None:
        counts = ", ".join(f"{table.splits.count(part):,} {part}" for part in dict.fromkeys(table.splits) if part)
        found.append(f"split says which rows are for what: {counts}.")
    if table.groups is not None:
        found.append(f"group holds {len(set(table.groups)):,} groups.")
    return found


def _split(table: Manifest) -> tuple[int, str]:
    """How many rows there will be to train on, and how they are split, in words."""
    if table.splits is not None:
        training = table.splits.count("train")
        return max(2, training), "not used: the column split says it"
    apart = ", no group in two of them" if table.groups is not None else "; a column split would decide instead"
    return max(2, int(0.8 * len(table))), f"train, validation, test: drawn at random{apart}"


def _stem(address: str) -> str:
    return address.partition("::")[0].rstrip("/").rpartition("/")[2].split(".")[0] or "run"


def _relative(address: str, out: Path) -> str:
    return address if "://" in address else os.path.relpath(address, out.absolute().parent)
