"""From a run to what is trained or evaluated: table, rows, readers, encoders and data; each file is read once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn

from confu.checks import check_known
from confu.data import ArrayDataset, Splits
from confu.data.dataset import RowsOf
from confu.data.gaps import FilledDataset
from confu.data.manifest import Manifest, Problem, read_manifest
from confu.data.readers import Reader, build_reader
from confu.data.readers.text import limit_lengths, warn_of_cut
from confu.inference.model_folder import INPUTS, load_inputs
from confu.models import MultimodalModel, load_model
from confu.runs.columns import class_names_of, copies_note, first_equal_rows, table_options
from confu.runs.decode import Decoded, decode
from confu.runs.inputs import build_inputs
from confu.runs.problems import Problems, find_table_problems, set_aside
from confu.runs.rows import (
    ROWS,
    RowTable,
    assign_rows,
    check_same_rows,
    check_sizes,
    class_numbers,
    group_numbers,
)
from confu.runs.run_file import RunFile
from confu.runs.run_yaml import read_run_file
from confu.runs.start import Start

RUN = "run.yaml"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run's table, read and checked.

    Attributes:
        run: its settings.
        manifest: the whole table.
        rows: which are kept, and in which part.
        notes: how the rows were split and numbers standardised.
        problems: what is wrong with the table.
        readers: by modality; none if a whole column is unusable.
        encoders: by modality, new or as they were trained.
        decoded: by modality, what the cells of the rows hold.
        class_names: what labels mean; None if they are not known of every row.
    """

    run: RunFile
    manifest: Manifest
    rows: RowTable
    notes: list[str]
    problems: Problems
    readers: dict[str, Reader]
    encoders: dict[str, nn.Module]
    decoded: dict[str, Decoded]
    class_names: tuple[str, ...] | None = None

    def without_broken(self, folder: Path, console: Console) -> "Prepared":
        """The same without broken rows, as far as the run file allows it (see `set_aside`), with the class names."""
        rows = set_aside(self.problems, self.run, self.rows, folder, console)
        check_sizes(self.run, rows)
        labels = None if self.manifest.labels is None else [self.manifest.labels[row] for row in rows.kept]
        if labels is not None and (missing := labels.count(None)):
            console.print(f"{missing} rows have no label, so that labels are not used")
            labels = None
        return replace(self, rows=rows, class_names=None if labels is None else class_names_of(labels))

    def splits(self) -> Splits:
        """The data in the three parts of the run."""
        kept = self.rows.kept
        table = self.manifest.take(kept)
        columns = {name: one.column(kept, self.run.data.workers) for name, one in self.decoded.items()}
        grouped = _group_names(self.run, table)
        groups = None if grouped is None else group_numbers(grouped)
        labels = class_numbers(table.labels, self.class_names)
        whole = ArrayDataset(columns, labels, table.ids, self.class_names, groups)
        positions = {part: self.rows.positions(part) for part in ("train", "validation", "test")}
        if self.run.data.gaps == "drop":
            complete = torch.stack(list(whole.present.values())).all(dim=0)
            positions["train"] = positions["train"][complete[positions["train"]]]
        train, validation, test = (RowsOf(whole, rows) for rows in positions.values())
        if self.run.data.gaps == "zeros":  # a baseline of training; what is measured on the test keeps its gaps
            return Splits(FilledDataset(train), FilledDataset(validation), test)
        return Splits(train, validation, test)


def open_manifest(run: RunFile) -> Manifest:
    """Read the manifest of a run and check that it has the columns that the run names.

    Raises:
        ValueError: as `read_manifest`; or for a column or a group that it does not have, with the nearest name.
    """
    options = table_options(run.data.model_dump())
    manifest = read_manifest(run.manifest, run.data.allow_outside, options)
    names = manifest.table.column_names
    for role, column in (options.roles or {}).items():
        if column is not None:
            check_known(f"data.roles.{role}: {manifest.address} has the column", column, names)
    for name, modality in run.modalities.items():
        if not manifest.has(modality.column):
            parts = [part for part in modality.column.split("+") if part] if modality.kind == "table" else []
            for column in parts or [modality.column]:
                check_known(f"modalities.{name}.column: {manifest.address} has the column", column, names)
    if run.data.group == "group" and manifest.groups is None:
        column = "no column 'group'" if options.roles is None else "no group in data.roles"
        raise ValueError(f"data.group: {manifest.address} has {column}; add it, or set data.group to null")
    if run.data.dedupe:
        first = first_equal_rows(manifest, [modality.column for modality in run.modalities.values()])
        manifest = manifest.take(np.unique(first).tolist())
    return manifest


def prepare(
    run: RunFile,
    manifest: Manifest,
    readers: Mapping[str, Reader] | None = None,
    progress: bool = False,
    for_training: bool = False,
) -> Prepared:
    """Split the rows of a table, make readers and encoders, and read and check every cell once, into the cache.

    Args:
        run: checked.
        manifest: of the run.
        readers: in place of those of the run file; then no encoders are made.
        progress: show progress bars.
        for_training: check that there are enough rows before files are opened.

    Raises:
        ValueError: for a reader or an encoder that does not fit; what is wrong with rows and columns is returned.
    """
    rows, notes = assign_rows(run, manifest)
    if note := copies_note(manifest, [modality.column for modality in run.modalities.values()], rows.parts):
        notes.append(note)
    problems = find_table_problems(run, manifest, rows)
    if problems.columns:  # no reader can be made for an empty column
        return Prepared(run, manifest, rows, notes, problems, {}, {}, {})
    encoders: dict[str, nn.Module] = {}
    torch.manual_seed(run.seed)  # the weights follow from it alone: encoders first, then what reads them
    if readers is None:
        readers, encoders = _new_inputs(run, manifest, rows)
    if for_training:
        check_sizes(run, rows)
    state = torch.get_rng_state()
    every_row = range(len(manifest))
    decoded = {
        name: decode(run, manifest, name, reader, encoders.get(name), every_row, progress)
        for name, reader in readers.items()
    }
    torch.set_rng_state(state)
    problems = problems.with_broken([problem for one in decoded.values() for problem in one.problems])
    training = rows.without(problems.broken).of("train")
    for name, one in decoded.items():
        notes += one.remark_notes(name)
        notes += one.fit_scaling(name, training, run.seed)
    readers = {name: one.reader for name, one in decoded.items()}
    warn_of_cut(readers, {name: len(one.cut) for name, one in decoded.items() if one.cut})
    return Prepared(run, manifest, rows, notes, problems, readers, encoders, decoded)


