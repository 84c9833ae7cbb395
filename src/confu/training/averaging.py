"""Gradients and running statistics of several processes, brought together by hand."""

from collections.abc import Sequence

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn

from confu.distributed import world_size

BUCKET = 2**25
"""Numbers that travel between processes at once."""


def check_whole_models(accelerator: Accelerator) -> None:
    """Refuse processes that hold a part of the model each.

    Raises:
        ValueError: under FSDP, DeepSpeed and their like.
    """
    if accelerator.distributed_type not in (
        DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU, DistributedType.MULTI_XPU,
    ):  # fmt: skip
        raise ValueError(
            f"chunk works with one process or with a whole model in each (DDP), not with {accelerator.distributed_type}"
            ". Leave chunk at None, or start without it"
        )


def average_over_processes(
    objective: nn.Module, accelerator: Accelerator, weights: Sequence[nn.Parameter] | None = None
) -> None:
    """Give every process the mean of all processes' gradients and buffers, once a step.

    `DistributedDataParallel` does so in the backward pass of its own forward; here each part has one, and none of them
    is its. A parameter that no process has a gradient for keeps none.

    Args:
        objective: not wrapped, the same on all processes.
        accelerator: knows the other processes.
        weights: those whose gradients are meant; None for all that are trained.
    """
    if world_size() == 1:
        return
    if weights is None:
        weights = [weight for weight in objective.parameters() if weight.requires_grad]
    has = torch.tensor([float(weight.grad is not None) for weight in weights], device=accelerator.device)
    shares = _mean(has, accelerator).tolist() if weights else []
    used = [weight for weight, share in zip(weights, shares) if share > 0]
    for weight in used:
        if weight.grad is None:  # this process's rows all lack a modality
            weight.grad = torch.zeros_like(weight)
    with torch.no_grad():
        values = [weight.grad for weight in used if weight.grad is not None]
        values += [buffer for buffer in objective.buffers() if buffer.is_floating_point()]
        for bucket in _buckets(values):
            whole = _mean(torch.cat([value.flatten() for value in bucket]), accelerator)
            for value, mean in zip(bucket, whole.split([value.numel() for value in bucket])):
                value.copy_(mean.view_as(value))


def _mean(values: Tensor, accelerator: Accelerator) -> Tensor:
    found = accelerator.reduce(values, reduction="mean")
    assert isinstance(found, Tensor)
    return found


def _buckets(values: list[Tensor]) -> list[list[Tensor]]:
    """Tensors of one dtype together, in order, as many as fit."""
    found: dict[torch.dtype, list[list[Tensor]]] = {}
    for value in values:
        lists = found.setdefault(value.dtype, [[]])
        if lists[-1] and sum(one.numel() for one in lists[-1]) + value.numel() > BUCKET:
            lists.append([])
        lists[-1].append(value)
    return [bucket for lists in found.values() for bucket in lists]
