"""Training by a run file: everything wrong with the data is found first, then the one loop of confu trains."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import torch.distributed as dist
from rich.console import Console
from torch import nn

from confu.data import Dataset
from confu.data.augmented import Augment
from confu.data.coverage import coverage
from confu.data.dataset import RowsOf
from confu.data.manifest import ROLES, Manifest
from confu.distributed import rank, wait
from confu.files import write_json
from confu.inference import embed
from confu.inference.model_folder import read_parts, record_fingerprint, save_inputs
from confu.methods import METHODS, make_objective
from confu.models import save_model
from confu.models.checkpoint import DESCRIPTION, WEIGHTS, read_description, read_weights
from confu.runs.measures import rank_queries
from confu.runs.prepare import RUN, Prepared, open_manifest, prepare, prepare_again
from confu.runs.rows import PARTS, run_contents, sampled
from confu.runs.run_file import RunFile, check_run, run_plan
from confu.runs.run_yaml import read_run_file, with_sets, write_run_file
from confu.runs.start import Start
from confu.runs.summary import summarise, summary_sentences, summary_table
from confu.training import ContrastiveObjective, TrainSettings, fit
from confu.training.precision import check_environment
from confu.training.stacking import FEWEST, fit_stacking
from confu.training.state import SETTINGS, STATE, claim_folder, exclusive

_RANKED = 2000  # validation rows whose retrieval is printed
# Libraries have errors of their own for a full disk: torch's says only that its file is shorter than it should be,
# numpy's has no number.
_DISK_FULL = (
    "os error 28",
    "No space left on device",
    "PytorchStreamWriter failed",
    ". unexpected pos ",
    "cannot write the cache",
)


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
        ValueError: for mistakes in the run file, broken rows with `data.on_error: stop`, a folder with another run or
            that another process trains into, or a disk without space; nothing that was finished is lost, and the same
            call goes on.
    """
    check_environment()
    run = with_sets(run, sets) if isinstance(run, RunFile) else read_run_file(run, sets)
    check_run(run)
    folder, train_settings = Path(run.out), _train_settings(run)
    joined = _join_processes()
    console = Console(stderr=True, quiet=not progress or rank() > 0, highlight=False, soft_wrap=True, markup=False)
    bars = progress and rank() == 0 and console.is_terminal  # in a file or a pipe a bar is an empty line
    with _disk_errors(folder), exclusive(folder) if rank() == 0 else nullcontext():
        manifest = open_manifest(run)
        described = description(run, manifest)
        settings = {"train": train_settings.model_dump(), **described}
        with _first_alone():  # the others find its files in the folder, and what it decoded in the cache
            if _has_begun(folder, settings):
                if read_run_file(folder / RUN).train != run.train:  # more epochs, or another patience
                    write_run_file(run, folder / RUN)
                prepared = prepare_again(run, manifest, folder, None, bars)
                console.print(f"going on with the run in {folder}")
            else:
                prepared = _prepare_folder(run, manifest, folder, settings, console, bars)
            _print_summary(prepared, console)
            objective = build_run_objective(run, prepared.encoders)
            splits = prepared.splits()
            objective.augment = _augment_of(run, splits.train)
        result = fit(objective, splits.train, splits.validation, train_settings, folder, described, progress=progress)
        if rank() == 0:
            if run.model.stacking:
                _stack(run, splits.validation, console)
            record_fingerprint(folder)
    best = f"the lowest validation loss, {result.best_loss:.3f}"
    if result.best_mrr is not None:
        best = f"the highest mean reciprocal rank of validation queries, {result.best_mrr:.3f}"
    console.print(
        f"Trained in {result.seconds:.0f} s; {best}, was in epoch {result.best_epoch} of {train_settings.epochs}. "
        f"The run is in {folder}"
    )
    if progress and rank() == 0:
        _print_retrieval(run, splits.validation, console)
    if joined:
        wait()  # a process that ends while another still talks to it takes that one down
        dist.destroy_process_group()
    return folder


def build_run_objective(run: RunFile, encoders: Mapping[str, nn.Module]) -> ContrastiveObjective:
    """The model and the loss of a run; what the run file leaves open is the method's own choice.

    Args:
        run: checked.
        encoders: by modality, newly made; the caller has set the seed before it made them.
    """
    loss = run.loss
    objective = make_objective(
        run.method,
        run_plan(run),
        encoders,
        run.model.model_dump(exclude={"stacking"}),
        loss.temperature,
        loss.learned,
        loss.same_group,
        loss.equal_inputs,
    )
    if (start := Start.of(run)) is not None:
        start.load_into(objective.model)
    return objective


def _augment_of(run: RunFile, train: Dataset) -> Augment | None:
    """The augmentations of a run; a ValueError names one that does not fit what the encoder gets."""
    strengths = {name: modality.augment for name, modality in run.modalities.items() if modality.augment}
    kinds = {name: modality.kind for name, modality in run.modalities.items()}
    return Augment(train, strengths, kinds) if strengths else None


def description(run: RunFile, manifest: Manifest) -> dict[str, Any]:
    """What makes a run what it is, beside how it is trained; where the files lie is no part of it."""
    settings = run.model_dump(exclude={"manifest": True, "out": True, "train": True, "data": {"cache", "workers"}})
    if (start := Start.of(run)) is not None:
        settings["start_from"] = start.digest()
    columns = [name for name in map(manifest.role_column, ROLES) if name is not None]
    columns += [modality.column for modality in run.modalities.values()]
    digest = hashlib.sha256()
    for name in columns:
        column = manifest.column(name).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, pa.schema([("", column.type)])) as writer:
            writer.write_table(pa.table({"": column}))
        digest.update(memoryview(sink.getvalue()))
    return {"run": settings, "manifest": {"rows": len(manifest), "sha256": digest.hexdigest()}}


