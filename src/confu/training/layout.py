"""How convolutions' weights lie in memory."""

import torch
from torch import nn


def lay_channels_last(objective: nn.Module) -> None:
    """Let the weights of all two-dimensional convolutions lie in memory with the channels last.

    So do then the maps that come out of them, whatever lay in the inputs; values, shapes and names stay. Sums are taken
    in another order, so that results differ by rounding. What is saved lies as ever.

    >>> net = nn.Sequential(nn.Conv2d(2, 3, 3))
    >>> lay_channels_last(net)
    >>> net[0].weight.shape, net[0].weight.is_contiguous(memory_format=torch.channels_last)
    (torch.Size([3, 2, 3, 3]), True)

    Args:
        objective: changed in place; parameters stay the same objects.

    Raises:
        ValueError: if it has no such convolution.
    """
    found = [part for part in objective.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    if not found:
        raise ValueError(
            "channels_last is about the weights of two-dimensional convolutions, and this model has none; leave it out"
        )
    for part in found:
        part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)
