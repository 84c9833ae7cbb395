"""The training loop: one, explicit, for every method; killed at any moment it goes on and ends with the same weights.

Everything that decides a step is a function of the settings, the position and the saved state: the order of the rows
comes from (seed, epoch), dropout from a random state that the checkpoint holds. So the steps between the last
checkpoint and a crash are repeated exactly. On CPU the weights at the end are bitwise those of an unbroken run.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import nn

from confu.data import Dataset
from confu.data.resident import resident
from confu.distributed import largest, my_part, rank, wait
from confu.evaluation.report import versions
from confu.files import write_json
from confu.losses import LossOutput
from confu.training.batches import choose_batches, validation_order
from confu.training.cached import cached_loss, cached_step
from confu.training.compiling import compile_encoders
from confu.training.display import Display
from confu.training.layout import lay_channels_last
from confu.training.log import RunLog
from confu.training.memory import memory_needed
from confu.training.objective import clamp_temperatures
from confu.training.optim import build_optimizer, build_schedule
from confu.training.processes import all_weights, backward, begin_together, check_batch, prepare, start_accelerator
from confu.training.settings import TrainSettings
from confu.training.state import claim_folder, load_state, save_state
from confu.training.whole import own_part
from confu.types import Batch

BEST, LAST = "best", "last"


class Objective(Protocol):
    """A module that gives the loss of a batch and can write its model to a folder."""

    def __call__(self, batch: Batch) -> LossOutput:
        """The loss of a batch."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model."""
        ...


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        folder: the run folder; `best` and `last` in it hold the weights.
        best_epoch: the epoch, from 1, whose validation loss was lowest.
        best_loss: that loss.
        steps: optimizer steps in all.
        seconds: wall time of the training steps, over all the pieces of an interrupted run; repeated steps count twice.
    """

    folder: Path
    best_epoch: int
    best_loss: float
    steps: int
    seconds: float


def fit(
    objective: nn.Module,
    train: Dataset,
    validation: Dataset,
    settings: TrainSettings,
    folder: Path | str,
    description: dict[str, Any] | None = None,
    monitor: Callable[[], dict[str, float]] | None = None,
    progress: bool = True,
) -> FitResult:
    """Train until the last epoch; the epoch with the lowest validation loss is the model.

    Called again with the same arguments it goes on from the last checkpoint, or returns at once if the run is done.
    The objective is left with its last weights; read the best from `folder/best`.

    Started by `torchrun`, each process takes its part of every batch and the loss is that of the whole batch: the
    weights are those of one process, but for rounding, and for dropout and batch norm's statistics, which are each
    process's own.

    Args:
        objective: an `Objective`, with its weights already initialised.
        train: rows to learn from, in an order drawn anew each epoch.
        validation: rows that choose the epoch, in fixed batches of the training batch size (InfoNCE depends on it);
            a last, smaller batch is left out. Rows that lack modalities are spread evenly over the batches.
        settings: how to train.
        folder: of the run, made if it is not there: `settings.json`, `versions.json`, `log.jsonl`, `state.pt`,
            `best/` and `last/`.
        description: further settings that make this run what it is, e.g. those of the recipe; they must not change
            between the pieces of a run.
        monitor: called after every validation with the model in evaluation mode; its numbers are logged.
        progress: whether to draw a progress bar.

    Raises:
        ValueError: if the folder holds a run of other settings, if there are fewer rows than a batch holds, if the
            loss stops being finite (the last checkpoint stays), if the batches that `settings.sampling` asks for
            cannot be made, or if the device runs out of memory.
    """
    folder = Path(folder)
    if len(validation) < 2:
        raise ValueError(f"the validation set has {len(validation)} rows; at least 2 are needed to compare epochs")
    batches = choose_batches(train, settings, getattr(getattr(objective, "model", None), "plan", None))
    accelerator = start_accelerator(objective, settings)
    begin_together(objective, settings, train, validation)
    if rank() == 0:
        claim_folder(folder, {"train": settings.model_dump(), **(description or {})})
        write_json(folder / "versions.json", versions())
    wait()

    torch.manual_seed(settings.seed)
    steps_per_epoch = batches.steps
    if settings.channels_last:
        lay_channels_last(objective)
    if settings.compile:
        compile_encoders(objective)
    if settings.resident:
        train, validation = resident((train, validation), accelerator.device)
    optimizer = build_optimizer(objective, settings)
    schedule = build_schedule(optimizer, settings, settings.epochs * steps_per_epoch)
    objective, optimizer, save = prepare(objective, optimizer, accelerator)
    own: Any = accelerator.unwrap_model(objective)
    at: dict[str, Any] = load_state(folder, own, optimizer, schedule) or {
        "epoch": 0, "step": 0, "best_loss": float("inf"), "best_epoch": 0, "seconds": 0.0, "log": 0, "finished": False
    }  # fmt: skip
    if at["finished"]:
        return _result(folder, at, steps_per_epoch)

    first = at["epoch"] * steps_per_epoch + at["step"]
    alone = rank() == 0
    with (
        RunLog(folder if alone else None, at["log"], first) as log,
        Display(settings, steps_per_epoch, progress and alone) as display,
    ):
        while at["epoch"] < settings.epochs:
            order = batches.epoch(settings.seed, at["epoch"])
            objective.train()
            while at["step"] < steps_per_epoch:
                started = time.perf_counter()
                chosen = my_part(order[at["step"]])
                lr = schedule.get_last_lr()[0]
                with memory_needed(settings.batch_size, settings.chunk):
                    out = _step(objective, train.batch(chosen), optimizer, accelerator, settings)
                clamp_temperatures(own)
                schedule.step()
                at["step"] += 1
                at["seconds"] += time.perf_counter() - started
                step = at["epoch"] * steps_per_epoch + at["step"]
                due = step % settings.checkpoint_every == 0
                if step % settings.log_every == 0 or due or at["step"] == steps_per_epoch:
                    record = _numbers(out)
                    _check_loss(record, step, folder)
                    log.write("train", step, epoch=at["epoch"] + 1, lr=lr, **record)
                    display.step(at["epoch"], at["step"], record)
                if due and at["step"] < steps_per_epoch:
                    _check_weights(own, step, folder)
                    at["log"] = log.position()
                    save_state(folder, own, optimizer, schedule, at)
            step = (at["epoch"] + 1) * steps_per_epoch
            _check_weights(own, step, folder)
            with memory_needed(settings.batch_size, settings.chunk):
                record = _validate(objective, validation, accelerator, settings)
            _check_loss(record, step, folder, "validation loss")
            if monitor is not None:
                with all_weights(own, accelerator):
                    record["metrics"] |= monitor()
            log.write("validation", step, epoch=at["epoch"] + 1, seconds=at["seconds"], **record)
            display.validation(at["epoch"], record, at["seconds"])
            if record["total"] < at["best_loss"]:
                at["best_loss"], at["best_epoch"] = record["total"], at["epoch"] + 1
                save(folder / BEST)
            at["epoch"], at["step"] = at["epoch"] + 1, 0
            if at["epoch"] == settings.epochs:
                save(folder / LAST)
                at["finished"] = True
            at["log"] = log.position()
            save_state(folder, own, optimizer, schedule, at)
    return _result(folder, at, steps_per_epoch)


def _step(
    objective: nn.Module, batch: Batch, optimizer: Any, accelerator: Accelerator, settings: TrainSettings
) -> LossOutput:
    optimizer.zero_grad(set_to_none=True)
    precision = partial(_precision, accelerator, settings)
    if settings.chunk is not None:
        out = cached_step(accelerator.unwrap_model(objective), batch, settings.chunk, accelerator, precision)
    else:
        check_batch(objective, batch, accelerator)
        with precision():
            out = objective(batch.to(accelerator.device))
        backward(objective, out.total, accelerator)
    optimizer.step()
    return out


def _validate(
    objective: nn.Module, validation: Dataset, accelerator: Accelerator, settings: TrainSettings
) -> dict[str, Any]:
    objective.eval()
    order = validation_order(validation, settings.batch_size)
    precision = partial(_precision, accelerator, settings)
    batches = (validation.batch(my_part(rows)) for rows in order)
    if settings.chunk is not None:
        own = accelerator.unwrap_model(objective)
        return _mean(
            [_numbers(cached_loss(own, batch, settings.chunk, accelerator.device, precision)) for batch in batches]
        )
    found = []
    for batch in batches:
        check_batch(objective, batch, accelerator)
        with torch.no_grad(), precision():
            found.append(_numbers(objective(batch.to(accelerator.device))))
    return _mean(found)


def _precision(accelerator: Accelerator, settings: TrainSettings) -> contextlib.AbstractContextManager[Any]:
    there = accelerator.device.type == "cuda" and torch.cuda.is_bf16_supported()
    if settings.precision == "float32" or (settings.precision == "auto" and not there):
        return contextlib.nullcontext()
    return torch.autocast(accelerator.device.type, dtype=torch.bfloat16)


def _numbers(out: LossOutput) -> dict[str, Any]:
    return {
        "total": float(out.total.detach()),
        "terms": {name: float(value) for name, value in out.terms.items()},
        "metrics": {name: float(value) for name, value in out.metrics.items()},
    }


def _mean(records: list[dict[str, Any]]) -> dict[str, Any]:
    def mean(values: list[dict[str, float]]) -> dict[str, float]:
        found: dict[str, list[float]] = {}  # a term without complete rows is missing from a batch
        for value in values:
            for name, number in value.items():
                found.setdefault(name, []).append(number)
        return {name: sum(numbers) / len(numbers) for name, numbers in found.items()}

    return {
        "total": sum(record["total"] for record in records) / len(records),
        "terms": mean([record["terms"] for record in records]),
        "metrics": mean([record["metrics"] for record in records]),
    }


def _check_loss(record: dict[str, Any], step: int, folder: Path, what: str = "loss") -> None:
    total = record["total"]
    if total - total != 0:  # NaN or infinite
        terms = ", ".join(f"{name} {value:.3g}" for name, value in record["terms"].items())
        raise ValueError(
            f"the {what} is {total} at step {step} ({terms}). The checkpoint before it is kept in {folder}. "
            "Lower the learning rate, add warm-up steps, or check the inputs for NaN."
        )


def _check_weights(module: nn.Module, step: int, folder: Path) -> None:
    # A finite loss can have a gradient that is not; a checkpoint of such weights would replace the last good one.
    named = list(module.named_parameters())
    each = [(~own_part(weight.detach()).isfinite()).any() for _, weight in named]
    anywhere = largest(torch.stack(each).float()).tolist() if each else []  # a part of a weight may be bad elsewhere
    bad = [name for (name, _), one in zip(named, anywhere) if one]
    if bad:
        raise ValueError(
            f"{len(bad)} weights are NaN or infinite after step {step}, the first {bad[0]!r}. The checkpoint before it "
            f"is kept in {folder}. Lower the learning rate, add warm-up steps, or check the inputs."
        )


def _result(folder: Path, at: dict[str, Any], steps_per_epoch: int) -> FitResult:
    return FitResult(folder, at["best_epoch"], at["best_loss"], at["epoch"] * steps_per_epoch, at["seconds"])
