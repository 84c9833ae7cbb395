"""An encoder for vectors."""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from confu.nn.encoders.build import settings_from
from confu.nn.layers import mlp


class MLPEncoder(nn.Module):
    """Linear layers with ReLU between them, of the input laid out as one vector.

    >>> import torch
    >>> MLPEncoder(28 * 28, [128], 64)(torch.zeros(3, 28, 28)).shape
    torch.Size([3, 64])

    Args:
        in_dim: numbers in one input, over all its axes.
        hidden_dims: sizes of the hidden layers; none gives one linear map.
        out_dim: size of the features.
        dropout: share dropped after each hidden layer, in training.

    Reference: the XOR encoders of the ConFu paper, A.4.
    """

    def __init__(self, in_dim: int, hidden_dims: Sequence[int] = (), out_dim: int = 128, dropout: float = 0.0):
        super().__init__()
        self.settings = settings_from("mlp", locals())
        self.in_dim, self.out_dim = in_dim, out_dim
        self.layers = mlp(in_dim, hidden_dims, out_dim, dropout)

    def forward(self, values: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch out_dim"]:
        """The features of each input."""
        size = math.prod(values.shape[1:])
        if values.ndim < 2 or size != self.in_dim:
            raise ValueError(
                f"values must be (batch, ...) with in_dim = {self.in_dim} numbers an input; got shape "
                f"{tuple(values.shape)}, {size} an input"
            )
        return self.layers(values.flatten(1))
