"""Weights, gradients and AdamW's moments that are spread over processes (FSDP2, torch's `fully_shard`).

The objective is one group: its weights come together before the forward pass and part after the backward pass, whatever
rows a process has. Layers that Accelerate is told to wrap are groups of their own, inside the encoders only, and then
every process needs rows for these encoders. Files hold whole tensors, so that a run looks like any other.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
from confu.training.averaging import average_over_processes
from confu.training.whole import whole
from confu.types import Batch


def sharding_plugin(objective: nn.Module) -> FullyShardedDataParallelPlugin:
    """What Accelerate's variables (`FSDP_...`) say of sharding, for this objective.

    Raises:
        ValueError: for the first version of FSDP, and for a way of wrapping that modules by name cannot have.
    """
    # Numbers without a dimension, such as a learned temperature, cannot be parted.
    whole = [nn.ParameterList(weight for weight in objective.parameters() if weight.dim() == 0)]
    # Each process makes all weights itself; Accelerate's way of sending them cannot send buffers.
    plugin = FullyShardedDataParallelPlugin(cpu_ram_efficient_loading=False, ignored_modules=whole)
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


def tell_accelerate(accelerator: Accelerator, plugin: FullyShardedDataParallelPlugin) -> None:
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


def share_out(
    objective: nn.Module, optimizer: Optimizer, accelerator: Accelerator
) -> tuple[nn.Module, Any, Callable[[Path], None]]:
    """Shard the first process's weights; see `confu.training.processes.prepare`.

    Raises:
        ValueError: if modules are wrapped that confu does not call as wholes.
    """
    for weight in objective.parameters():
        if weight.dim() == 0:  # which `fully_shard` will not move
            weight.data = weight.data.to(accelerator.device)
    broadcast_from_first([*objective.parameters(), *objective.buffers()], accelerator.device)
    whole_copy = copy.deepcopy(objective).cpu() if rank() == 0 else None
    sharded, stepped = accelerator.prepare(objective, optimizer)
    check_groups(sharded)
    return sharded, stepped, partial(_save, sharded, whole_copy)


def _save(sharded: nn.Module, whole_copy: Any, folder: Path) -> None:
    """Write a sharded objective as any other is written, through a copy on the first process."""
    weights = whole(sharded.state_dict())
    if whole_copy is not None:
        whole_copy.load_state_dict(weights)
        whole_copy.save(folder)


def check_groups(objective: nn.Module) -> None:
    """Check that what was wrapped lies within encoders: elsewhere parts of modules are called one by one.

    Raises:
        ValueError: naming a module that does not.
    """
    for name, part in objective.named_modules():
        if isinstance(part, FSDPModule) and name and not name.startswith("model.encoders."):
            raise ValueError(
                f"only layers of encoders can be wrapped, but {name} ({type(part).__name__}) is wrapped; take its "
                "class out of FSDP_TRANSFORMER_CLS_TO_WRAP"
            )


def check_rows_everywhere(objective: nn.Module, batch: Batch) -> None:
    """Check that every process has rows for each encoder whose layers are groups of their own; others would wait.

    Raises:
        ValueError: on every process, naming the modality and a process.
    """
    encoders = getattr(getattr(objective, "model", None), "encoders", {})
    names = [name for name, one in encoders.items() if any(isinstance(part, FSDPModule) for part in one.modules())]
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
    """Go back through the loss and give every process its part of the mean gradient.

    A weight that no process has used keeps no gradient, as on one process; one that others have used gets zeros here,
    as all must send the same.
    """
    held = [weight for weight in objective.parameters() if weight.requires_grad and not isinstance(weight, DTensor)]
    used = _reached(total)
    mine = torch.tensor([float(id(weight) in used) for weight in held], device=total.device)
    unused = [weight for weight, some in zip(held, largest(mine).tolist()) if some and id(weight) not in used]
    accelerator.backward(_Zeros.apply(total, *unused))
    weights = [weight for weight in objective.parameters() if weight.requires_grad]
    if all(weight.grad is None for weight in weights if isinstance(weight, DTensor)):
        raise RuntimeError(f"fully_shard of torch {torch.__version__} has not seen the loss; use torch 2.13 or later")
    average_over_processes(objective, accelerator, [weight for weight in weights if not isinstance(weight, DTensor)])


class _Zeros(torch.autograd.Function):
    """A value that depends on these weights, with a gradient of zero."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *weights: Tensor) -> Tensor:
        ctx.weights = weights
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return grads[0], *(torch.zeros_like(weight) for weight in ctx.weights)


def _reached(total: Tensor) -> set[int]:
    """Which leaves (by `id`) a value was made of."""
    found: set[int] = set()
    seen: set[Any] = set()
    left: list[Any] = [total.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        left += [one for one, _ in node.next_functions]
    return found


@contextmanager
def together(objective: nn.Module) -> Iterator[None]:
    """All weights on every process, for what calls parts of the objective by itself."""
    parts = [part for part in objective.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
