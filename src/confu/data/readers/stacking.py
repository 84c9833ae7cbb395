"""Items of one shape, and items of differing length, as one tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor


def stacked(items: Sequence[Tensor] | Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Items of one shape as one tensor; no item gives (0, *shape).

    >>> stacked([torch.ones(2), torch.zeros(2)], (2,)).tolist(), stacked([], (2,)).shape
    ([[1.0, 1.0], [0.0, 0.0]], torch.Size([0, 2]))
    """
    if isinstance(items, Tensor):
        return items
    return torch.stack(list(items)) if len(items) else torch.zeros(0, *shape, dtype=dtype)


def padded(items: Sequence[Tensor] | Tensor, shape: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """Items that differ in length, with zeros to the longest.

    Args:
        items: (length, *shape) each.
        shape: of one step.

    Returns:
        `values` (n, longest, *shape), and `mask` (n, longest), True at real steps.

    >>> padded([torch.ones(2), torch.ones(1)])["values"].tolist()
    [[1.0, 1.0], [1.0, 0.0]]
    """
    lengths = [len(item) for item in items]
    values = torch.zeros(len(lengths), max(lengths, default=0), *shape)
    mask = torch.zeros(values.shape[:2], dtype=torch.bool)
    for row, (item, length) in enumerate(zip(items, lengths)):
        values[row, :length] = item
        mask[row, :length] = True
    return {"values": values, "mask": mask}
