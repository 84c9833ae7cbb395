"""What a training with several processes needs before it begins."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, KwargsHandler
from torch import Tensor, nn
from torch.optim import Optimizer

from confu.data import Dataset
from confu.distributed import check_agreed, rank, world_size
from confu.training.objective import ContrastiveObjective
from confu.training.settings import TrainSettings
from confu.types import Batch


def start_accelerator(objective: nn.Module, settings: TrainSettings) -> Accelerator:
    """Join the other processes, each to hold the whole model, or a part where `ACCELERATE_USE_FSDP` says so.

    Raises:
        ValueError: if it says so in a way that confu cannot do.
    """
    # A process whose rows all lack a modality has no gradient for its encoder.
    handlers: list[KwargsHandler] = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    if not _is_set("ACCELERATE_USE_FSDP"):
        return Accelerator(kwargs_handlers=handlers)
    from confu.training.sharding import sharding_plugin, tell_accelerate  # costs a second

    if settings.chunk is not None:
        raise ValueError("chunk works with a whole model in each process, not with FSDP; leave chunk at None")
    plugin = sharding_plugin(objective)
    accelerator = Accelerator(fsdp_plugin=plugin, kwargs_handlers=handlers)
    if world_size() > 1:
        tell_accelerate(accelerator, plugin)
    return accelerator


def backward(objective: nn.Module, total: Tensor, accelerator: Accelerator) -> None:
    """Go back through the loss of a forward pass; each process gets the mean of all gradients, or its part of it."""
    if accelerator.is_fsdp2:
        from confu.training.sharding import sharded_backward

        sharded_backward(objective, total, accelerator)
    else:
        accelerator.backward(total)


def check_batch(objective: nn.Module, batch: Batch, accelerator: Accelerator) -> None:
    """Check that no process will wait for one whose rows lack a modality.

    Raises:
        ValueError: on every process.
    """
    if accelerator.is_fsdp2:
        from confu.training.sharding import check_rows_everywhere

        check_rows_everywhere(objective, batch)


def prepare(
    objective: nn.Module, optimizer: Optimizer, accelerator: Accelerator
) -> tuple[nn.Module, Any, Callable[[Path], None]]:
    """Spread the objective and its optimizer over the processes, or copy them to all.

    Returns:
        the objective to call, the optimizer to step with, and a function that writes the objective to a folder, which
        all processes must call.

    Raises:
        ValueError: if modules are wrapped that confu does not call as wholes.
    """
    if accelerator.is_fsdp2:
        from confu.training.sharding import share_out

        return share_out(objective, optimizer, accelerator)
    module, stepped = accelerator.prepare(objective, optimizer)
    return module, stepped, partial(_save_on_first, accelerator.unwrap_model(module))


def _save_on_first(objective: Any, folder: Path) -> None:
    if rank() == 0:
        objective.save(folder)


def all_weights(objective: nn.Module, accelerator: Accelerator) -> AbstractContextManager[None]:
    """A context in which every process holds all weights."""
    if accelerator.is_fsdp2:
        from confu.training.sharding import together

        return together(objective)
    return nullcontext()


def begin_together(objective: nn.Module, settings: TrainSettings, train: Dataset, validation: Dataset) -> None:
    """Make sure that all processes train the same thing, and tell the objective how their rows meet.

    To be called by all processes, before anything else is exchanged: where two have different batches or models, later
    messages would not fit one another, and the processes wait for ever or learn from the wrong numbers.

    Raises:
        ValueError: on every process, if their settings, plans, weights' shapes or numbers of rows differ, if they do
            not know of one another, or were started for a way of training that confu cannot do.
    """
    _check_start()
    if isinstance(objective, ContrastiveObjective):
        objective.negatives = settings.negatives
    plan = getattr(getattr(objective, "model", None), "plan", None)
    check_agreed(
        {
            **{f"setting {name}": value for name, value in settings.model_dump().items()},
            "plan": None if plan is None else plan.to_dict(),
            "ACCELERATE_USE_FSDP": _is_set("ACCELERATE_USE_FSDP"),
            "number of training rows": len(train),
            "number of validation rows": len(validation),
            **{f"shape of {name}": tuple(weight.shape) for name, weight in objective.named_parameters()},
        }
    )


def _check_start() -> None:
    others = [name for name in ("DEEPSPEED", "MEGATRON_LM") if _is_set(f"ACCELERATE_USE_{name}")]
    if others:
        raise ValueError(
            f"ACCELERATE_USE_{others[0]} is set, which confu cannot do. Start without it (each process then holds the "
            "whole model), or with ACCELERATE_USE_FSDP=true and FSDP_VERSION=2 to spread the weights over processes"
        )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if "LOCAL_RANK" in os.environ and started != world_size():  # each would train alone, in the same folder
        raise ValueError(
            f"{started} processes were started, but this one knows of {world_size()}: WORLD_SIZE and what Accelerate "
            "found do not agree. On a CPU set ACCELERATE_USE_CPU=true"
        )


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("true", "1")