def _train_settings(run: RunFile) -> TrainSettings:
    """How to train, with the method's learning rate of the temperature unless the run file has one."""
    own = METHODS[run.method].temperature_lr
    if own is None or run.train.temperature_lr is not None:
        return run.train
    return run.train.model_copy(update={"temperature_lr": own})


def _prepare_folder(
    run: RunFile, manifest: Manifest, folder: Path, settings: dict[str, Any], console: Console, progress: bool
) -> Prepared:
    """Prepare a new run and write down what it starts from."""
    prepared = prepare(run, manifest, progress=progress, for_training=True)
    for note in prepared.notes:
        console.print(note)
    prepared = prepared.without_broken(folder, console)
    folder.mkdir(parents=True, exist_ok=True)
    save_inputs(folder, prepared.readers, prepared.class_names)
    write_run_file(run, folder / RUN)
    prepared.rows.save(folder)
    claim_folder(folder, settings)  # last: where it is, the others are
    return prepared


def _has_begun(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds this run; what another one left that was not trained yet gives way."""
    if not (folder / SETTINGS).exists():
        return False
    _add_new_settings(folder / SETTINGS, settings)
    try:
        claim_folder(folder, settings, grow=(folder / STATE).exists())
    except ValueError:
        if (folder / STATE).exists():
            raise
        (folder / SETTINGS).unlink()
        return False
    return True


def _add_new_settings(file: Path, requested: dict[str, Any]) -> None:
    """Write into a run's settings what confu could not be told when it began: each had what is its default now."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        defaults = RunFile.model_validate({"manifest": "-", "out": "-", **stored["run"]}).model_dump(mode="json")
    except (KeyError, TypeError, ValueError):
        return  # damaged, of another kind of run, or of a later version: said where they are compared
    before = json.dumps(stored)

    def complete(part: dict[str, Any], asked: Any, known: Any) -> None:
        for name, value in asked.items():
            if name not in part and name in known:
                part[name] = known[name]
            elif isinstance(value, dict) and isinstance(part.get(name), dict) and isinstance(known.get(name), dict):
                complete(part[name], value, known[name])

    complete(stored["run"], requested["run"], defaults)
    if json.dumps(stored) != before:
        write_json(file, stored)


def _print_summary(prepared: Prepared, console: Console) -> None:
    rows, manifest = prepared.rows, prepared.manifest
    counts = ", ".join(f"{part} {len(rows.of(part)):,}" for part in PARTS)
    console.print(f"{manifest.address}: {len(manifest):,} rows; {counts}")
    table = coverage({name: mask[rows.kept] for name, mask in rows.present.items()}).to_rich()
    # In a file or a pipe rich takes 80 columns for granted, and would cut the names of long subsets.
    console.print(table, width=None if console.is_terminal else 200)
    console.print(str(run_plan(prepared.run)))


def _stack(run: RunFile, validation: Dataset, console: Console) -> None:
    """Weigh the fused embeddings of the best weights, unless that is done."""
    best = Path(run.out) / "best"
    _, stored = read_weights(best / WEIGHTS, ())
    if stored is not None and stored != read_description(best / DESCRIPTION):  # stopped between these two files
        write_json(best / DESCRIPTION, stored)
    model = read_parts(run.out, allow_custom=True).model  # it was trained here with these functions
    if "stacking" in model.settings:
        return
    rows = RowsOf(validation, sampled(len(validation), _RANKED))
    table = embed(model.to("cuda" if torch.cuda.is_available() else "cpu"), rows)
    weights = model.settings["stacking"] = fit_stacking(model, table, run_contents(run, rows))
    save_model(model, best)
    if alone := [str(subset) for subset in model.plan.fused_subsets if str(subset) not in weights]:
        console.print(
            f"model.stacking: {', '.join(alone)} stay as they were trained; weights need {FEWEST} validation rows that "
            "are complete for a term with a single target, and an embedding of each modality"
        )


def _print_retrieval(run: RunFile, validation: Dataset, console: Console) -> None:
    """What the best weights find among the validation rows, beside chance."""
    folder, rows = Path(run.out), RowsOf(validation, sampled(len(validation), _RANKED))
    model = read_parts(folder, allow_custom=True).model  # it was trained here with these functions
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    table, contents = embed(model, rows), run_contents(run, rows)
    lines = summarise(table, rank_queries(table, contents=contents)[0], contents)
    if not lines:
        return
    console.print(f"What queries find among {len(rows):,} validation rows:")
    # In a file or a pipe rich takes 80 columns for granted, and would cut the numbers.
    wide = console if console.is_terminal else Console(stderr=True, quiet=console.quiet, width=200)
    wide.print(summary_table(lines))
    for sentence in summary_sentences(lines, str(folder), run):
        console.print(sentence)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Say what to do when the disk is full; every file is written whole or not at all, so nothing is lost."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and not any(words in str(error) for words in _DISK_FULL):
            raise
        raise ValueError(
            f"the disk is full, or cannot be written ({error}). Nothing that was finished is lost: make room, or give "
            f"another folder for decoded files with --set data.cache=FOLDER; the same command goes on with {folder}"
        ) from error


def _join_processes() -> bool:
    """Join the processes that `torchrun` has started, if it has and they are not joined yet; whether it was done."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return False
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return True


@contextmanager
def _first_alone() -> Iterator[None]:
    """The first process goes through the block, and then all others."""
    if rank() > 0:
        wait()
    yield
    if rank() == 0:
        wait()
