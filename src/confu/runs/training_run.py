"""Training by a run file: everything wrong with the data is found first, then the one loop of confu trains."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from rich.console import Console
from torch import nn

from confu.data.coverage import coverage
from confu.data.manifest import Manifest
from confu.data.readers import Reader
from confu.distributed import rank
from confu.inference.model_folder import save_inputs
from confu.runs.disk import room_on_disk
from confu.runs.objective import run_objective, run_train_settings
from confu.runs.opened import RUN, check_same_rows, read_inputs
from confu.runs.preparing.classes import class_names_of
from confu.runs.preparing.datasets import build_splits
from confu.runs.preparing.parts import build_parts
from confu.runs.preparing.rows import PARTS, RowTable
from confu.runs.preparing.table import assign_rows, check_sizes, open_manifest
from confu.runs.preparing.trouble import find_trouble, settle
from confu.runs.processes import end_processes, first_alone, start_processes
from confu.runs.run_files.reading import read_run_file, with_sets, write_run_file
from confu.runs.run_files.rules import check_run, run_plan
from confu.runs.run_files.run_file import RunFile
from confu.training import fit
from confu.training.state import SETTINGS, STATE, claim_folder


def train(run: RunFile | Path | str, sets: Sequence[str] = (), progress: bool = True) -> Path:
    """Train as a run file says, or go on with it where it was stopped.

    Everything that can be known to be wrong is found before training starts; broken rows are listed in
    `problems.csv` of the run folder.

    Args:
        run: the file, or what `read_run_file` made of it.
        sets: changes such as `"train.lr=1e-3"`.
        progress: say what is done, and draw progress bars.

    Returns:
        the run folder.

    Raises:
        ValueError: for mistakes in the run file, broken rows with `data.on_error: stop`, a folder with another run,
            or a disk without space; nothing that was finished is lost, and the same call goes on.
    """
    run = with_sets(run, sets) if isinstance(run, RunFile) else read_run_file(run, sets)
    check_run(run)
    folder = Path(run.out)
    joined = start_processes()
    console = Console(stderr=True, quiet=not progress or rank() > 0, highlight=False, soft_wrap=True, markup=False)
    with room_on_disk(folder):
        manifest = open_manifest(run)
        settings = {"train": run_train_settings(run).model_dump(), **description(run, manifest)}
        with first_alone():  # it finds the files of the others in the folder, and what it decoded in the cache
            bars = progress and rank() == 0 and console.is_terminal  # in a file or a pipe a bar is an empty line
            rows, readers, encoders, names = _prepared(run, manifest, folder, settings, console, bars)
            _say(run, manifest, rows, console)
            objective = run_objective(run, encoders)
            splits = build_splits(run, manifest, rows, readers, names, encoders, bars)
        described = {name: value for name, value in settings.items() if name != "train"}
        how = run_train_settings(run)
        result = fit(objective, splits.train, splits.validation, how, folder, described, progress=progress)
    console.print(
        f"Trained in {result.seconds:.0f} s; the lowest validation loss, {result.best_loss:.3f}, was in epoch "
        f"{result.best_epoch} of {how.epochs}. The run is in {folder}"
    )
    if joined:
        end_processes()
    return folder


def description(run: RunFile, manifest: Manifest) -> dict[str, Any]:
    """What makes a run what it is, beside how it is trained; where the files lie is no part of it."""
    settings = run.model_dump(exclude={"manifest": True, "out": True, "train": True, "data": {"cache", "workers"}})
    return {"run": settings, "manifest": {"rows": len(manifest), "sha256": _content(run, manifest)}}


def _content(run: RunFile, manifest: Manifest) -> str:
    """A hash of the cells that a run reads."""
    used = [modality.column for modality in run.modalities.values()]
    roles = [name for name in ("id", "label", "split", "group") if name in manifest.table.column_names]
    found = hashlib.sha256()
    for name in [*roles, *used]:
        column = manifest.table[name].combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, pa.schema([("", column.type)])) as writer:
            writer.write_table(pa.table({"": column}))
        found.update(memoryview(sink.getvalue()))
    return found.hexdigest()


def _prepared(
    run: RunFile, manifest: Manifest, folder: Path, settings: dict[str, Any], console: Console, progress: bool
) -> tuple[RowTable, dict[str, Reader], dict[str, nn.Module], tuple[str, ...] | None]:
    """Rows, readers, new encoders and class names: those of an earlier start, or found and written down."""
    if _begun(folder, settings):
        rows = RowTable.load(folder)
        check_same_rows(folder, run, manifest, rows)
        readers, names = read_inputs(folder)
        console.print(f"going on with the run in {folder}")
        torch.manual_seed(run.seed)
        return rows, *build_parts(run, manifest, rows.of("train"), readers), names
    rows, notes = assign_rows(run, manifest)
    for note in notes:
        console.print(note)
    seen = find_trouble(run, manifest, rows)
    if seen.columns:  # no reader can be made for an empty column
        settle(seen, run, rows, folder, console)
    torch.manual_seed(run.seed)  # the weights follow from it alone: encoders first, then what reads them
    readers, encoders = build_parts(run, manifest, rows.of("train"))
    state = torch.get_rng_state()
    rows = settle(find_trouble(run, manifest, rows, readers, progress), run, rows, folder, console)
    torch.set_rng_state(state)
    check_sizes(run, rows)
    names = _class_names(manifest, rows, console)
    folder.mkdir(parents=True, exist_ok=True)
    save_inputs(folder, readers, names)
    write_run_file(run, folder / RUN)
    rows.save(folder)
    claim_folder(folder, settings)  # last: where it is, the others are
    return rows, readers, encoders, names


def _begun(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds this run; what another one left that was not trained yet gives way.

    Raises:
        ValueError: if it holds another run.
    """
    if not (folder / SETTINGS).exists():
        return False
    try:
        claim_folder(folder, settings)
    except ValueError:
        if (folder / STATE).exists():
            raise
        (folder / SETTINGS).unlink()
        return False
    return True


def _class_names(manifest: Manifest, rows: RowTable, console: Console) -> tuple[str, ...] | None:
    if manifest.labels is None:
        return None
    labels = [manifest.labels[row] for row in rows.kept]
    if missing := sum(label is None for label in labels):
        console.print(f"{missing} rows have no label, so that labels are not used")
        return None
    return class_names_of(labels)


def _say(run: RunFile, manifest: Manifest, rows: RowTable, console: Console) -> None:
    kept = rows.kept
    console.print(f"{manifest.address}: {len(manifest):,} rows; " + ", ".join(
        f"{part} {rows.count(part):,}" for part in PARTS))  # fmt: skip
    table = coverage({name: mask[kept] for name, mask in rows.present.items()}).to_rich()
    # In a file or a pipe rich takes 80 columns for granted, and would cut the names of long subsets.
    console.print(table, width=None if console.is_terminal else 200)
    console.print(str(run_plan(run)))
