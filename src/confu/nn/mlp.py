"""Multilayer perceptrons."""

from collections.abc import Sequence

from torch import nn

from confu.nn.sizes import check_positive, check_share


def mlp(in_dim: int, hidden_dims: Sequence[int], out_dim: int, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with ReLU between them and a linear output.

        x -> [Linear -> ReLU -> Dropout] for each hidden size -> Linear

    >>> len(mlp(5, [128], 64))  # Linear, ReLU, Linear: a dropout of zero adds no module
    3

    Args:
        in_dim: size of the input.
        hidden_dims: sizes of the hidden layers; none gives one linear map.
        out_dim: size of the output.
        dropout: share dropped after each hidden layer, in training.

    Returns:
        The layers, for input (..., in_dim) and output (..., out_dim).

    Raises:
        ValueError: for a size below one or a dropout outside [0, 1).
    """
    check_positive(in_dim=in_dim, out_dim=out_dim, **{f"hidden_dims[{i}]": dim for i, dim in enumerate(hidden_dims)})
    check_share(dropout=dropout)
    layers: list[nn.Module] = []
    for hidden_dim in hidden_dims:
        layers += [nn.Linear(in_dim, hidden_dim), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        in_dim = hidden_dim
    return nn.Sequential(*layers, nn.Linear(in_dim, out_dim))
