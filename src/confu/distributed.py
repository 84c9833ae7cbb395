"""The collectives of the package. With one process each function returns what it was given.

Gradients follow one rule: every process computes the same loss, and its own tensors end with `world_size` times the
gradient of that loss, of which `DistributedDataParallel` takes the mean. No message is sent in a backward pass.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from confu.types import Embeddings

Negatives = Literal["gather", "ring"]
"""How a process meets the rows of the others: all of them gathered, or one process's rows after another's."""


@dataclass(frozen=True)
class PartEmbeddings(Embeddings):
    """Embeddings of this process's rows of a batch: a loss of them must count those of all processes.

    Attributes:
        negatives: how the processes' rows meet.
    """

    negatives: str = "gather"


def world_size() -> int:
    """How many processes train together; 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def wait() -> None:
    """Go on when every process is here."""
    if world_size() > 1:
        dist.barrier()


def my_part(rows: Tensor) -> Tensor:
    """This process's share of a batch's rows; in the order of the ranks the shares are the batch again."""
    return rows.tensor_split(world_size())[rank()]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        parts = [rows.new_empty(max(sizes), *rows.shape[1:]) for _ in sizes]
        dist.all_gather(parts, _padded(rows, max(sizes)))
        return torch.cat([part[:size] for part, size in zip(parts, sizes)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        start = sum(ctx.sizes[: rank()])  # the loss is the same everywhere: this process's copy has the whole gradient
        return grads[0][start : start + ctx.sizes[rank()]] * world_size(), None


def _padded(rows: Tensor, size: int) -> Tensor:
    if len(rows) == size:
        return rows.contiguous()
    return torch.cat([rows, rows.new_zeros(size - len(rows), *rows.shape[1:])])


def gather_rows(rows: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """The rows of every process, rank 0's first, each with its gradient; processes may hold different numbers.

    Args:
        rows: (rows, ...), equal on all processes but for the number of rows.
        sizes: that number on each process, where it is known.
    """
    if world_size() == 1:
        return rows
    sizes = [size for (size,) in every_count([len(rows)])] if sizes is None else list(sizes)
    gathered = _Gather.apply(rows.to(torch.uint8) if rows.dtype == torch.bool else rows, sizes)
    assert isinstance(gathered, Tensor)
    return gathered.bool() if rows.dtype == torch.bool else gathered


def scatter_sums(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """The sum over processes of this one's rows: each process gives rows for all, in the order of the ranks."""
    if world_size() == 1:
        return rows
    parts = torch.cat([_padded(part, max(sizes)) for part in rows.split(list(sizes))])
    own = parts.new_empty(max(sizes), *rows.shape[1:])
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor  # renamed in torch 2.13
    scatter(own, parts)
    return own[: sizes[rank()]]


def log_sum_over(logs: Tensor) -> Tensor:
    """log of the sum over processes of exp, number by number; without gradient."""
    if world_size() == 1:
        return logs
    parts = [torch.empty_like(logs) for _ in range(world_size())]
    dist.all_gather(parts, logs.contiguous())
    return torch.stack(parts).logsumexp(dim=0)


def largest(values: Tensor) -> Tensor:
    """The largest over processes, number by number; without gradient."""
    values = values.detach().clone()
    if world_size() > 1:
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values


def every_count(counts: Sequence[int]) -> list[list[int]]:
    """Some integers of each process, as many on each, in the order of the ranks."""
    if world_size() == 1:
        return [list(counts)]
    own = torch.tensor(counts, dtype=torch.int64, device=_device())
    parts = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(parts, own)
    return torch.stack(parts).tolist()


def every_rank(value: Any) -> list[Any]:
    """Any object of each process, in the order of the ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def travel(
    fixed: Sequence[Tensor], changing: Sequence[Tensor], visit: Callable[[int, list[Tensor], list[Tensor]], None]
) -> list[Tensor]:
    """Send every process's tensors around a ring of all processes and home again.

    No process holds more than two processes' tensors of each kind: what visits, and what arrives next, which is sent
    while the visit lasts.

    Args:
        fixed: this process's tensors, which are only read; equal on all processes but for their first size.
        changing: likewise; `visit` writes into them.
        visit: called with a process's number and its tensors, once for each process, this one first.

    Returns:
        this process's changing tensors as they came home.
    """
    sizes = every_count([len(one) for one in (*fixed, *changing)])
    reading, writing = list(fixed), [one.clone(memory_format=torch.contiguous_format) for one in changing]
    for step in range(world_size()):
        owner, next_owner = ((rank() - step - back) % world_size() for back in (0, 1))
        more = step + 1 < world_size()
        arriving = _pass_on(reading, sizes[next_owner][: len(fixed)]) if more else None
        visit(owner, reading, writing)
        if world_size() > 1:
            writing = _pass_on(writing, sizes[next_owner][len(fixed) :])()
        reading = reading if arriving is None else arriving()
    return writing


def _pass_on(tensors: Sequence[Tensor], sizes: Sequence[int]) -> Callable[[], list[Tensor]]:
    """Send tensors to the next process; the function that is returned waits for those of the process before."""
    following, before = (rank() + 1) % world_size(), (rank() - 1) % world_size()
    sent = [one.contiguous() for one in tensors]
    received = [one.new_empty(size, *one.shape[1:]) for one, size in zip(tensors, sizes)]
    work = [dist.P2POp(dist.isend, one, following) for one in sent if one.numel()]
    work += [dist.P2POp(dist.irecv, one, before) for one in received if one.numel()]
    started = dist.batch_isend_irecv(work) if work else []

    def arrived() -> list[Tensor]:
        for one in started:
            one.wait()
        sent.clear()  # until here what is on its way must not be freed
        return received

    return arrived


def gather_embeddings(embeddings: Embeddings) -> Embeddings:
    """The embeddings of a batch whose rows are spread over processes, with masks, groups and contents.

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
        {name: gather_rows(numbers) for name, numbers in embeddings.contents.items()},
    )


def agreed_seed() -> int:
    """A seed drawn from torch's random state, that of rank 0 for all: for what must be drawn alike everywhere."""
    seed = torch.randint(2**31, (1,))
    if world_size() > 1:
        seed = seed.to(_device())
        dist.broadcast(seed, src=0)
    return int(seed)


def broadcast_from_first(tensors: Iterable[Tensor], device: torch.device) -> None:
    """Write rank 0's values into the tensors of every process; they travel over `device`, one at a time."""
    if world_size() == 1:
        return
    for tensor in tensors:
        with torch.no_grad():
            sent = tensor.detach().to(device).contiguous()
            dist.broadcast(sent, src=0)
            tensor.copy_(sent)


def check_agreed(values: Mapping[str, Any]) -> None:
    """Check that all processes were started with the same things; to be called by all of them.

    Args:
        values: what must be equal, by name; their `repr` is compared.

    Raises:
        ValueError: on every process, naming what differs and what each of them has.
    """
    if world_size() == 1:
        return
    own = {name: repr(value) for name, value in values.items()}
    number = int.from_bytes(hashlib.sha256(repr(own).encode()).digest()[:7])
    if len({one for (one,) in every_count([number])}) == 1:
        return
    everyone: list[dict[str, str]] = every_rank(own)
    for name in dict.fromkeys(name for one in everyone for name in one):
        texts = [one.get(name, "nothing") for one in everyone]
        if len(set(texts)) > 1:
            listed = ", ".join(f"{text} on process {number}" for number, text in enumerate(texts))
            raise ValueError(f"all processes must have the same {name}; got {listed}. Start all with the same settings")
    raise AssertionError("two descriptions of one hash")


def _device() -> torch.device:
    """Where NCCL wants what it sends; gloo takes it from the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if "nccl" in dist.get_backend() else torch.device("cpu")
