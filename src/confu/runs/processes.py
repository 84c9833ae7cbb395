"""Several processes of one training: they agree on who prepares what all of them read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from confu.distributed import rank, wait


def start_processes() -> bool:
    """Join the processes that `torchrun` has started, if it has and they are not joined yet; whether it was done."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return False
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return True


def end_processes() -> None:
    """Part from the others once all are done: one that ends while another still talks to it takes that one down."""
    wait()
    dist.destroy_process_group()


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process goes through the block, and then all others."""
    if rank() > 0:
        wait()
    yield
    if rank() == 0:
        wait()
