"""Weights, gradients and AdamW's moments that are sharded over processes (FSDP2, torch's `fully_shard`).

The objective is one group: its weights are gathered before the forward pass and freed after the backward pass, whatever
rows a process has. Layers that Accelerate is told to wrap are groups of their own, inside the encoders only, and then
every process needs rows for these encoders. Files hold whole tensors, so that a run looks like any other.

A module of its own because `torch.distributed.fsdp` costs a second to import.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from confu.distributed import broadcast_from_first, every_count, largest, rank
from confu.training.processes import average_over_processes
from confu.training.state import unsharded
from confu.types import Batch


def sharding_plugin(objective: nn.Module) -> FullyShardedDataParallelPlugin:
    """What Accelerate's variables (`FSDP_...`) say of sharding, for this objective.

    Raises:
        ValueError: for the first version of FSDP, and for a way of wrapping that modules by name cannot have.
    """
    # Numbers without a dimension, such as a learned temperature, cannot be sharded.
    scalars = [nn.ParameterList(weight for weight in objective.parameters() if weight.dim() == 0)]
    # Each process makes all weights itself; Accelerate's way of sending them cannot send buffers.
    plugin = FullyShardedDataParallelPlugin(cpu_ram_efficient_loading=False, ignored_modules=scalars)
    if plugin.fsdp_version != 2:
        raise ValueError(
            f"FSDP_VERSION is {plugin.fsdp_version}, but confu shards by the second version. Set FSDP_VERSION=2, or "
            "--fsdp_version 2 for `accelerate launch`"
        )
    if plugin.auto_wrap_policy is size_based_auto_wrap_policy:
        raise ValueError(
            "FSDP_AUTO_WRAP_POLICY SIZE_BASED_WRAP would part what holds the encoders, and not only the encoders. Use "
            "NO_WRAP, or TRANSFORMER_BASED_WRAP with the names of layers in FSDP_TRANSFORMER_CLS_TO_WRAP"
        )
    return plugin


def enable_sharding(accelerator: Accelerator, plugin: FullyShardedDataParallelPlugin) -> None:
    """Let Accelerate shard also where it would not: on CPUs, and once more in a process that has trained before.

    Raises:
        ValueError: if the precision is set beside confu's own setting.
    """
    if accelerator.mixed_precision != "no":
        raise ValueError(
            f"Accelerate's mixed precision {accelerator.mixed_precision!r} would also reach the loss; start without "
            "it and use the setting precision"
        )
    if accelerator.distributed_type != DistributedType.FSDP:
        PartialState().distributed_type = accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin


def shard(
    objective: nn.Module, optimizer: Optimizer, accelerator: Accelerator
) -> tuple[nn.Module, Any, Callable[[Path], None]]:
    """Shard the first process's weights, and their optimizer.

    Returns:
        the objective to call, the optimizer to step with, and a function that writes the whole objective to a folder,
        which all processes must call.

    Raises:
        ValueError: if what was wrapped does not lie within encoders: elsewhere parts of modules are called one by one.
    """
    for weight in objective.parameters():
        if weight.dim() == 0:  # which `fully_shard` will not move
            weight.data = weight.data.to(accelerator.device)
    broadcast_from_first([*objective.parameters(), *objective.buffers()], accelerator.device)
    whole_copy: Any = copy.deepcopy(objective).cpu() if rank() == 0 else None
    sharded, stepped = accelerator.prepare(objective, optimizer)
    for name, part in sharded.named_modules():
        if isinstance(part, FSDPModule) and name and not name.startswith("model.encoders."):
            raise ValueError(
                f"only layers of encoders can be wrapped, but {name} ({type(part).__name__}) is wrapped; take its "
                "class out of FSDP_TRANSFORMER_CLS_TO_WRAP"
            )

    def save(folder: Path) -> None:  # through a copy on the first process, as any other objective is written
        weights = unsharded(sharded.state_dict())
        if whole_copy is not None:
            whole_copy.load_state_dict(weights)
            whole_copy.save(folder)

    return sharded, stepped, save


def check_rows_everywhere(objective: nn.Module, batch: Batch) -> None:
    """Check that every process has rows for each encoder whose layers are groups of their own; others would wait.

    Raises:
        ValueError: on every process, naming the modality and a process.
    """
    encoders = getattr(getattr(objective, "model", None), "encoders", {})
    names = [name for name, encoder in encoders.items() if _groups(encoder)]
    if not names:
        return
    for number, counts in enumerate(every_count([int(batch.inputs[name].present.sum()) for name in names])):
        for name, count in zip(names, counts):
            if count == 0:
                raise ValueError(
                    f"process {number} has no row with {name!r} in this batch, and the encoder's layers are wrapped, "
                    "so that the others would wait for it. Use a larger batch_size or sampling 'balanced', or set "
                    "FSDP_AUTO_WRAP_POLICY=NO_WRAP"
                )


def sharded_backward(objective: nn.Module, total: Tensor, accelerator: Accelerator) -> None:
    """Go back through the loss and give every process its shard of the mean gradient.

    A weight that no process has used keeps no gradient, as on one process; one that others have used gets zeros here,
    as all must send the same.
    """
    weights = [weight for weight in objective.parameters() if weight.requires_grad]
    gathered = [weight for weight in weights if not isinstance(weight, DTensor)]
    used_here = _leaves(total)
    used = largest(torch.tensor([float(id(weight) in used_here) for weight in gathered], device=total.device)).tolist()
    only_elsewhere = [weight for weight, is_used in zip(gathered, used) if is_used and id(weight) not in used_here]
    accelerator.backward(_ZeroGradients.apply(total, *only_elsewhere))
    weights = [weight for weight in objective.parameters() if weight.requires_grad]  # shards again
    if all(weight.grad is None for weight in weights if isinstance(weight, DTensor)):
        raise RuntimeError(f"fully_shard of torch {torch.__version__} has not seen the loss; use torch 2.13 or later")
    average_over_processes(objective, accelerator, [weight for weight in weights if not isinstance(weight, DTensor)])


class _ZeroGradients(torch.autograd.Function):
    """A value that depends on these weights, with a gradient of zero."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *weights: Tensor) -> Tensor:
        ctx.weights = weights
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return grads[0], *(torch.zeros_like(weight) for weight in ctx.weights)


def _leaves(total: Tensor) -> set[int]:
    """Which leaves (by `id`) a value was made of."""
    leaves: set[int] = set()
    seen: set[Any] = set()
    pending: list[Any] = [total.grad_fn]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        pending += [following for following, _ in node.next_functions]
    return leaves


@contextmanager
def unsharded_weights(objective: nn.Module) -> Iterator[None]:
    """All weights on every process, for what calls parts of the objective by itself."""
    groups = _groups(objective)
    for group in groups:
        group.unshard()
    try:
        yield
    finally:
        for group in groups:
            group.reshard()


def _groups(module: nn.Module) -> list[FSDPModule]:
    return [part for part in module.modules() if isinstance(part, FSDPModule)]
