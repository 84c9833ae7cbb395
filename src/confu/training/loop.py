"""The training loop: one, explicit, for every method; killed at any moment it goes on and ends with the same weights.

Everything that decides a step is a function of the settings, the position and the saved state: the order of the rows
comes from (seed, epoch), augmentation from (seed, step, process), dropout from a random state that the checkpoint
holds. So the steps between the last checkpoint and a crash are repeated exactly. On CPU the weights at the end are
bitwise those of an unbroken run.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from confu.data import Dataset
from confu.data.augmented import Augment
from confu.data.resident import resident
from confu.data.sampling import BalancedBatches, Batches, Order, Stretches, UniformBatches, UniqueBatches
from confu.distributed import every_rank, largest, my_part, rank, world_size
from confu.evaluation.report import versions
from confu.files import write_json
from confu.losses import LossOutput
from confu.plan import Plan, Subset
from confu.products import keep_backend, matmul_backend
from confu.training.cached_gradients import Autocast, cached_backward
from confu.training.log import Display, RunLog
from confu.training.objective import ContrastiveObjective, clamp_temperatures, compile_encoders, use_channels_last
from confu.training.optimizer import build_optimizer, build_schedule, clip_gradients
from confu.training.precision import check_environment, choose_precision, legacy_precision
from confu.training.processes import average_over_processes, begin_together, start_accelerator
from confu.training.selection import ValidationRetrieval
from confu.training.settings import TrainSettings
from confu.training.state import claim_folder, exclusive, load_state, local_shard, save_state
from confu.types import Batch

BEST, LAST = "best", "last"


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        folder: the run folder; `best` and `last` in it hold the weights.
        best_epoch: the epoch, from 1, whose validation loss was lowest, or whose mean reciprocal rank was highest with
            `select="retrieval"`; the earlier one of equals.
        best_loss: the validation loss of that epoch.
        steps: optimizer steps in all.
        seconds: wall time of the training steps, over all the pieces of an interrupted run; repeated steps count twice.
        precision: that it was computed in, `"float32"` or `"bfloat16"`.
        best_mrr: the mean reciprocal rank of the best epoch's validation queries, with `select="retrieval"`.
    """

    folder: Path
    best_epoch: int
    best_loss: float
    steps: int
    seconds: float
    precision: str
    best_mrr: float | None = None


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
    """Train until the last epoch; the best one by the validation rows (`settings.select`) is the model.

    Called again with the same arguments it goes on from the last checkpoint, or returns at once if the run is done.
    With more `epochs` it goes on to these: the learning rate is from then on that of the longer cosine at this step.
    The objective is left with its last weights; read the best from `folder/best`.

    Started by `torchrun`, each process takes its part of every batch and the loss is that of the whole batch: the
    weights are those of one process, but for rounding, and for dropout and batch norm's statistics, which are each
    process's own.

    Args:
        objective: a module, its weights already initialised, that gives the `LossOutput` of a `Batch` and writes its
            model with `save(folder)`. Its `augment`, if it has one, changes the batches that it is trained on.
        train: rows to learn from, in an order drawn anew each epoch.
        validation: rows that choose the epoch, in fixed batches of the training batch size (InfoNCE depends on it);
            a last, smaller batch is left out. Rows that lack modalities are spread evenly over the batches. With
            `select="retrieval"` their queries are ranked too, in one gallery for the whole run.
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
            cannot be made, if an encoder cannot run in the precision, if the device runs out of memory, or if another
            process is training into the folder.
    """
    check_environment()
    folder = Path(folder)
    if len(validation) < 2:
        raise ValueError(f"the validation set has {len(validation)} rows; at least 2 are needed to compare epochs")
    batches = choose_batches(train, settings, getattr(getattr(objective, "model", None), "plan", None))
    accelerator = start_accelerator(objective, settings)
    begin_together(objective, settings, train, validation)
    with exclusive(folder) if rank() == 0 else nullcontext():
        return _train(
            objective, train, validation, batches, accelerator, settings, folder, description, monitor, progress
        )


