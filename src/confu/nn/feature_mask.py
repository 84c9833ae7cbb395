"""Dropout of features before fusion."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from confu.nn.sizes import check_share


class FeatureMask(nn.Module):
    """Dropout of single features of one modality, in training only.

        h -> h * keep / (1 - ratio),   keep ~ Bernoulli(1 - ratio) for each row and feature

    Called once for each modality, so that each draws its own mask. `ratio` is the share that is *dropped*. (The
    released code keeps that share and does not rescale, so the paper's ratio of 0.3 is 0.7 here.)

    >>> import torch
    >>> FeatureMask(0.3).eval()(torch.ones(1, 3))
    tensor([[1., 1., 1.]])

    Args:
        ratio: share of the features that is dropped, in [0, 1).

    Raises:
        ValueError: for a ratio outside [0, 1).

    Reference: appendix B.3 of the ConFu paper.
    """

    def __init__(self, ratio: float):
        super().__init__()
        check_share(ratio=ratio)
        self.ratio = ratio

    def forward(self, features: Float[Tensor, "batch in_dim"]) -> Float[Tensor, "batch in_dim"]:
        """Mask in training; pass through otherwise."""
        return F.dropout(features, self.ratio, self.training)

    def extra_repr(self) -> str:
        """What print shows."""
        return f"ratio={self.ratio}"
