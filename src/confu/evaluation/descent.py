"""L-BFGS for several convex problems side by side, each step begun with an estimate of the inverse Hessian.

Shapes: k problems of c x p parameters each; m pairs of steps and changes of the gradient.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from confu.evaluation.curvature import Curvature

_HISTORY = 20  # pairs that are remembered
_RENEW = 10  # iterations between two estimates of the Hessian
_SHORTEST = 1e-9  # a step that must be shorter only follows rounding
_PATIENCE = 30  # iterations without a smaller gradient after which rounding is taken to be the reason


@runtime_checkable
class Objective(Protocol):
    """What is minimised; `which` of the k problems the parameters are for."""

    def __call__(
        self, parameters: Float[Tensor, "k c p"], which: Int[Tensor, " k"]
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, "k c p"]]:
        """Values and gradients."""
        ...

    def curvature(self, parameters: Float[Tensor, "k c p"], which: Int[Tensor, " k"]) -> Curvature:
        """An estimate of the inverse Hessians."""
        ...

    def limit(
        self, parameters: Float[Tensor, "k c p"], which: Int[Tensor, " k"], value: Float[Tensor, " k"]
    ) -> Float[Tensor, " k"]:
        """The length of a gradient that is short enough."""
        ...


def descend(
    objective: Objective, start: Float[Tensor, "k c p"], max_iterations: int, patient: bool = True
) -> tuple[Float[Tensor, "k c p"], Float[Tensor, " k"], Bool[Tensor, " k"], int]:
    """Go down until each gradient is short enough; a problem that is solved is no longer computed.

    Args:
        objective: k convex functions.
        start: (k, c, p) float64.
        max_iterations: at most this many for the slowest.
        patient: whether to go on where the gradient no longer becomes shorter.

    Returns:
        parameters, values, whether the gradient is short enough, and the iterations of the slowest.
    """
    which = torch.arange(len(start), device=start.device)
    at = start.clone()
    value, gradient = objective(at, which)
    solved, values, converged = at.clone(), value.clone(), torch.zeros_like(which, dtype=torch.bool)
    steps = changes = at.new_zeros(len(at), 0, at[0].numel())
    best, since = torch.full_like(value, torch.inf), torch.zeros_like(which)
    inverse: Curvature | None = None
    for iteration in range(max_iterations + 1):
        length = gradient.flatten(1).norm(dim=1)
        done = length <= objective.limit(at, which, value)
        solved[which], values[which], converged[which] = at, value, done
        if not patient:
            since = torch.where(length < best, 0, since + 1)
            best = best.minimum(length)
            done = done | (since > _PATIENCE)
        if bool(done.all()) or iteration == max_iterations:
            return solved, values, converged, iteration
        if bool(done.any()):
            left = ~done
            which, at, value, gradient, best, since = (one[left] for one in (which, at, value, gradient, best, since))
            steps, changes = steps[left], changes[left]
            inverse = None if inverse is None else inverse[left]
        if inverse is None or iteration % _RENEW == 0:
            inverse = objective.curvature(at, which)
        direction = -_times_inverse_hessian(gradient, steps, changes, inverse)
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
    objective: Objective, at: Tensor, value: Tensor, gradient: Tensor, direction: Tensor, which: Tensor
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


def _times_inverse_hessian(gradient: Tensor, steps: Tensor, changes: Tensor, inverse: Curvature) -> Tensor:
    """The inverse Hessian that the pairs tell, times the gradient, in matrices (Byrd, Nocedal and Schnabel 1994).

    Args:
        gradient: (k, c, p).
        steps: (k, m, c p) with step . change = 1, oldest first; a pair of zeros is passed over.
        changes: (k, m, c p), of the gradient over each step.
        inverse: of the Hessians before the pairs are known.
    """
    m, flat = steps.shape[1], gradient.flatten(1)
    both = torch.cat([changes, flat[:, None]], dim=1).view(len(flat), m + 1, *gradient.shape[1:])
    both = inverse.solve(both).flatten(2)
    if m == 0:
        return both[:, 0].view_as(gradient)
    latest = (changes[:, -1] * both[:, -2]).sum(dim=1)  # 1 if the estimate is right along the step
    both = both * torch.where(latest > 0, 1 / latest, 1.0)[:, None, None]
    scaled, first = both[:, :-1], both[:, -1]
    eye = torch.eye(m, dtype=steps.dtype, device=steps.device)
    upper = (steps @ changes.mT).triu(diagonal=1) + eye
    along = torch.linalg.solve_triangular(upper, steps @ flat[..., None], upper=True)
    inner = (eye + changes @ scaled.mT) @ along - scaled @ flat[..., None]
    outer = torch.linalg.solve_triangular(upper.mT, inner, upper=False)
    return (first + (steps.mT @ outer - scaled.mT @ along)[..., 0]).view_as(gradient)
