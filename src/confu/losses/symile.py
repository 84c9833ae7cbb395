"""Symile: all modalities at once, by their multilinear inner product."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from confu.checks import check_known
from confu.distributed import agreed_seed, world_size
from confu.functional.symile import NEGATIVES, symile_contrast
from confu.losses.base import LossOutput, check_modalities, complete_vectors, mean_of_anchors
from confu.nn import Temperature
from confu.types import Embeddings


class SymileLoss(nn.Module):
    """Symile: the mean over every modality as the anchor of `symile_contrast`.

    Negatives are shuffled anew at every step in training; in evaluation the shuffles are fixed, so that validation
    losses of two epochs are comparable.

    Args:
        modalities: two or more names; rows that lack one are left out.
        temperature: τ, a number that stays fixed, or a `Temperature`. None learns it as Symile does, from exp(-2.5);
            products of unit vectors are small (1/sqrt(dim) where three agree), so it may fall to 0.001.
        negatives: `"n"` or `"n_squared"`, see `symile_contrast`.

    Reference: Saporta et al. 2024, arXiv 2411.01053.

    >>> from confu.types import Subset
    >>> z = torch.eye(4)
    >>> loss = SymileLoss(("a", "b", "c"), temperature=1.0, negatives="n_squared")
    >>> round(loss(Embeddings({Subset(name): z for name in "abc"})).total.item(), 4)
    1.8746
    """

    def __init__(
        self, modalities: Sequence[str], temperature: float | Temperature | None = None, negatives: str = "n"
    ) -> None:
        super().__init__()
        check_known("negatives", negatives, NEGATIVES)
        self.modalities = check_modalities(modalities)
        if temperature is None:
            temperature = Temperature(math.exp(-2.5), learned=True, minimum=1e-3)
        self.temperature = temperature if isinstance(temperature, Temperature) else Temperature(temperature)
        self.negatives = negatives

    def forward(self, embeddings: Embeddings) -> LossOutput:
        """The loss of a batch's embeddings."""
        temperature = self.temperature()
        vectors = complete_vectors(embeddings, self.modalities, "Symile")
        generator = self._generator()
        losses = {
            name: symile_contrast(
                anchor,
                [other for one, other in vectors.items() if one != name],
                temperature,
                negatives=self.negatives,
                generator=generator,
            )
            for name, anchor in vectors.items()
        }
        return mean_of_anchors(losses, self.modalities, len(vectors[self.modalities[0]]), temperature)

    def _generator(self) -> torch.Generator | None:
        if not self.training:
            return torch.Generator().manual_seed(0)
        # Each process computes the loss of the whole batch, and must shuffle as the others do; alone, as torch does.
        return torch.Generator().manual_seed(agreed_seed()) if world_size() > 1 else None
