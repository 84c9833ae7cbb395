"""One vector an input from a network's output, and which of its weights the vector depends on."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from confu.nn.transformer import masked_mean

POOLS = ("mean", "first", "pooler")


def pooled(output: Any, pool: str, mask: Bool[Tensor, "n steps"] | None = None) -> Float[Tensor, "n width"]:
    """One vector an input.

    Args:
        output: a network's, with `last_hidden_state`: (n, steps, width), or maps (n, width, height, width).
        pool: "mean" over the real steps or places, "first", the first step, or "pooler", the network's own.
        mask: which steps are real; None if all are.

    Raises:
        ValueError: if the network has no pooled output of its own, or no first step.
    """
    if pool == "pooler":
        own = getattr(output, "pooler_output", None)
        if own is None:
            raise ValueError("pool='pooler': this network has no pooled output of its own; take 'mean' or 'first'")
        return own.flatten(1)
    states = output.last_hidden_state
    if states.ndim == 4:
        if pool == "first":
            raise ValueError("pool='first': this network gives maps, which have no first step; take 'mean' or 'pooler'")
        return states.mean(dim=(2, 3))
    return states[:, 0] if pool == "first" else masked_mean(states, mask)


def frames_mask(network: Any, real: Bool[Tensor, "n time"], frames: int) -> Bool[Tensor, "n frames"] | None:
    """Which of a network's frames come from real samples; None if the network cannot tell.

    Args:
        network: of waveforms.
        real: which samples are real.
        frames: how many it makes of them.
    """
    if not hasattr(network, "_get_feature_vector_attention_mask"):
        return None
    mask = network._get_feature_vector_attention_mask(frames, real.long()).bool()
    mask[:, 0] = True  # a sound shorter than one frame has one
    return mask


def freeze_unused(network: nn.Module, features: Tensor) -> None:
    """Freeze the parameters that features do not depend on, e.g. of a pooler that is not read.

    They would get no gradient, which training on several processes takes for an error.

    Args:
        network: that made the features.
        features: with their graph.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        return
    gradients = torch.autograd.grad(features.sum(), trained, allow_unused=True)
    for parameter, gradient in zip(trained, gradients):
        parameter.requires_grad_(gradient is not None)
