"""Multinomial logistic regression, exact, for many strengths of the regularisation at once.

Shapes: n rows of d numbers, k strengths that are solved side by side, c classes.

L-BFGS starts each step from an estimate of the inverse Hessian: its diagonal, seen along the principal axes of the
rows and renewed as the fit proceeds. This takes some tens of passes where L-BFGS alone takes hundreds, and it stays
right where the classes are separable and the Hessian shrinks by orders of magnitude on the way.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

_CHUNK = 1 << 19  # numbers held at once on a CPU, so that they stay in its cache between the two products of a pass
_CHUNK_GPU = 1 << 25
_HISTORY = 20  # pairs that L-BFGS remembers
_RENEW = 10  # iterations between two estimates of the Hessian's diagonal
_SAMPLE = 4096  # rows that these estimates are made from, at least; they steer the path, not where it ends
_NOISE = 1e-14  # what rounding leaves of a gradient of order one
_SHORTEST = 1e-9  # a step that must be shorter only follows rounding


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
        x: (n, d) of any float type; the sums are float64, and only a chunk of rows is converted at once.
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
    mean = x.mean(dim=0, dtype=torch.float64)
    if len(x) < x.shape[1]:  # the weights lie in the span of the few rows, and are sought there
        span = torch.linalg.qr((x.double() - mean).T).Q
        objective = _Objective((x.double() - mean) @ span, targets, penalties, num_classes)
        axes = span @ objective.axes
    else:
        objective = _Objective(x, targets, penalties, num_classes)
        axes = objective.axes
    parameters, value, converged, iterations = _lbfgs(objective, max_iterations, tolerance)
    weight = parameters[..., :-1] @ axes.T
    bias = parameters[..., -1] - weight @ mean
    # One number added to all intercepts changes nothing; here they add up to zero.
    return Minimum(weight, bias - bias.mean(dim=1, keepdim=True), value, converged, iterations)


class _Objective:
    """f of stacked parameters (k, c, d + 1), the weights seen along the principal axes of the rows, intercept last.

    The intercept is the one for rows from which their mean is taken.
    """

    def __init__(self, x: Tensor, targets: Tensor, penalties: Tensor, num_classes: int) -> None:
        n, d = x.shape
        self.x, self.targets, self.penalties, self.num_classes = x, targets, penalties, num_classes
        self.mean = x.mean(dim=0, dtype=torch.float64)
        picked = torch.randperm(n, generator=torch.Generator().manual_seed(0))[: max(_SAMPLE, 4 * d)]
        sample = x[picked.to(x.device)].double() - self.mean
        self.axes = torch.linalg.eigh(sample.T @ sample).eigenvectors
        self.sample = pad(sample @ self.axes, (0, 1), value=1.0)

    def __call__(self, parameters: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Values (k',) and gradients (k', c, d + 1) for these of the strengths."""
        k, c, _ = parameters.shape
        flat = parameters.reshape(k * c, -1)
        weight, bias = flat[:, :-1] @ self.axes.T, flat[:, -1:]
        loss, pull, push = weight.new_zeros(k), torch.zeros_like(weight), torch.zeros_like(bias)
        n, d = self.x.shape
        step = (_CHUNK if self.x.device.type == "cpu" else _CHUNK_GPU) // (d + k * c) + 1
        for rows, own in zip(self.x.split(step), self.targets.split(step)):
            centred = rows.double() - self.mean
            shares = torch.addmm(bias, weight, centred.T).view(k, c, -1).log_softmax(dim=1)
            place = own.expand(k, 1, -1)
            loss -= shares.gather(1, place).sum(dim=(1, 2))
            residual = shares.exp_().scatter_add_(1, place, -torch.ones_like(shares[:, :1])).view(k * c, -1)
            pull += residual @ centred
            push += residual.sum(dim=1, keepdim=True)
        penalty = self._penalty(parameters, which)
        gradient = torch.cat([pull @ self.axes, push], dim=1).view_as(parameters) / n + penalty
        return loss / n + (penalty * parameters).sum(dim=(1, 2)) / 2, gradient

    def _penalty(self, parameters: Tensor, which: Tensor) -> Tensor:
        """The gradient of the penalty; none on the intercept."""
        penalty = parameters * self.penalties[which, None, None]
        penalty[..., -1] = 0.0
        return penalty

    def curvature(self, parameters: Tensor, which: Tensor) -> Tensor:
        """The diagonal of the Hessian, (k', c, d + 1), from a sample of the rows."""
        k, c, _ = parameters.shape
        shares = (parameters.view(k * c, -1) @ self.sample.T).view(k, c, -1).softmax(dim=1)
        spread = (shares - shares.square()).view(k * c, -1) @ self.sample.square() / len(self.sample)
        return (spread.view_as(parameters) + self._penalty(torch.ones_like(parameters), which)).clamp(min=1e-12)