def _train(
    objective: nn.Module,
    train: Dataset,
    validation: Dataset,
    batches: Batches,
    accelerator: Accelerator,
    settings: TrainSettings,
    folder: Path,
    description: dict[str, Any] | None,
    monitor: Callable[[], dict[str, float]] | None,
    progress: bool,
) -> FitResult:
    is_first = rank() == 0
    claimed = (
        claim_folder(folder, {"train": settings.model_dump(), **(description or {})}, grow=True) if is_first else {}
    )
    if is_first:
        write_json(folder / "versions.json", versions())
    requested_precision = every_rank(claimed)[0]["train"]["precision"]

    torch.manual_seed(settings.seed)
    steps_per_epoch = batches.steps
    if settings.channels_last:
        use_channels_last(objective)
    if settings.compile:
        compile_encoders(objective)
    if settings.resident:
        train, validation = resident((train, validation), accelerator.device)
    optimizer = build_optimizer(objective, settings)
    schedule = build_schedule(optimizer, settings, settings.epochs * steps_per_epoch)
    if accelerator.is_fsdp2:
        from confu.training.sharding import shard, unsharded_weights  # costs a second

        objective, optimizer, save = shard(objective, optimizer, accelerator)
        whole_weights = partial(unsharded_weights, objective)
    else:
        objective, optimizer = accelerator.prepare(objective, optimizer)
        save, whole_weights = accelerator.unwrap_model(objective).save, nullcontext
    own: Any = accelerator.unwrap_model(objective)
    order = validation_order(validation, settings.batch_size)
    ranking = None
    if settings.select == "retrieval":
        ranking = ValidationRetrieval(own, validation, order, settings.seed)
    augment: Augment | None = own.augment if isinstance(own, ContrastiveObjective) else None
    at: dict[str, Any] = {"epoch": 0, "step": 0, "best_loss": float("inf"), "best_epoch": 0, "seconds": 0.0, "log": 0}
    at["best_mrr"] = None
    if (checkpoint := load_state(folder, own, optimizer, schedule)) is not None:
        at |= {"precision": legacy_precision(requested_precision, accelerator.device), **checkpoint}
    if _is_done(at, settings):
        return _result(folder, at, steps_per_epoch)
    with whole_weights():
        precision = choose_precision(at.get("precision", requested_precision), own, train, accelerator.device)
    autocast = precision.autocast(accelerator.device)
    first_step = at["epoch"] * steps_per_epoch + at["step"]
    with (
        RunLog(folder if is_first else None, at["log"], first_step) as log,
        Display(settings, steps_per_epoch, progress and is_first) as display,
    ):
        if "precision" not in at and requested_precision != "float32":
            log.write("precision", 0, precision=precision.name, reason=precision.reason)
            display.note(f"precision: {precision.name} ({precision.reason})")
        at["precision"] = precision.name
        if "matmul" in at:
            keep_backend(at["matmul"])
        elif accelerator.device.type == "cpu":
            at["matmul"] = matmul_backend().name
        while not _is_done(at, settings):
            epoch_rows = batches.epoch(settings.seed, at["epoch"])
            objective.train()
            while at["step"] < steps_per_epoch:
                started = time.perf_counter()
                batch = train.batch(my_part(epoch_rows[at["step"]]))
                if augment is not None:
                    number = at["epoch"] * steps_per_epoch + at["step"]
                    batch = own.with_contents(batch.to(accelerator.device))  # which inputs are equal before it
                    batch = augment(batch, settings.seed, number, rank())
                lr = schedule.get_last_lr()[0]
                with memory_hint(settings.batch_size, settings.chunk):
                    out, norm = _step(objective, batch, optimizer, accelerator, settings, autocast)
                clamp_temperatures(own)
                schedule.step()
                at["step"] += 1
                at["seconds"] += time.perf_counter() - started
                step = at["epoch"] * steps_per_epoch + at["step"]
                due = step % settings.checkpoint_every == 0
                if step % settings.log_every == 0 or due or at["step"] == steps_per_epoch:
                    record = _numbers(out)
                    if norm is not None:
                        record["metrics"]["grad_norm"] = float(norm)
                    _check_loss(record, step, folder)
                    log.write("train", step, epoch=at["epoch"] + 1, lr=lr, **record)
                    display.step(at["epoch"], at["step"], record)
                if due and at["step"] < steps_per_epoch:
                    _check_weights(own, step, folder)
                    at["log"] = log.position()
                    save_state(folder, own, optimizer, schedule, at)
            step = (at["epoch"] + 1) * steps_per_epoch
            _check_weights(own, step, folder)
            with memory_hint(settings.batch_size, settings.chunk):
                record = _validate(objective, validation, order, accelerator, settings, autocast, ranking)
                _check_loss(record, step, folder, "validation loss")
                if ranking is not None:
                    piece = settings.chunk or max(1, settings.batch_size // world_size())
                    with whole_weights():
                        record |= ranking.measure(accelerator.device, autocast, piece)
            if monitor is not None:
                with whole_weights():
                    record["metrics"] |= monitor()
            log.write("validation", step, epoch=at["epoch"] + 1, seconds=at["seconds"], **record)
            display.validation(at["epoch"], record, at["seconds"])
            if _is_better(record, at):
                at["best_loss"], at["best_epoch"] = record["total"], at["epoch"] + 1
                at["best_mrr"] = record.get("mrr")
                if is_first or accelerator.is_fsdp2:  # shards are gathered by all
                    save(folder / BEST)
            at["epoch"], at["step"] = at["epoch"] + 1, 0
            if _is_done(at, settings):
                if at["epoch"] < settings.epochs:
                    what = "mean reciprocal rank" if ranking is not None else "validation loss"
                    reason = f"the {what} of epoch {at['best_epoch']} was not improved in {settings.patience} epochs"
                    log.write("stop", step, epoch=at["epoch"], reason=reason)
                    display.note(f"stopped after epoch {at['epoch']} of {settings.epochs}: {reason}")
                if is_first or accelerator.is_fsdp2:
                    save(folder / LAST)
            at["finished"] = _is_done(at, settings)
            at["log"] = log.position()
            save_state(folder, own, optimizer, schedule, at)
    return _result(folder, at, steps_per_epoch)


def _step(
    objective: nn.Module,
    batch: Batch,
    optimizer: Any,
    accelerator: Accelerator,
    settings: TrainSettings,
    autocast: Autocast,
) -> tuple[LossOutput, Tensor | None]:
    """A step of the optimizer: the loss, and the norm of the gradient if it is clipped."""
    optimizer.zero_grad(set_to_none=True)
    out = _forward(objective, batch, accelerator, settings, autocast)
    if settings.chunk is not None:
        average_over_processes(accelerator.unwrap_model(objective), accelerator)
    elif accelerator.is_fsdp2:
        from confu.training.sharding import sharded_backward

        sharded_backward(objective, out.total, accelerator)
    else:
        accelerator.backward(out.total)
    norm = None if settings.clip_grad is None else clip_gradients(objective.parameters(), settings.clip_grad)
    optimizer.step()
    return out, norm


def _is_better(record: dict[str, Any], at: dict[str, Any]) -> bool:
    """Whether an epoch is better than the best before it; of equals the earlier one stays."""
    if "mrr" in record:
        return at["best_mrr"] is None or record["mrr"] > at["best_mrr"]
    return record["total"] < at["best_loss"]


def _is_done(at: dict[str, Any], settings: TrainSettings) -> bool:
    """Whether all epochs are trained, or `patience` of them have not improved on the best."""
    waited = at["epoch"] - at["best_epoch"]
    return at["epoch"] >= settings.epochs or (settings.patience is not None and waited >= settings.patience)


def _forward(
    objective: nn.Module, batch: Batch, accelerator: Accelerator, settings: TrainSettings, autocast: Autocast
) -> LossOutput:
    """The loss of a batch; in chunks this goes back through it too, where there are gradients."""
    if settings.chunk is not None:
        own = accelerator.unwrap_model(objective)
        return cached_backward(own, batch, settings.chunk, accelerator.device, autocast)
    if accelerator.is_fsdp2:
        from confu.training.sharding import check_rows_everywhere

        check_rows_everywhere(objective, batch)
    with autocast():
        return objective(batch.to(accelerator.device))


def _validate(
    objective: nn.Module,
    validation: Dataset,
    order: Order,
    accelerator: Accelerator,
    settings: TrainSettings,
    autocast: Autocast,
    ranking: ValidationRetrieval | None,
) -> dict[str, Any]:
    objective.eval()
    records: list[dict[str, Any]] = []
    for step, rows in enumerate(map(my_part, order)):
        batch = validation.batch(rows)
        with torch.no_grad(), nullcontext() if ranking is None else ranking.batch(step, rows, batch):
            records.append(_numbers(_forward(objective, batch, accelerator, settings, autocast)))
    mean: dict[str, Any] = {"total": sum(record["total"] for record in records) / len(records)}
    for kind in ("terms", "metrics"):
        values: dict[str, list[float]] = {}  # a term without complete rows is missing from a batch
        for record in records:
            for name, value in record[kind].items():
                values.setdefault(name, []).append(value)
        mean[kind] = {name: sum(each) / len(each) for name, each in values.items()}
    return mean


def choose_batches(train: Dataset, settings: TrainSettings, plan: Plan | None) -> Batches:
    """The batches that the settings ask for; balanced ones need the data set's `present`, unique ones its `groups`."""
    rows, size = len(train), settings.batch_size
    present, groups = getattr(train, "present", None), getattr(train, "groups", None)
    if rows < size:
        raise ValueError(f"the training set has {rows} rows, fewer than batch_size {size}; lower batch_size")
    batches: UniformBatches | UniqueBatches | BalancedBatches
    if settings.sampling == "uniform":
        batches = UniformBatches(rows, size)
    elif settings.sampling == "unique":
        if groups is None:
            raise ValueError("sampling 'unique' keeps rows of one group apart, but the training set has no groups")
        batches = UniqueBatches(groups, size)
    else:
        if present is None or plan is None:
            lacks = "does not say which rows have what (`present`)" if present is None else "is not trained by a plan"
            raise ValueError(f"sampling 'balanced' needs to know what is missing, but this training set {lacks}")
        terms = [Subset(*plan.subset(term.left), *plan.subset(term.right)) for term in plan.terms]
        batches = BalancedBatches(present, terms, size, settings.least_complete)
    return batches if settings.steps_per_epoch is None else Stretches(batches, settings.steps_per_epoch)


def validation_order(validation: Dataset, batch_size: int) -> Tensor:
    """The batches of a validation set, (steps, batch_size): fixed, and mixed, as its rows may be sorted by class."""
    size = min(batch_size, len(validation))
    present: Mapping[str, Tensor] = getattr(validation, "present", {})
    if all(bool(mask.all()) for mask in present.values()):
        return UniformBatches(len(validation), size).epoch(0, 0)
    # The same share of every availability pattern in each batch, so that none is left without a term.
    return BalancedBatches(present, (), size).epoch(0, 0)


@contextmanager
def memory_hint(batch_size: int, chunk: int | None) -> Iterator[None]:
    """Errors of a step with a hint: which setting makes it smaller, or gives batch norm enough rows."""
    try:
        yield
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"an encoder with batch norm got a single row of its modality ({error}). In training each process, and "
            "each chunk, needs two rows of it: raise batch_size or chunk, use sampling 'balanced', or take group norm"
        ) from error
    except RuntimeError as error:
        # Of a CPU or an Apple chip torch says it in a plain RuntimeError.
        texts = ("can't allocate memory", "not enough memory", "MPS backend out of memory")
        if not isinstance(error, torch.OutOfMemoryError) and not any(text in str(error) for text in texts):
            raise
        if chunk is None:
            rows = "all its rows"
            advice = f"Set chunk, e.g. to {max(1, batch_size // 4)}: the same step with fewer rows in memory"
        else:
            rows = f"{chunk} rows"
            advice = f"Lower chunk, e.g. to {max(1, min(chunk, batch_size) // 2)}"
        # Of torch's text only the first sentences: the rest is about its allocator.
        message = ". ".join(str(error).split(". ")[:2])
        raise ValueError(
            f"a step of batch_size {batch_size} with {rows} encoded at once does not fit in the device's memory "
            f"({message}). {advice}; or lower batch_size."
        ) from error


def _numbers(out: LossOutput) -> dict[str, Any]:
    return {
        "total": float(out.total.detach()),
        "terms": {name: float(value) for name, value in out.terms.items()},
        "metrics": {name: float(value) for name, value in out.metrics.items()},
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
    bad_here = [(~local_shard(weight.detach()).isfinite()).any() for _, weight in named]
    bad_anywhere = largest(torch.stack(bad_here).float()).tolist() if bad_here else []
    bad = [name for (name, _), is_bad in zip(named, bad_anywhere) if is_bad]
    if bad:
        raise ValueError(
            f"{len(bad)} weights are NaN or infinite after step {step}, the first {bad[0]!r}. The checkpoint before it "
            f"is kept in {folder}. Lower the learning rate, add warm-up steps, or check the inputs."
        )


def _result(folder: Path, at: dict[str, Any], steps_per_epoch: int) -> FitResult:
    return FitResult(
        folder,
        at["best_epoch"],
        at["best_loss"],
        at["epoch"] * steps_per_epoch,
        at["seconds"],
        at["precision"],
        at["best_mrr"],
    )
