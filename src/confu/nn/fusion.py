"""Fusion networks: the features of two or more modalities to one vector (Eq. 4 of the paper, for any number).

Each is built for one set of modalities; `set_fusion` has the one that all sets share.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from confu.checks import check_known
from confu.nn import fusion_inputs
from confu.nn.feature_mask import FeatureMask
from confu.nn.mlp import mlp
from confu.nn.set_fusion import OneSet, SetFusion
from confu.nn.sizes import check_positive


class ReleasedFusion(nn.Module):
    """The fusion network of the paper's released code: an MLP with an activation and dropout at its output.

        LeakyReLU(0.2) and Dropout(0.1) of Linear(ReLU and Dropout(0.1) of Linear([h_1, h_2, ...]))

    For reproduction. The output's activation and dropout keep it from small sizes: on XOR it needs about four times
    the size that the two others need.

    >>> ReleasedFusion([4, 6], dim=3, hidden_dim=8)([torch.zeros(2, 4), torch.zeros(2, 6)]).shape
    torch.Size([2, 3])

    Args:
        in_dims: size of each modality's features, two or more.
        dim: size of the output.
        hidden_dim: size of the hidden layer; 512 in all scripts of the released code.
        mask_ratio: share of each modality's features that is dropped in training, see `FeatureMask`.
        depth: number of hidden layers, each of `hidden_dim`.

    Raises:
        ValueError: for fewer than two modalities, a size or depth below one or a ratio outside [0, 1).

    Reference: Eq. 4 of the ConFu paper, "2-layer MLP": depth 1.
    """

    def __init__(
        self, in_dims: Sequence[int], dim: int, hidden_dim: int = 512, mask_ratio: float = 0.0, depth: int = 1
    ):
        super().__init__()
        check_positive(depth=depth)
        self.in_dims = fusion_inputs.checked_dims(in_dims)
        self.mask = FeatureMask(mask_ratio)
        layers = mlp(sum(in_dims), [hidden_dim] * depth, dim, 0.1)
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(0.2), nn.Dropout(0.1))

    def forward(self, features: Sequence[Tensor]) -> Float[Tensor, "batch dim"]:
        """Fuse features (batch, in_dim) of each modality, in the order of `in_dims`; not normalised."""
        fusion_inputs.check_features(features, self.in_dims)
        return self.layers(torch.cat([self.mask(h) for h in features], dim=1))


class MLPFusion(nn.Module):
    """An MLP of the concatenated features, of two layers if not told otherwise, with a linear output.

        W_2 ReLU(W_1 [h_1, h_2, ...] + b_1) + b_2        for depth 1

    >>> MLPFusion([4, 6, 5], dim=3)([torch.zeros(2, 4), torch.zeros(2, 6), torch.zeros(2, 5)]).shape
    torch.Size([2, 3])

    Args:
        in_dims: size of each modality's features, two or more.
        dim: size of the output.
        hidden_dim: size of the hidden layer.
        mask_ratio: share of each modality's features that is dropped in training, see `FeatureMask`.
        dropout: share of each hidden layer that is dropped in training.
        depth: number of hidden layers, each of `hidden_dim`.

    Raises:
        ValueError: for fewer than two modalities, a size or depth below one or a share outside [0, 1).

    Reference: Eq. 4 of the ConFu paper, "2-layer MLP": depth 1.
    """

    def __init__(
        self,
        in_dims: Sequence[int],
        dim: int,
        hidden_dim: int = 512,
        mask_ratio: float = 0.0,
        dropout: float = 0.0,
        depth: int = 1,
    ):
        super().__init__()
        check_positive(depth=depth)
        self.in_dims = fusion_inputs.checked_dims(in_dims)
        self.mask = FeatureMask(mask_ratio)
        self.layers = mlp(sum(in_dims), [hidden_dim] * depth, dim, dropout)

    def forward(self, features: Sequence[Tensor]) -> Float[Tensor, "batch dim"]:
        """Fuse features (batch, in_dim) of each modality, in the order of `in_dims`; not normalised."""
        fusion_inputs.check_features(features, self.in_dims)
        return self.layers(torch.cat([self.mask(h) for h in features], dim=1))


class BilinearFusion(nn.Module):
    """A low-rank multilinear map: the product of one projection of each modality, projected again.

        W (f_1 * f_2 * ...),   f_i = sqrt(3) (U_i h_i / rms(h_i) + b_i)        with * elementwise

    Dividing by the root mean square of h_i, and the square root of 3 that undoes the third of torch's initial weights,
    gives each factor a variance of about one: the product neither vanishes nor explodes, whatever the encoders' scale
    and the number of modalities. The biases let a factor be near constant, so that a fused vector can follow one
    modality where the other says little; without them XOR at dimension 4 is solved for fewer seeds.

    >>> BilinearFusion([4, 6], dim=3)([torch.ones(2, 4), torch.ones(2, 6)]).shape
    torch.Size([2, 3])

    Args:
        in_dims: size of each modality's features, two or more.
        dim: size of the output.
        hidden_dim: the rank: number of products.
        mask_ratio: share of each modality's features that is dropped in training, see `FeatureMask`.

    Raises:
        ValueError: for fewer than two modalities, a size below one or a ratio outside [0, 1).

    Reference: takes the place of the MLP of Eq. 4 of the ConFu paper; Kim et al. 2017 for the low-rank product.
    """

    def __init__(self, in_dims: Sequence[int], dim: int, hidden_dim: int = 512, mask_ratio: float = 0.0):
        super().__init__()
        check_positive(dim=dim, hidden_dim=hidden_dim)
        self.in_dims = fusion_inputs.checked_dims(in_dims)
        self.mask = FeatureMask(mask_ratio)
        self.factors = nn.ModuleList(nn.Linear(in_dim, hidden_dim) for in_dim in in_dims)
        # No bias: it would pull all rows the same way, which tells none from another.
        self.output = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, features: Sequence[Tensor]) -> Float[Tensor, "batch dim"]:
        """Fuse features (batch, in_dim) of each modality, in the order of `in_dims`; not normalised."""
        fusion_inputs.check_features(features, self.in_dims)
        # The root is here and not in larger weights, so that an optimizer's steps are large enough to change them.
        factors = [3**0.5 * factor(_unit_scale(self.mask(h))) for factor, h in zip(self.factors, features, strict=True)]
        return self.output(reduce(torch.mul, factors))


def _shared_by_one_set(in_dims: Sequence[int], **settings: Any) -> OneSet:
    names = [f"input_{i}" for i in range(len(in_dims))]
    return OneSet(SetFusion(dict(zip(names, fusion_inputs.checked_dims(in_dims))), **settings), names)


FUSIONS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLPFusion,
    "released": ReleasedFusion,
    "bilinear": BilinearFusion,
    "shared": _shared_by_one_set,
}


def build_fusion(
    kind: str, in_dims: Sequence[int], dim: int, hidden_dim: int, mask_ratio: float = 0.0, depth: int = 1
) -> nn.Module:
    """A fusion network of one set of modalities by its registered name.

    `"shared"` is `SetFusion` with no other set to share it with; a model builds one `SetFusion` for all its subsets.

    >>> type(build_fusion("mlp", [4, 6], dim=3, hidden_dim=8)).__name__
    'MLPFusion'

    Args:
        kind: a name in `FUSIONS`.
        in_dims: size of each modality's features, two or more.
        dim: size of the output.
        hidden_dim: size of the hidden layer, or rank.
        mask_ratio: share of each modality's features that is dropped in training.
        depth: number of hidden layers of the MLPs; 1, the paper's, is the only one for `"bilinear"`.

    Returns:
        A module that maps a list of (batch, in_dim) to (batch, dim).

    Raises:
        ValueError: for an unknown kind, or sizes that the network refuses.
    """
    check_known("fusion kind", kind, FUSIONS)
    check_positive(depth=depth)
    if kind == "bilinear" and depth != 1:
        raise ValueError(
            f"depth is the number of hidden layers of an MLP, and the bilinear fusion has one product only; got depth "
            f"{depth}. Leave depth at 1, or take fusion 'mlp'"
        )
    # Only where it is asked for: a network without hidden layers need not know the word.
    deeper = {} if depth == 1 else {"depth": depth}
    return FUSIONS[kind](in_dims=in_dims, dim=dim, hidden_dim=hidden_dim, mask_ratio=mask_ratio, **deeper)


def _unit_scale(features: Tensor) -> Tensor:
    # Small, so that weak features are scaled too; not smaller, as a row near zero gets a gradient of 1 / sqrt(eps).
    return F.rms_norm(features, features.shape[-1:], eps=1e-8)
