"""Symile: all modalities at once, by their multilinear inner product."""

import math
from collections.abc import Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn

from confu.checks import check_known, check_rows, check_temperature
from confu.distributed import agreed_seed, world_size
from confu.losses.base import LossOutput, check_modalities, complete_vectors, mean_of_anchors
from confu.losses.joint import Weights, contrast_weights, tiled_contrast
from confu.losses.scores import check_sides
from confu.nn import Temperature
from confu.types import Embeddings, Vectors

NEGATIVES = ("n", "n_squared")


def symile_contrast(
    anchor: Vectors,
    others: Sequence[Vectors],
    temperature: float | Float[Tensor, ""] = 0.07,
    *,
    negatives: str = "n",
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    r"""Each anchor must find its own tuple of the other modalities by the multilinear inner product.

    $$\frac1N \sum_i -\log \frac{\exp(\langle a_i, y_i, z_i \rangle / \tau)}{\exp(\langle a_i, y_i, z_i \rangle / \tau)
    + \sum_{(j,k)} \exp(\langle a_i, y_j, z_k \rangle / \tau)}$$

    Symile is the mean of this over all modalities as the anchor; `SymileLoss` takes it.

    Args:
        anchor: (batch, dim).
        others: one or more (batch, dim); row i of each belongs to row i of the anchor.
        temperature: τ > 0, a number or a scalar tensor that gets a gradient.
        negatives: `"n"` shuffles each of the others once and compares every anchor with those N - 1 tuples, O(N^2)
            scores for a batch. `"n_squared"` compares with every combination of the others' rows, O(N^(M-1)) for each
            anchor: more negatives, N times the work for three modalities. The names are those of Symile's package.
        generator: of the shuffles; None is torch's global one. By chance a shuffled tuple is a true one, as in Symile.

    Returns:
        A scalar in nats.

    Raises:
        ValueError: if shapes differ, there are fewer than two rows, or `negatives` is unknown.

    Reference: Saporta et al. 2024, arXiv 2411.01053, Eq. 3 and Section 3.2 (negatives); the package `symile` 0.1.0,
    which forms all N^2 products at once; here they are taken block by block, and made again in backward.

    >>> z = torch.eye(4)
    >>> round(symile_contrast(z, [z, z], temperature=1.0, negatives="n_squared").item(), 4)   # -log(e / (e + 15))
    1.8746
    """
    check_known("negatives", negatives, NEGATIVES)
    check_temperature(temperature)
    check_sides([anchor], others)
    check_rows(len(anchor), 2, "Symile, which needs a negative for each row,")
    if any(len(other) != len(anchor) for other in others):
        raise ValueError(f"anchor and others must have the same rows; got {[len(one) for one in (anchor, *others)]}")
    scaled = anchor / temperature
    own = (scaled * reduce(torch.mul, others)).sum(dim=1)
    if negatives == "n_squared":
        return _log_sums_of_all(scaled, others) - own.mean()
    # The others are shuffled one by one, so that a negative is a tuple of unrelated rows.
    device = None if generator is None else generator.device
    orders = [torch.randperm(len(other), generator=generator, device=device).to(other.device) for other in others]
    shuffled = reduce(torch.mul, [other[order] for other, order in zip(others, orders)])

    def scores(rows: slice, anchors: Tensor, tuples: Tensor, own: Tensor) -> Tensor:
        return (anchors[rows] @ tuples.T).diagonal_scatter(own[rows], rows.start)

    n = len(anchor)
    return tiled_contrast(scores, [scaled, shuffled, own], (n, n), contrast_weights(n, False, 0.0))


def _log_sums_of_all(scaled: Tensor, others: Sequence[Tensor]) -> Tensor:
    """The mean over anchors of the log-sum of exp scores over every combination of the others' rows."""
    n = len(scaled)

    def scores(rows: slice, anchors: Tensor, *others: Tensor) -> Tensor:
        number, (*first, last) = torch.arange(rows.start, rows.stop, device=anchors.device), others
        if not first:
            return last[rows] @ anchors.T
        # The last modality's row changes fastest.
        chosen = [other[number // n ** (1 + place) % n] for place, other in enumerate(first)]
        return (reduce(torch.mul, chosen) * last[number % n]) @ anchors.T

    return tiled_contrast(scores, [scaled, *others], (n ** len(others), n), Weights(columns=1 / n))


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
