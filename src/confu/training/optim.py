"""The optimizer and its schedule: AdamW and a cosine, as the paper trains everything."""

import math

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from confu.nn import Temperature
from confu.training.settings import TrainSettings


def build_optimizer(objective: nn.Module, settings: TrainSettings) -> AdamW:
    """AdamW over every trainable parameter; a learned temperature has no weight decay, which would pull it to one.

    The temperature is one number that a whole batch agrees on: it may have a larger learning rate of its own.
    """
    temperatures = {
        id(parameter)
        for part in objective.modules()
        if isinstance(part, Temperature)
        for parameter in part.parameters()
    }
    trainable = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) not in temperatures], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if id(p) in temperatures], "weight_decay": 0.0,
         "lr": settings.temperature_lr or settings.lr},
    ]  # fmt: skip
    optimizer = AdamW([group for group in groups if group["params"]], lr=settings.lr, fused=settings.fused_adamw)
    check_every_parameter_is_trained(objective, optimizer)
    return optimizer


def check_every_parameter_is_trained(objective: nn.Module, optimizer: Optimizer) -> None:
    """Refuse an optimizer that leaves a trainable parameter out, or holds one that is not of the objective.

    The released code of ConFu trained one of its baselines with frozen random projections, because its optimizer
    had not been told of them; nothing failed.

    Raises:
        ValueError: naming the parameters.
    """
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    own = {id(parameter): name for name, parameter in objective.named_parameters() if parameter.requires_grad}
    if left_out := [name for key, name in own.items() if key not in held]:
        raise ValueError(
            f"the optimizer does not hold {len(left_out)} trainable parameters: {', '.join(left_out[:5])}"
            f"{', ...' if len(left_out) > 5 else ''}; add them, or freeze them with requires_grad_(False)"
        )
    if held - own.keys():
        raise ValueError(f"the optimizer holds {len(held - own.keys())} parameters that are not part of the objective")


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
