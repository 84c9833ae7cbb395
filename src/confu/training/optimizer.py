"""The optimizer and its schedule: AdamW and a cosine, as the paper trains everything."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from confu.nn import Temperature
from confu.training.settings import TrainSettings


def build_optimizer(objective: nn.Module, settings: TrainSettings) -> AdamW:
    """AdamW over every trainable parameter; a learned temperature has no weight decay, which would pull it to one.

    The temperature is one number that a whole batch agrees on: it may have a larger learning rate of its own.
    """
    temperatures = [part for part in objective.modules() if isinstance(part, Temperature)]
    known = {id(parameter) for part in temperatures for parameter in part.parameters()}
    trainable = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    weights = [parameter for parameter in trainable if id(parameter) not in known]
    learned = [parameter for parameter in trainable if id(parameter) in known]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": learned, "weight_decay": 0.0, "lr": settings.temperature_lr or settings.lr},
    ]
    return AdamW([group for group in groups if group["params"]], lr=settings.lr, fused=settings.fused_adamw)


def clip_gradients(weights: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients down so that their norm together is at most `limit`; returns the norm that they had.

    With sharded weights to be called by all processes.
    """
    kinds: dict[bool, list[Any]] = {}  # torch takes shards and whole weights together in no one call
    for weight in weights:
        if weight.grad is not None:
            kinds.setdefault(hasattr(weight.grad, "full_tensor"), []).append(weight)
    norms: list[Any] = [nn.utils.get_total_norm([weight.grad for weight in kind]) for kind in kinds.values()]
    norm = torch.stack([norm.full_tensor() if hasattr(norm, "full_tensor") else norm for norm in norms]).norm()
    for kind in kinds.values():
        nn.utils.clip_grads_with_norm_(kind, limit, norm)
    return norm


def build_schedule(optimizer: Optimizer, settings: TrainSettings, total_steps: int) -> LambdaLR:
    """A linear rise over the warm-up steps, then a cosine from `lr` to `min_lr` at the last step."""
    floor = settings.min_lr / settings.lr

    def factor(step: int) -> float:
        if step < settings.warmup_steps:
            return (step + 1) / settings.warmup_steps
        span = max(1, total_steps - settings.warmup_steps)
        progress = min(1.0, (step - settings.warmup_steps) / span)
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)