def _lbfgs(objective: _Objective, max_iterations: int, tolerance: float) -> tuple[Tensor, Tensor, Tensor, int]:
    """L-BFGS for k problems side by side, each with its own step; one that is solved is no longer computed."""
    k, device = len(objective.penalties), objective.x.device
    which = torch.arange(k, device=device)
    at = torch.zeros(k, objective.num_classes, objective.x.shape[1] + 1, dtype=torch.float64, device=device)
    value, gradient = objective(at, which)
    solved, values, converged = at.clone(), value.clone(), torch.zeros(k, dtype=torch.bool, device=device)
    inverse = torch.ones_like(at)
    steps = changes = at.new_zeros(k, 0, at[0].numel())
    for iteration in range(max_iterations + 1):
        size = at[..., :-1].flatten(1).norm(dim=1)
        limit = (tolerance * objective.penalties[which] * size).clamp(min=_NOISE)
        done = gradient.flatten(1).norm(dim=1) <= limit
        solved[which], values[which], converged[which] = at, value, done
        if bool(done.all()) or iteration == max_iterations:
            return solved, values, converged, iteration
        if bool(done.any()):
            left = ~done
            which, at, value, gradient, inverse = which[left], at[left], value[left], gradient[left], inverse[left]
            steps, changes = steps[left], changes[left]
        if iteration % _RENEW == 0:
            inverse = 1 / objective.curvature(at, which)
        direction = -_times_inverse_hessian(gradient.flatten(1), steps, changes, inverse.flatten(1)).view_as(at)
        new, new_value, new_gradient = _search(objective, at, value, gradient, direction, which)
        step, change = (new - at).flatten(1), (new_gradient - gradient).flatten(1)
        product = (step * change).sum(dim=1)
        # Where rounding hides the curvature the pair becomes zero, which says nothing.
        sound = product > 1e-12 * step.norm(dim=1) * change.norm(dim=1)
        scale = torch.where(sound, product.clamp(min=1e-300).rsqrt(), 0.0)[:, None]
        steps = torch.cat([steps[:, 1 - _HISTORY :], (step * scale)[:, None]], dim=1)
        changes = torch.cat([changes[:, 1 - _HISTORY :], (change * scale)[:, None]], dim=1)
        at, value, gradient = new, new_value, new_gradient
    raise AssertionError("max_iterations must be 0 or more")


def _search(
    objective: _Objective, at: Tensor, value: Tensor, gradient: Tensor, direction: Tensor, which: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Halve each problem's step until its value is lower, as told by the value or by the slope."""
    slope, length = (direction * gradient).sum(dim=(1, 2)), torch.ones_like(value)
    new = at + direction
    new_value, new_gradient = objective(new, which)
    while True:
        # Near the minimum rounding hides the decrease of the value. But a convex function that still falls at the
        # end of a step has fallen all the way.
        rises = (direction * new_gradient).sum(dim=(1, 2)) > 0
        high = (new_value > value + 1e-4 * length * slope) & rises & (length > _SHORTEST)
        if not bool(high.any()):
            return new, new_value, new_gradient
        length[high] /= 2
        new[high] = at[high] + length[high, None, None] * direction[high]
        new_value[high], new_gradient[high] = objective(new[high], which[high])


def _times_inverse_hessian(gradient: Tensor, steps: Tensor, changes: Tensor, inverse: Tensor) -> Tensor:
    """The inverse Hessian that the pairs tell, times the gradient, in matrices (Byrd, Nocedal and Schnabel 1994).

    Args:
        gradient: (k, p).
        steps: (k, m, p) with step . change = 1, oldest first; a pair of zeros is passed over.
        changes: (k, m, p), of the gradient over each step.
        inverse: (k, p), of the Hessian's diagonal.
    """
    if steps.shape[1] == 0:
        return inverse * gradient
    latest = (changes[:, -1].square() * inverse).sum(dim=1, keepdim=True)  # 1 if the diagonal is right along the step
    inverse = torch.where(latest > 0, inverse / latest, inverse)
    scaled = changes * inverse[:, None]
    eye = torch.eye(steps.shape[1], dtype=steps.dtype, device=steps.device)
    upper = (steps @ changes.mT).triu(diagonal=1) + eye
    along = torch.linalg.solve_triangular(upper, steps @ gradient[..., None], upper=True)
    inner = (eye + changes @ scaled.mT) @ along - scaled @ gradient[..., None]
    outer = torch.linalg.solve_triangular(upper.mT, inner, upper=False)
    return inverse * gradient + (steps.mT @ outer - scaled.mT @ along)[..., 0]
