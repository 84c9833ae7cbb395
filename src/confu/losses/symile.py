"""Symile: all modalities at once, by their multilinear inner product."""

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from confu.checks import check_known, check_rows
from confu.distributed import agreed_seed, world_size
from confu.losses.base import LossOutput, check_modalities, complete_vectors, mean_of_anchors
from confu.losses.diagonal_sums import mean_log_sum_with_own
from confu.losses.scores import check_sides
from confu.nn import Temperature
from confu.products import products
from confu.types import Embeddings, Vectors

NEGATIVES = ("n", "n_squared")

SMALL = 128
"""Up to so many rows calls cost more than numbers, and the scores of "n" are formed at once."""

_BLOCK_NUMBERS = 1 << 20  # scores held at once: 4 MiB of float32, whatever the batch is up to 1024 rows


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
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    check_sides([anchor], others)
    check_rows(len(anchor), 2, "Symile, which needs a negative for each row,")
    if any(len(other) != len(anchor) for other in others):
        raise ValueError(f"anchor and others must have the same rows; got {[len(one) for one in (anchor, *others)]}")
    scaled = anchor / temperature
    own = (scaled * reduce(torch.mul, others)).sum(dim=1)
    if negatives == "n_squared":
        return (_log_sum_of_all(scaled, others) - own).mean()
    # The others are shuffled one by one, so that a negative is a tuple of unrelated rows.
    device = None if generator is None else generator.device
    shuffled = [other[torch.randperm(len(other), generator=generator, device=device).to(other.device)]
                for other in others]  # fmt: skip
    if len(anchor) <= SMALL:
        scores = scaled @ reduce(torch.mul, shuffled).T
        scores = torch.where(torch.eye(len(anchor), dtype=torch.bool, device=anchor.device), own[:, None], scores)
        return F.cross_entropy(scores, torch.arange(len(anchor), device=anchor.device))
    return mean_log_sum_with_own(scaled, reduce(torch.mul, shuffled), own) - own.mean()


def _log_sum_of_all(scaled: Tensor, others: Sequence[Tensor]) -> Tensor:
    """(batch,): log of the sum of exp scores over every combination of the others' rows, the true one included."""
    if len(scaled) ** (len(others) - 1) <= _block_size(scaled):  # so few that they may be kept
        (rows,) = _blocks(scaled, len(others))
        return _scores(scaled, others, rows).logsumexp(dim=1)
    total = _LogSumInBlocks.apply(scaled, *others)
    assert isinstance(total, Tensor)
    return total


class _LogSumInBlocks(torch.autograd.Function):
    """The same; only the sums are kept, and the scores of each block of combinations are made again in backward."""

    @staticmethod
    def forward(ctx: FunctionCtx, scaled: Tensor, *others: Tensor) -> Tensor:
        total = torch.full((len(scaled),), -torch.inf, dtype=scaled.dtype, device=scaled.device)
        with products(scaled):
            for rows in _blocks(scaled, len(others)):
                total = torch.logaddexp(total, _scores(scaled, others, rows).logsumexp(dim=1))
        ctx.save_for_backward(total, scaled, *others)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = grad_outputs
        total, *inputs = ctx.saved_tensors
        leaves = [one.detach().requires_grad_() for one in inputs]
        sums = [torch.zeros_like(one) for one in inputs]
        with products(leaves[0]):
            for rows in _blocks(leaves[0], len(leaves) - 1):
                with torch.enable_grad():
                    scores = _scores(leaves[0], leaves[1:], rows)
                share = (scores.detach() - total[:, None]).exp_().mul_(gradient[:, None])
                for known, more in zip(sums, torch.autograd.grad(scores, leaves, share)):
                    known += more
        return tuple(sums)


def _blocks(scaled: Tensor, num_others: int) -> Iterator[list[Tensor]]:
    """Combinations of rows of all others but the last, some at a time: for each of them (combinations,) rows."""
    n = len(scaled)
    for numbers in torch.arange(n ** (num_others - 1), device=scaled.device).split(_block_size(scaled)):
        yield [numbers // n**place % n for place in range(num_others - 1)]


def _block_size(scaled: Tensor) -> int:
    n, dim = scaled.shape
    return max(1, _BLOCK_NUMBERS // (n * max(n, dim)))


def _scores(scaled: Tensor, others: Sequence[Tensor], rows: list[Tensor]) -> Tensor:
    (*first, last), products = others, others[-1]
    if first:
        chosen = reduce(torch.mul, [other[which] for other, which in zip(first, rows)])
        products = (chosen[:, None] * last).flatten(end_dim=1)  # each with every row of the last
    return scaled @ products.T


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
