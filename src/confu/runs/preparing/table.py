"""The manifest of a run: opened, checked against the run file, its rows given to train, validation and test."""

from collections.abc import Iterable
from typing import Any

import torch

from confu.checks import check_known
from confu.data.manifest import Manifest, read_manifest, split_rows
from confu.data.manifest.address import FileResolver
from confu.data.manifest.cells import cells, source_of
from confu.runs.preparing.rows import PARTS, RowTable
from confu.runs.run_files.rules import run_plan
from confu.runs.run_files.run_file import RunFile


def open_manifest(run: RunFile) -> Manifest:
    """Read the manifest of a run and check that it has the columns that the run names.

    Raises:
        ValueError: as `read_manifest`; or for a column or a group that it does not have, with the nearest name.
    """
    manifest = read_manifest(run.manifest, allow_outside=run.data.allow_outside)
    for name, modality in run.modalities.items():
        check_known(f"modalities.{name}.column: {manifest.address} has the column", modality.column, manifest.columns)
    if run.data.group == "group" and manifest.groups is None:
        raise ValueError(f"data.group: {manifest.address} has no column 'group'; add it, or set data.group to null")
    return manifest


def assign_rows(run: RunFile, manifest: Manifest) -> tuple[RowTable, list[str]]:
    """Which row is learned from, which chooses the epoch, and which is kept for the test.

    The column `split` decides; where there is none, rows are drawn at random, and no group straddles two parts. Where
    that column has no validation rows, they are taken from the training rows in the same way.

    Returns:
        the rows, those whose split is empty or unknown without a part; and what was decided, in words.
    """
    n, groups, shares = len(manifest), manifest.groups, tuple(run.data.shares)
    present = {name: torch.from_numpy(manifest.present(modality.column)) for name, modality in run.modalities.items()}
    by = "" if groups is None else ", no group in two of them"
    if manifest.splits is None:
        parts = split_rows(groups, n, run.seed, shares)
        return RowTable(tuple(manifest.ids), tuple(parts), present), [f"rows were split at random{by}"]
    parts = [part if part in PARTS else None for part in manifest.splits]
    notes = []
    if "validation" not in parts:
        training = [row for row, part in enumerate(parts) if part == "train"]
        whole = shares[0] + shares[1]
        own = None if groups is None else [groups[row] for row in training]
        again = split_rows(own, len(training), run.seed, (shares[0] / whole, shares[1] / whole, 0.0))
        for row, part in zip(training, again):
            parts[row] = part
        notes.append(f"the column split has no validation rows: {again.count('validation')} were taken from train{by}")
    return RowTable(tuple(manifest.ids), tuple(parts), present), notes


def check_sizes(run: RunFile, rows: RowTable) -> None:
    """Check that there are enough rows for a batch, for validation, and for every term of the plan.

    Raises:
        ValueError: in the words of the run file.
    """
    masks = torch.stack(list(rows.present.values()))
    training, dropped = rows.of("train"), ""
    if run.data.gaps == "drop":
        training = [row for row in training if bool(masks[:, row].all())]
        dropped = " that have every modality (data.gaps: drop)"
    if len(training) < run.train.batch_size:
        raise ValueError(
            f"train has {len(training)} rows{dropped}, fewer than train.batch_size {run.train.batch_size}; lower it"
        )
    if rows.count("validation") < 2:
        raise ValueError(f"validation has {rows.count('validation')} rows, but 2 are needed; give it more")
    if run.data.gaps == "zeros":
        return
    for term in run_plan(run).terms:
        needed = [rows.present[name] for side in (term.left, term.right) for name in side]
        complete = int(torch.stack(needed).all(dim=0)[training].sum())
        if complete < 2:
            raise ValueError(
                f"the term '{term}' cannot be learned: {complete} training rows have all of it; add rows, or choose a "
                "plan without it (plan.terms)"
            )


def readable_sources(manifest: Manifest, column: str, kind: str, rows: Iterable[int]) -> list[Any]:
    """The sources of those of the rows that have one and can be resolved; the others are for the check to tell of."""
    found = cells(manifest.column(column))
    resolve = FileResolver(manifest.base, manifest.allow_outside)
    sources = []
    for row in rows:
        try:
            source = source_of(found[row], kind, resolve)
        except ValueError:
            continue
        if source is not None:
            sources.append(source)
    return sources
