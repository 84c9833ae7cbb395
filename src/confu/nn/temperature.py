"""The temperature of a contrastive loss, fixed or learned."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Temperature(nn.Module):
    """A positive number within bounds, held as the logarithm of its inverse.

        temperature = exp(-clamp(log_inverse, -log maximum, -log minimum))

    A gradient step in `log_inverse` is a relative step in the temperature. Outside its bounds the clamp has no
    gradient, so a parameter that a step has carried past a bound would stay there for good: call `clamp_` after each
    optimizer step. On the bound itself the gradient flows, and can lead back inside.

    >>> round(Temperature(0.07)().item(), 4)
    0.07

    Args:
        initial: the value to begin with; the released code uses 0.07 throughout.
        learned: whether it is a parameter; otherwise it is a buffer. The name in the state dict is the same.
        minimum: lower bound; 0.01 is CLIP's limit of 100 on the inverse.
        maximum: upper bound.

    Raises:
        ValueError: unless 0 < minimum <= initial <= maximum < infinity.

    Reference: Eq. 2 of the ConFu paper (which gives no value); Radford et al. 2021, section 2.5, for the bound.
    """

    log_inverse: Tensor

    def __init__(self, initial: float = 0.07, learned: bool = False, minimum: float = 0.01, maximum: float = 1.0):
        super().__init__()
        if not 0 < minimum <= maximum < math.inf:
            raise ValueError(f"minimum and maximum must satisfy 0 < minimum <= maximum; got {minimum} and {maximum}")
        if not minimum <= initial <= maximum:
            raise ValueError(
                f"initial must be in [minimum, maximum] = [{minimum}, {maximum}]; got {initial}: move it, or the bounds"
            )
        self.learned, self.minimum, self.maximum = learned, minimum, maximum
        # Of log_inverse, not of the temperature: exp rounds, and a value one rounding past a bound has no gradient.
        self._bounds = (-math.log(maximum), -math.log(minimum))
        log_inverse = torch.tensor(-math.log(initial))
        if learned:
            self.log_inverse = nn.Parameter(log_inverse)
        else:
            self.register_buffer("log_inverse", log_inverse)

    def forward(self) -> Float[Tensor, ""]:
        """The temperature, a scalar with gradient if it is learned."""
        return self.log_inverse.clamp(*self._bounds).neg().exp()

    @torch.no_grad()
    def clamp_(self) -> None:
        """Move `log_inverse` to the nearest bound if it is past one; to be called after each optimizer step."""
        self.log_inverse.clamp_(*self._bounds)

    def extra_repr(self) -> str:
        """What print shows."""
        return f"{self().item():.4g}, learned={self.learned}, minimum={self.minimum}, maximum={self.maximum}"
