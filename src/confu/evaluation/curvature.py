"""An estimate of the Hessian of the mean log-loss for the steps of a descent: it steers the path, not where it ends.

Embeddings spread along few axes, and along these the classes pull on one another: there the Hessian is estimated in
full, which is what few effective dimensions need. Along the other axes its diagonal is enough.

Shapes: k problems, c classes, p parameters a class (the intercept is the last), s rows; the head are the last h of p.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_HEAD = 640  # parameters of the head, of all classes together
_RIDGE = 1e-5  # of a head with a diagonal of one: more than the rounding of its float32 sums
_LEAST = 1e-12  # of a diagonal


@dataclass(frozen=True, eq=False)
class Curvature:
    """The inverse of an estimated Hessian, for k problems.

    Attributes:
        inverse: (k, c, p) of the diagonal.
        factor: (k, c h, c h) Cholesky factor of the head, scaled to a diagonal of one.
        scale: (k, c h) by which rows and columns of the head were multiplied for that.
    """

    inverse: Float[Tensor, "k c p"]
    factor: Float[Tensor, "k head head"]
    scale: Float[Tensor, "k head"]

    def __getitem__(self, left: Tensor) -> "Curvature":
        return Curvature(self.inverse[left], self.factor[left], self.scale[left])

    def solve(self, vectors: Float[Tensor, "k m c p"]) -> Float[Tensor, "k m c p"]:
        """The inverse times m vectors of each problem."""
        found = vectors * self.inverse[:, None]
        k, m, c, p = vectors.shape
        size = self.scale.shape[1] // c
        if size:
            head = vectors[..., p - size :].reshape(k, m, -1) * self.scale[:, None]
            solved = torch.cholesky_solve(head.mT, self.factor).mT * self.scale[:, None]
            found[..., p - size :] = solved.view(k, m, c, size)
        return found


def estimate_curvature(
    parameters: Float[Tensor, "c p"],
    penalty: Float[Tensor, ""],
    sample: Float[Tensor, "s p"],
    weights: Float[Tensor, " s"],
) -> tuple[Float[Tensor, "c p"], Float[Tensor, "head head"], Float[Tensor, " head"]]:
    r"""The parts of `Curvature` for one problem.

        H_{ai,bj} = sum_s w_s (p_sa [a = b] - p_sa p_sb) z_si z_sj + lambda [ai = bj],   p_s = softmax(W z_s)

    Args:
        parameters: W, (c, p) float64.
        penalty: lambda, on all but the intercept.
        sample: z, (s, p) with a last column of ones, along axes in ascending order of spread.
        weights: w, (s,) such that the sum stands for the mean over all rows.

    Returns:
        inverse, factor and scale.

    Example:
        >>> flat = torch.zeros(2, 2, dtype=torch.float64), torch.tensor(0.5).double()
        >>> inverse, _, _ = estimate_curvature(*flat, torch.tensor([[1.0, 1.0], [-1.0, 1.0]]), torch.full((2,), 0.5))
        >>> inverse[0].tolist()
        [1.3333333333333333, 4.0]
    """
    c, p = parameters.shape
    size = min(_HEAD // c, p)
    shares = (parameters.to(sample.dtype) @ sample.T).softmax(dim=0)
    spread = (shares - shares.square()) * weights
    diagonal = (spread @ sample.square()).double()
    diagonal[:, :-1] += penalty
    inverse = 1 / diagonal.clamp(min=_LEAST)
    if size == 0:
        empty = diagonal.new_zeros(0)
        return inverse, empty.view(0, 0), empty
    top = sample[:, p - size :]
    weighted = ((shares * weights.sqrt())[:, :, None] * top).transpose(0, 1).reshape(len(sample), c * size)
    full = -(weighted.T @ weighted)
    blocks = full.view(c, size, c, size).diagonal(dim1=0, dim2=2)
    # p - p^2 and not p minus the p^2 that is there: nothing would be left of it in float32 where p is almost one.
    blocks.copy_(((spread[:, :, None] * top).mT @ top).permute(1, 2, 0))
    full = full.double()
    on_diagonal = full.diagonal().view(c, size)
    on_diagonal[:, :-1] += penalty
    # What all classes share changes no probability. No vector has a part along it, and any number may stand for it.
    full.view(c, size, c, size).diagonal(dim1=1, dim2=3).add_(on_diagonal.mean(dim=0))
    scale = full.diagonal().clamp(min=_LEAST).rsqrt()
    full *= scale[:, None] * scale
    return inverse, _factor(full), scale


def _factor(full: Tensor) -> Tensor:
    """Cholesky factor of what is positive but for rounding."""
    ridge = _RIDGE
    while True:
        full.diagonal().add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(full)
        if not int(failed):
            return factor
        ridge *= 10


def likely_rows(spread: Float[Tensor, " n"], count: int) -> tuple[Tensor, Float[Tensor, " count"]]:
    """Rows drawn by their part in the Hessian, and the weights that undo this; the same rows for the same numbers.

    Where the classes are almost separated, few rows near a border make the whole Hessian, and rows drawn evenly would
    miss them.

    Args:
        spread: (n,) 1 - sum_a p_a^2 of each row.
        count: rows to draw, in n strata.

    Returns:
        (count,) indices and (count,) weights whose sum over the rows stands for a mean over all n.
    """
    total = spread.double().clamp(min=1e-7).cumsum(0)
    jitter = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(spread.device)
    at = (torch.arange(count, device=spread.device) + jitter) / count * total[-1]
    rows = torch.searchsorted(total, at).clamp(max=len(spread) - 1)
    return rows, total[-1] / spread.double().clamp(min=1e-7)[rows] / (count * len(spread))
