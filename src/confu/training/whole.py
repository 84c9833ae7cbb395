"""Tensors of which each process holds a part (`DTensor`), made whole for files and parted again.

Known by what they can do: importing their class costs a second, which a run without them need not spend.
"""

from typing import Any

from torch import Tensor

from confu.distributed import rank


def whole(state: Any) -> Any:
    """Nested dicts and lists with every parted tensor made whole, on the first process's CPU; on the others it is None.

    To be called by all processes.

    >>> whole({"a": [1, 2]})
    {'a': [1, 2]}
    """
    if hasattr(state, "full_tensor"):
        full = state.full_tensor()  # by all
        return full.detach().cpu() if rank() == 0 else None
    if isinstance(state, dict):
        return {key: whole(value) for key, value in state.items()}
    return [whole(value) for value in state] if isinstance(state, list) else state


def own_part(weight: Tensor) -> Tensor:
    """What this process holds of it."""
    return weight.to_local() if hasattr(weight, "to_local") else weight  # pyright: ignore[reportAttributeAccessIssue]


def parted_like(value: Any, weight: Any) -> Any:
    """This process's part of a whole tensor, parted as a weight of its shape is; anything else as it is."""
    if not hasattr(weight, "full_tensor") or getattr(value, "shape", None) != weight.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)
