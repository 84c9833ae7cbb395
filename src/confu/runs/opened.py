"""A trained run opened again: its model, its readers and its data, split as they were."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from confu.data import Splits
from confu.data.manifest import Manifest, Problem
from confu.data.readers import Reader, build_reader
from confu.inference.model_folder import INPUTS, load_inputs
from confu.models import MultimodalModel, load_model
from confu.runs.preparing.datasets import build_splits
from confu.runs.preparing.rows import ROWS, RowTable
from confu.runs.preparing.table import open_manifest
from confu.runs.run_files.reading import read_run_file
from confu.runs.run_files.run_file import RunFile

RUN = "run.yaml"


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
    readers, class_names = read_inputs(folder)
    rows = RowTable.load(folder)
    table = open_manifest(run)
    check_same_rows(folder, run, table, rows)
    model = load_model(folder, encoders, allow_custom=allow_custom)
    splits = build_splits(run, table, rows, readers, class_names, encoders_of(model), progress)
    return OpenedRun(folder, run, table, splits, model, readers, list(rows.problems))


def encoders_of(model: MultimodalModel) -> dict[str, nn.Module]:
    """The encoders of a model by modality."""
    return {name: model.encoders[name] for name in model.plan.modalities}


def check_same_rows(folder: Path, run: RunFile, manifest: Manifest, rows: RowTable) -> None:
    """Check that a manifest has the rows that a run was trained on, in their order, with the same gaps.

    Raises:
        ValueError: saying what differs.
    """
    advice = f"{folder} was trained on other rows. Put the table back, or train again in another folder"
    if len(manifest) != len(rows.ids):
        raise ValueError(f"{manifest.address}: has {len(manifest)} rows, had {len(rows.ids)}; {advice}")
    for row, (now, then) in enumerate(zip(manifest.ids, rows.ids)):
        if now != then:
            raise ValueError(f"{manifest.address}: row {row} has the id {now!r}, had {then!r}; {advice}")
    for name, modality in run.modalities.items():
        differ = (torch.from_numpy(manifest.present(modality.column)) != rows.present[name]).nonzero().flatten()
        if len(differ):
            row = int(differ[0])
            was = "filled" if bool(rows.present[name][row]) else "empty"
            raise ValueError(f"{manifest.where(row, modality.column)}: the cell was {was} and is not now; {advice}")


def read_inputs(folder: Path) -> tuple[dict[str, Reader], tuple[str, ...] | None]:
    """The readers and the class names of `inputs.json`."""
    inputs = load_inputs(folder)
    names = inputs.get("class_names")
    readers = {name: build_reader(settings) for name, settings in inputs["readers"].items()}
    return readers, None if names is None else tuple(names)
