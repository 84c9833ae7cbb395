"""How much of a pretrained network is trained: nothing, its last layers, adapters beside its layers, or all of it."""

import re
from typing import Any

import torch
from torch import nn

from confu.nn.encoders.registry import import_extra
from confu.nn.sizes import check_positive

_LAST = re.compile(r"last:([1-9]\d*)")


class Tuned(nn.Module):
    """A pretrained network of which a stated part is trained.

    Whatever is not trained has no gradient and is in evaluation mode always: its dropout is off and its running
    statistics stand still also in `model.train()`, so that the same input gives the same features.

    >>> frozen = Tuned(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), "frozen").train()
    >>> frozen.network[1].training, any(parameter.requires_grad for parameter in frozen.parameters())
    (False, False)

    Args:
        network: with its pretrained weights, or those that are replaced by saved ones.
        tune: "frozen"; "last:N", the last N layers of its longest stack of layers (the rest stays, a norm at the end
            too); "lora", low-rank adapters beside the Linear layers of that stack; or "full".
        rank: of the adapters.
        alpha: their strength; their output is scaled by alpha / rank.

    Raises:
        ImportError: for "lora" without peft.
        ValueError: for another `tune`, more layers than there are, or adapters without a Linear layer.

    Reference: Hu et al. 2021 (LoRA).
    """

    def __init__(self, network: nn.Module, tune: str, rank: int = 8, alpha: int = 16):
        super().__init__()
        check_tune(tune)
        self.network, self.tune = network, tune
        if tune != "full":
            network.requires_grad_(False)
        if tune == "lora":
            _add_adapters(network, rank, alpha)
        # A tuple, so that these modules are not registered a second time.
        self._trained = _trained_parts(network, tune)
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
        """What the network makes of its input; without gradient if it is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.network(*args, **named)


def check_tune(tune: str) -> None:
    """Check how a pretrained network is to be trained.

    Raises:
        ValueError: for anything but "frozen", "last:N", "lora" and "full".
    """
    if tune not in ("frozen", "lora", "full") and not _LAST.fullmatch(tune):
        raise ValueError(
            f"tune must be 'frozen', 'last:N' (the last N layers, e.g. 'last:2'), 'lora' or 'full'; got {tune!r}"
        )


def longest_stack(network: nn.Module) -> nn.ModuleList | None:
    """The list of layers that holds most of a network's parameters: a transformer's layers, a ResNet's stages.

    Of lists that hold each other, e.g. stages of blocks, the outer one.

    >>> longest_stack(nn.Sequential(nn.Linear(2, 9), nn.ModuleList([nn.Linear(9, 9), nn.Linear(9, 9)]))) is None
    False
    """
    stacks = [module for module in network.modules() if isinstance(module, nn.ModuleList) and len(module)]
    # modules() gives the outer of two first, and max the first of equals.
    return max(stacks, key=lambda stack: sum(parameter.numel() for parameter in stack.parameters()), default=None)


def _trained_parts(network: nn.Module, tune: str) -> tuple[nn.Module, ...]:
    if tune == "full":
        return (network,)
    if tune == "lora":
        return tuple(module for name, module in network.named_modules() if name.split(".")[-1].startswith("lora_"))
    found = _LAST.fullmatch(tune)
    if found is None:
        return ()
    layers, stack = int(found[1]), longest_stack(network)
    if stack is None or layers > len(stack):
        raise ValueError(
            f"tune is {tune!r}, but this {type(network).__name__} has a stack of {0 if stack is None else len(stack)} "
            "layers; take fewer, or 'full'"
        )
    return tuple(stack[-layers:])


def _add_adapters(network: nn.Module, rank: int, alpha: int) -> None:
    check_positive(rank=rank, alpha=alpha)
    peft = import_extra("peft", "tune='lora'", "lora")
    stack = longest_stack(network)
    inside = set() if stack is None else {id(module) for module in stack.modules()}
    linear = [
        name
        for name, module in network.named_modules()
        # Conv1D is what transformers calls the Linear layers of GPT-2.
        if id(module) in inside and (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D")
    ]
    if not linear:
        raise ValueError(
            f"tune is 'lora', but the layers of this {type(network).__name__} have no Linear; take 'last:N' or 'full'"
        )
    peft.inject_adapter_in_model(peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=linear), network)
