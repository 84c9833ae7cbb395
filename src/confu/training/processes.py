"""Training with several processes: how they start alike, and how gradients travel between them."""

import os
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, KwargsHandler
from torch import Tensor, nn

from confu.data import Dataset
from confu.distributed import check_agreed, largest, world_size
from confu.training.objective import ContrastiveObjective
from confu.training.settings import TrainSettings

BUCKET = 2**25
"""Numbers that travel between processes at once."""


def start_accelerator(objective: nn.Module, settings: TrainSettings) -> Accelerator:
    """Join the other processes, each to hold the whole model, or a shard where `ACCELERATE_USE_FSDP` says so.

    Raises:
        ValueError: if it says so in a way that confu cannot do.
    """
    # A process whose rows all lack a modality has no gradient for its encoder.
    handlers: list[KwargsHandler] = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    if not _is_set("ACCELERATE_USE_FSDP"):
        return Accelerator(kwargs_handlers=handlers)
    if settings.chunk is not None:
        raise ValueError("chunk works with a whole model in each process, not with FSDP; leave chunk at None")
    from confu.training.sharding import enable_sharding, sharding_plugin  # costs a second

    plugin = sharding_plugin(objective)
    accelerator = Accelerator(fsdp_plugin=plugin, kwargs_handlers=handlers)
    if world_size() > 1:
        enable_sharding(accelerator, plugin)
    return accelerator


def begin_together(objective: nn.Module, settings: TrainSettings, train: Dataset, validation: Dataset) -> None:
    """Make sure that all processes train the same thing, and tell the objective how their rows meet.

    To be called by all processes, before anything else is exchanged: where two have different batches or models, later
    messages would not fit one another, and the processes wait for ever or learn from the wrong numbers.

    Raises:
        ValueError: on every process, if their settings, plans, weights' shapes or numbers of rows differ, if they do
            not know of one another, or were started for a way of training that confu cannot do.
    """
    for name in ("DEEPSPEED", "MEGATRON_LM"):
        if _is_set(f"ACCELERATE_USE_{name}"):
            raise ValueError(
                f"ACCELERATE_USE_{name} is set, which confu cannot do. Start without it (each process then holds the "
                "whole model), or with ACCELERATE_USE_FSDP=true and FSDP_VERSION=2 to spread the weights over processes"
            )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if "LOCAL_RANK" in os.environ and started != world_size():  # each would train alone, in the same folder
        raise ValueError(
            f"{started} processes were started, but this one knows of {world_size()}: WORLD_SIZE and what Accelerate "
            "found do not agree. On a CPU set ACCELERATE_USE_CPU=true"
        )
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


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("true", "1")


def average_over_processes(
    objective: nn.Module, accelerator: Accelerator, weights: Sequence[nn.Parameter] | None = None
) -> None:
    """Give every process the mean of all processes' gradients and buffers, once a step.

    `DistributedDataParallel` does so in the backward pass of its own forward; here each chunk has one, and none of
    them is its. A parameter that no process has a gradient for keeps none. By default of all weights that are trained.
    """
    if world_size() == 1:
        return
    if weights is None:
        weights = [weight for weight in objective.parameters() if weight.requires_grad]
    has_gradient = torch.tensor([float(weight.grad is not None) for weight in weights], device=accelerator.device)
    used = [weight for weight, is_used in zip(weights, largest(has_gradient).tolist()) if is_used]
    for weight in used:
        if weight.grad is None:  # this process's rows all lack a modality
            weight.grad = torch.zeros_like(weight)
    with torch.no_grad():
        values = [weight.grad for weight in used if weight.grad is not None]
        values += [buffer for buffer in objective.buffers() if buffer.is_floating_point()]
        for bucket in _buckets(values):
            means = accelerator.reduce(torch.cat([value.flatten() for value in bucket]), reduction="mean")
            assert isinstance(means, Tensor)
            for value, mean in zip(bucket, means.split([value.numel() for value in bucket])):
                value.copy_(mean.view_as(value))


def _buckets(values: list[Tensor]) -> list[list[Tensor]]:
    """Tensors of one dtype together, in order, as many as fit."""
    by_dtype: dict[torch.dtype, list[list[Tensor]]] = {}
    for value in values:
        buckets = by_dtype.setdefault(value.dtype, [[]])
        if buckets[-1] and sum(other.numel() for other in buckets[-1]) + value.numel() > BUCKET:
            buckets.append([])
        buckets[-1].append(value)
    return [bucket for buckets in by_dtype.values() for bucket in buckets]
