"""Chance that depends on an item's name alone: a step gives the same whenever and in whichever order it runs."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def seed_of(*parts: str | int) -> int:
    """A seed from 0 to 2^63 - 1, drawn from some names and numbers; the same on every machine.

    >>> seed_of(0, "Turdus merula", 3) == seed_of(0, "Turdus merula", 3), seed_of("a", "b") == seed_of("ab")
    (True, False)
    """
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def chance(*parts: str | int) -> np.random.Generator:
    """A random generator of its own for some names and numbers."""
    return np.random.default_rng(seed_of(*parts))


class SeededDraw:
    """Makes `generate` draw each text from a generator of its own: what a prompt gets does not depend on its batch.

    To the log-probabilities of the likeliest tokens Gumbel noise is added; the greatest sum, which greedy decoding
    takes, is then a draw from their distribution.

    Args:
        seeds: one a prompt.
        temperature: above 0; below 1 likely tokens become likelier.
        top_p: tokens are drawn from the fewest that hold this share of the probability.
        device: of the scores.

    Example:
        >>> scores = torch.tensor([[0.0, 3.0, 1.0]]).expand(2, -1)
        >>> draw = SeededDraw([1, 1], temperature=1.0, top_p=0.9)
        >>> first, second = draw(torch.zeros(2, 1, dtype=torch.long), scores).argmax(-1).tolist()
        >>> first == second
        True
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float, device: str | torch.device = "cpu"):
        if temperature <= 0 or not 0 < top_p <= 1:
            raise ValueError(
                f"expected temperature above 0 and top_p above 0, at most 1; got {temperature} and {top_p}"
            )
        self.temperature = temperature
        self.top_p = top_p
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(
        self, input_ids: Int[Tensor, "batch length"], scores: Float[Tensor, "batch vocabulary"]
    ) -> Float[Tensor, "batch vocabulary"]:
        """The scores with their noise, minus infinity for tokens that are not drawn from."""
        if len(scores) != len(self._generators):
            raise ValueError(f"seeds: expected one a prompt, {len(scores)}; got {len(self._generators)}")
        logits = scores.float() / self.temperature
        probabilities, order = logits.softmax(-1).sort(-1, descending=True)
        before = probabilities.cumsum(-1) - probabilities  # of the likelier ones: the first is always kept
        left_out = (before >= self.top_p).scatter(-1, order, before >= self.top_p)
        noise = torch.empty_like(logits)
        for row, generator in zip(noise, self._generators):
            row.exponential_(generator=generator)
        tiny = torch.finfo(noise.dtype).tiny  # the logarithm of a zero would win against everything
        return (logits - noise.clamp_min(tiny).log()).masked_fill(left_out, -torch.inf)
