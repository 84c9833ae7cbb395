"""What processes tell one another: the only collectives in the package.

With one process, or none started, every function here gives back what it got.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from confu._typing import Embeddings


def world_size() -> int:
    """How many processes train together; 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def my_part(rows: Tensor) -> Tensor:
    """This process's share of a batch's rows; in the order of the ranks the shares are the batch again."""
    return rows.tensor_split(world_size())[rank()]


class _Gather(torch.autograd.Function):
    """Rows of all processes, in the order of the ranks, with the gradient of a loss that every process computes.

    Each process computes the same loss of all rows, so its own copy already holds the whole gradient of its own rows.
    `DistributedDataParallel` takes the mean over processes where the sum is right: hence the factor.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.start, ctx.rows = sum(sizes[: rank()]), len(rows)
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0][ctx.start : ctx.start + ctx.rows] * world_size(), None


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of every process, rank 0's first, each with its gradient; processes may hold different numbers.

    Args:
        rows: (rows, ...), equal on all processes but for the number of rows.

    Returns:
        (all rows, ...).
    """
    if world_size() == 1:
        return rows
    size = torch.tensor([len(rows)], device=rows.device)
    sizes = [torch.empty_like(size) for _ in range(world_size())]
    dist.all_gather(sizes, size)
    counts = [int(one) for one in sizes]
    gathered = _Gather.apply(rows.to(torch.uint8) if rows.dtype == torch.bool else rows, counts)
    assert isinstance(gathered, Tensor)
    return gathered.bool() if rows.dtype == torch.bool else gathered


def gather_embeddings(embeddings: Embeddings) -> Embeddings:
    """The embeddings of a batch whose rows are spread over processes, with masks and groups.

    A loss of them is the loss of the whole batch: negatives and the number of complete rows count over all processes.
    """
    if world_size() == 1:
        return embeddings
    some = next(iter(embeddings.vectors.values()))
    everyone = torch.ones(len(some), dtype=torch.bool, device=some.device)
    names = dict.fromkeys(name for subset in embeddings for name in subset)
    # A process whose own rows are all complete has no mask; others may have one.
    present = {name: gather_rows(embeddings.present.get(name, everyone)) for name in names}
    return Embeddings(
        {subset: gather_rows(vectors) for subset, vectors in embeddings.vectors.items()},
        {name: mask for name, mask in present.items() if not bool(mask.all())},
        None if embeddings.groups is None else gather_rows(embeddings.groups),
    )


def agreed_seed() -> int:
    """A seed drawn from torch's random state, that of rank 0 for all: for what must be drawn alike everywhere."""
    seed = torch.randint(2**31, (1,))
    if world_size() > 1:
        dist.broadcast(seed, src=0)
    return int(seed)


def every_rank(value: Any) -> list[Any]:
    """Something of each process, in the order of the ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def wait() -> None:
    """Go on when every process is here."""
    if world_size() > 1:
        dist.barrier()