def prepare_again(
    run: RunFile, manifest: Manifest, folder: Path, encoders: Mapping[str, nn.Module] | None, progress: bool = False
) -> Prepared:
    """As `prepare`, of a run that has begun: rows and readers are those of its folder.

    Args:
        run: its settings.
        manifest: of the run.
        folder: of the run.
        encoders: as they were trained; new ones if None, their weights drawn as at first.
        progress: show progress bars, where files have to be decoded again.

    Raises:
        ValueError: if the manifest has other rows now, or a file cannot be read any more.
    """
    rows = RowTable.load(folder)
    check_same_rows(folder, run, manifest, rows)
    readers, class_names = _stored_inputs(folder)
    if encoders is None:
        torch.manual_seed(run.seed)
        readers, encoders = _new_inputs(run, manifest, rows, readers)
    limit_lengths(readers, encoders)
    state = torch.get_rng_state()
    decoded = {
        name: decode(run, manifest, name, readers[name], encoders[name], rows.kept, progress, check=False)
        for name in run.modalities
    }
    torch.set_rng_state(state)
    if broken := [problem for one in decoded.values() for problem in one.problems]:
        raise ValueError(str(broken[0]))
    return Prepared(run, manifest, rows, [], Problems(), readers, dict(encoders), decoded, class_names)


def _new_inputs(
    run: RunFile, manifest: Manifest, rows: RowTable, readers: dict[str, Reader] | None = None
) -> tuple[dict[str, Reader], dict[str, nn.Module]]:
    """Readers, unless they are stored, and encoders; of the model that the run starts from, if it does."""
    start = Start.of(run)
    readers, encoders = build_inputs(run, manifest, rows.of("train"), readers, start)
    if start is not None:
        start.load_encoders(encoders)  # features of frozen ones are computed with these weights
    return readers, encoders


@dataclass(frozen=True)
class OpenedRun:
    """A trained run with everything that its evaluation needs.

    Attributes:
        folder: of the run.
        run: its settings.
        manifest: the whole table, also the rows that were set aside.
        splits: the data; rows that were set aside are in none of them.
        model: the best weights, in evaluation mode.
        readers: modality -> what makes a cell an input.
        skipped: why rows were set aside.
    """

    folder: Path
    run: RunFile
    manifest: Manifest
    splits: Splits
    model: MultimodalModel
    readers: dict[str, Reader]
    skipped: list[Problem]


def open_run(
    folder: str | Path,
    encoders: Mapping[str, nn.Module] | None = None,
    manifest: str | Path | None = None,
    progress: bool = False,
    allow_custom: bool = False,
) -> OpenedRun:
    """Open a trained run; no row changes its split.

    Args:
        folder: of the run.
        encoders: modules for the modalities whose encoders are the user's own (see `load_model`).
        manifest: where the data are now, if they have moved.
        progress: show progress bars, where files have to be decoded again.
        allow_custom: whether an encoder may be built by the function of the user's that the run names, which imports
            and runs it. Of a run from elsewhere it could be any function that is installed here.

    Raises:
        ValueError: if the folder is no trained run, or the manifest is not that of the run any more.
    """
    folder = Path(folder)
    if missing := [name for name in (RUN, INPUTS, ROWS) if not (folder / name).is_file()]:
        raise ValueError(f"{folder}: lacks {', '.join(missing)}; expected a run folder that `confu train` has made")
    run = read_run_file(folder / RUN).model_copy(update={"out": str(folder.absolute())})
    if manifest is not None:
        run = run.model_copy(update={"manifest": str(manifest)})
    _stored_inputs(folder)  # damaged files are reported before weights are loaded
    table = open_manifest(run)
    check_same_rows(folder, run, table, RowTable.load(folder))
    model = load_model(folder, encoders, allow_custom=allow_custom)
    trained = {name: model.encoders[name] for name in model.plan.modalities}
    ready = prepare_again(run, table, folder, trained, progress)
    return OpenedRun(folder, run, table, ready.splits(), model, ready.readers, list(ready.rows.problems))


def _stored_inputs(folder: Path) -> tuple[dict[str, Reader], tuple[str, ...] | None]:
    """The readers and the class names of `inputs.json`."""
    inputs = load_inputs(folder)
    names = inputs.get("class_names")
    readers = {name: build_reader(settings) for name, settings in inputs["readers"].items()}
    return readers, None if names is None else tuple(names)


def _group_names(run: RunFile, kept: Manifest) -> list[str | None] | None:
    """What each row belongs to: the column `group`, or its text in a modality; None if rows stand for themselves."""
    if run.data.group is None:
        return None
    if run.data.group == "group":
        return kept.groups
    modality = run.modalities[run.data.group]
    return [None if text is None else str(text) for text in kept.sources(modality.column, modality.kind)]
