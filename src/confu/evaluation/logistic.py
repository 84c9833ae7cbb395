"""Multinomial logistic regression, exact, for many strengths of the regularisation at once.

Shapes: n rows of d numbers, k strengths that are solved side by side, c classes.

The descent begins each step from an estimate of the inverse Hessian (`curvature.py`), seen along the principal axes of
the rows and renewed as the fit proceeds: some tens of passes where L-BFGS alone takes hundreds. Most passes
are in float32, with sums in float64; where they end is tested, and if need be mended, in float64.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from confu.evaluation.curvature import Curvature, estimate_curvature, likely_rows
from confu.evaluation.descent import descend
from confu.products import products

_CHUNK = 1 << 19  # numbers held at once on a CPU, so that they stay in its cache between the two products of a pass
_CHUNK_GPU = 1 << 25
_SAMPLE = 4096  # rows that the Hessian is estimated from
_FAST = 1 << 20  # numbers in the rows from which float32 comes first; below, it saves nothing
_ROUNDING = 1e-14  # what rounding leaves of a gradient of order one
_ROUNDING_FAST = 1e-8  # the same of a gradient in float32, for residuals of order one


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where the descent ended, for each strength.

    Attributes:
        weight: (k, c, d), float64 as all numbers here.
        bias: (k, c).
        value: (k,) mean log-loss + lambda/2 |W|^2.
        converged: (k,) whether the tolerance, or what rounding allows, was reached.
        iterations: of the slowest.
    """

    weight: Float[Tensor, "k c d"]
    bias: Float[Tensor, "k c"]
    value: Float[Tensor, " k"]
    converged: Bool[Tensor, " k"]
    iterations: int


def minimise_log_loss(
    x: Float[Tensor, "n d"],
    targets: Int[Tensor, " n"],
    penalties: Float[Tensor, " k"],
    num_classes: int,
    max_iterations: int,
    tolerance: float,
) -> Minimum:
    """Minimise the mean log-loss with a penalty on the weights; the intercepts are free.

        f(W, b) = -1/n sum_i log softmax(W x_i + b)[y_i] + lambda/2 |W|^2

    f is lambda-strongly convex in W, so |W - W*| <= |gradient| / lambda: this is what `tolerance` bounds.

    Args:
        x: (n, d) of any float type; the last word is float64's, and only a chunk of rows is converted at once.
        targets: (n,) from 0 to c - 1.
        penalties: (k,) float64, the values of lambda, above zero.
        num_classes: c.
        max_iterations: at most this many for the slowest.
        tolerance: stop where |W - W*| / |W| is surely below.

    Returns:
        the minimum for each lambda, or where the iterations ran out.

    Example:
        >>> x, lambdas = torch.tensor([[1.0], [-1.0]]), torch.tensor([0.1, 1.0]).double()
        >>> found = minimise_log_loss(x, torch.tensor([1, 0]), lambdas, 2, 100, 1e-6)
        >>> found.converged.tolist(), bool(found.weight[0, 1, 0] > found.weight[1, 1, 0] > 0)
        ([True, True], True)
    """
    mean = x.mean(dim=0, dtype=torch.float64) if len(x) < x.shape[1] else None
    span = None
    if mean is not None:  # the weights lie in the span of the few rows, and are sought there
        span = torch.linalg.qr((x.double() - mean).T).Q
        x = (x.double() - mean) @ span
    objective = _Objective(x, targets, penalties, num_classes, tolerance)
    parameters = objective.mean.new_zeros(len(penalties), num_classes, x.shape[1] + 1)
    spent = 0
    if x.numel() >= _FAST:
        objective.dtype = torch.float32
        parameters, _, _, spent = descend(objective, parameters, max_iterations, patient=False)
        objective.dtype = torch.float64
    parameters, value, converged, more = descend(objective, parameters, max_iterations - spent)
    weight = parameters[..., :-1] @ objective.axes.T
    bias = parameters[..., -1] - weight @ objective.mean
    if span is not None and mean is not None:
        weight = weight @ span.T
        bias = bias - weight @ mean
    # One number added to all intercepts changes nothing; here they add up to zero.
    return Minimum(weight, bias - bias.mean(dim=1, keepdim=True), value, converged, spent + more)


class _Objective:
    """f of stacked parameters (k, c, d + 1), the weights seen along the principal axes of the rows, intercept last.

    The intercept is the one for rows from which their mean is taken. `dtype` is that of the products, not of the sums.
    """

    def __init__(self, x: Tensor, targets: Tensor, penalties: Tensor, num_classes: int, tolerance: float) -> None:
        n, d = x.shape
        self.x, self.targets, self.penalties, self.num_classes = x, targets, penalties, num_classes
        self.tolerance, self.dtype = tolerance, torch.float64
        self.mean = x.mean(dim=0).double()  # or near it: what is taken from the rows the intercept gives back
        picked = torch.randperm(n, generator=torch.Generator().manual_seed(0))[: max(_SAMPLE, 4 * d)]
        sample = x[picked.to(x.device)].float() - self.mean.float()
        with products(sample):
            gram = sample.T @ sample
        self.axes = torch.linalg.eigh(gram.double()).eigenvectors
        self.noise = _ROUNDING_FAST * float(sample.square().sum(dim=1).mean() + self.mean.square().sum()) ** 0.5

    def __call__(self, parameters: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Values (k',) and gradients (k', c, d + 1) for these of the strengths."""
        k, c, _ = parameters.shape
        weight, bias = self._seen_by_rows(parameters)
        loss, pull, push = self.mean.new_zeros(k), torch.zeros_like(weight), self.mean.new_zeros(k * c)
        weight, bias = weight.to(self.dtype), bias.to(self.dtype)[:, None]
        with products(weight):
            for rows, own in zip(self.x.split(self._step(k)), self.targets.split(self._step(k))):
                rows = rows.to(self.dtype)
                scores = torch.addmm(bias, weight, rows.T).view(k, c, -1)
                part, residual = _residuals(scores, own)
                loss += part.sum(dim=1, dtype=torch.float64)
                pull += residual.view(k * c, -1) @ rows
                push += residual.view(k * c, -1).sum(dim=1)
        pull -= push[:, None] * self.mean
        penalty = parameters * self.penalties[which, None, None]
        penalty[..., -1] = 0.0
        gradient = torch.cat([pull @ self.axes, push[:, None]], dim=1).view_as(parameters) / len(self.x) + penalty
        return loss / len(self.x) + (penalty * parameters).sum(dim=(1, 2)) / 2, gradient

    def limit(self, parameters: Tensor, which: Tensor, value: Tensor) -> Tensor:
        """The gradient at which |W - W*| / |W| is surely below the tolerance, or all of it is rounding."""
        limit = self.tolerance * self.penalties[which] * parameters[..., :-1].flatten(1).norm(dim=1)
        if self.dtype == torch.float32:  # a little below, so that float64 seldom finds it too long
            return (0.7 * limit).maximum(self.noise * (2 * value).sqrt())
        return limit.clamp(min=_ROUNDING)

    def curvature(self, parameters: Tensor, which: Tensor) -> Curvature:
        """An estimate from the rows that count most, for each of these strengths its own."""
        every = torch.arange(len(self.x), device=self.x.device)
        weights = torch.full_like(every, 1 / len(every), dtype=torch.float64)
        spread = self._spread(parameters) if len(every) > _SAMPLE else [None] * len(which)
        found = []
        for one, own, penalty in zip(parameters, spread, self.penalties[which]):
            rows, share = (every, weights) if own is None else likely_rows(own, _SAMPLE)
            sample = self.x[rows].float() - self.mean.float()
            with products(sample):
                sample = pad(sample @ self.axes.float(), (0, 1), value=1.0)
                found.append(estimate_curvature(one, penalty, sample, share.float()))
        return Curvature(*(torch.stack(parts) for parts in zip(*found)))

    def _spread(self, parameters: Tensor) -> Tensor:
        """1 - sum_a p_a^2 of every row, (k', n) float32."""
        k, c, _ = parameters.shape
        weight, bias = (one.float() for one in self._seen_by_rows(parameters))
        found = []
        with products(weight):
            for rows in self.x.split(self._step(k)):
                shares = torch.addmm(bias[:, None], weight, rows.float().T).view(k, c, -1).softmax(dim=1)
                found.append(1 - shares.square_().sum(dim=1))
        return torch.cat(found, dim=1)

    def _seen_by_rows(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The weights (k' c, d) and intercepts (k' c,) for rows as they are."""
        flat = parameters.flatten(0, 1)
        weight = flat[:, :-1] @ self.axes.T
        return weight, flat[:, -1] - weight @ self.mean

    def _step(self, k: int) -> int:
        most = _CHUNK if self.x.device.type == "cpu" else _CHUNK_GPU
        return most // (self.x.shape[1] + k * self.num_classes) + 1


def _residuals(scores: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Log-losses (k, m) and p - [own class] in place of the scores (k, c, m), each number to its own last digits.

    A loss or residual near zero is made from the other classes' shares: of 1 - p, float32 leaves nothing where p is
    almost one.
    """
    place = own.expand(len(scores), 1, -1)
    scores -= scores.gather(1, place)
    scores.scatter_(1, place, -torch.inf)
    highest = scores.amax(dim=1, keepdim=True).clamp_(min=0.0)
    others = scores.sub_(highest).exp_()
    rest = others.sum(dim=1, keepdim=True)
    mine = (-highest).exp_()
    loss = highest + (rest + torch.expm1(-highest)).log1p_()
    others /= rest + mine
    return loss[:, 0], others.scatter_(1, place, -rest / (rest + mine))
