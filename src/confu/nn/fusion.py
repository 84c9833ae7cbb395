"""Fusion networks: the features of two or more modalities to one vector (Eq. 4 of the paper, for any number).

`MLPFusion`, `ReleasedFusion`, `BilinearFusion` and `WeightedFusion` are built for one set of modalities; `SetFusion`
serves all sets.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from confu.checks import check_known
from confu.nn.layers import check_positive, check_share, mlp, unit


class FeatureMask(nn.Module):
    """Dropout of single features of one modality, in training only.

        h -> h * keep / (1 - ratio),   keep ~ Bernoulli(1 - ratio) for each row and feature

    Called once for each modality, so that each draws its own mask. `ratio`, in [0, 1), is the share that is *dropped*.
    (The released code keeps that share and does not rescale, so the paper's ratio of 0.3 is 0.7 here.)

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


class MLPFusion(nn.Module):
    """An MLP of the concatenated features, of two layers by default, with a linear output.

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
        self.in_dims = _checked_dims(in_dims)
        self.mask = FeatureMask(mask_ratio)
        self.layers = mlp(sum(in_dims), [hidden_dim] * depth, dim, dropout)

    def forward(self, features: Sequence[Tensor]) -> Float[Tensor, "batch dim"]:
        """Fuse features (batch, in_dim) of each modality, in the order of `in_dims`; not normalised."""
        _check_features(features, self.in_dims)
        return self.layers(torch.cat([self.mask(h) for h in features], dim=1))


class ReleasedFusion(MLPFusion):
    """The fusion network of the paper's released code: an MLP with an activation and dropout at its output.

        LeakyReLU(0.2) and Dropout(0.1) of Linear(ReLU and Dropout(0.1) of Linear([h_1, h_2, ...]))

    For reproduction. The output's activation and dropout keep it from small sizes: on XOR it needs about four times
    the size that the others need. Arguments as for `MLPFusion`.
    """

    def __init__(
        self, in_dims: Sequence[int], dim: int, hidden_dim: int = 512, mask_ratio: float = 0.0, depth: int = 1
    ):
        super().__init__(in_dims, dim, hidden_dim, mask_ratio, 0.1, depth)
        self.layers.extend([nn.LeakyReLU(0.2), nn.Dropout(0.1)])


class BilinearFusion(nn.Module):
    """A low-rank multilinear map: the product of one projection of each modality, projected again.

        W (f_1 * f_2 * ...),   f_i = sqrt(3) (U_i h_i / rms(h_i) + b_i)        with * elementwise

    Dividing by the root mean square of h_i, and the square root of 3 that undoes the third of torch's initial weights,
    gives each factor a variance of about one: the product neither vanishes nor explodes, whatever the encoders' scale
    and the number of modalities. The biases let a factor be near constant, so that a fused vector can follow one
    modality where the other says little; without them XOR at dimension 4 is solved for fewer seeds.

    Arguments as for `MLPFusion`; `hidden_dim` is the rank: the number of products.

    Reference: takes the place of the MLP of Eq. 4 of the ConFu paper; Kim et al. 2017 for the low-rank product.
    """

    def __init__(self, in_dims: Sequence[int], dim: int, hidden_dim: int = 512, mask_ratio: float = 0.0):
        super().__init__()
        check_positive(dim=dim, hidden_dim=hidden_dim)
        self.in_dims = _checked_dims(in_dims)
        self.mask = FeatureMask(mask_ratio)
        self.factors = nn.ModuleList(nn.Linear(in_dim, hidden_dim) for in_dim in in_dims)
        # No bias: it would pull all rows the same way, which tells none from another.
        self.output = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, features: Sequence[Tensor]) -> Float[Tensor, "batch dim"]:
        """Fuse features (batch, in_dim) of each modality, in the order of `in_dims`; not normalised."""
        _check_features(features, self.in_dims)
        factors = []
        for factor, h in zip(self.factors, features, strict=True):
            # eps small, so that weak features are scaled too; not smaller, as a row near zero gets a gradient of
            # 1 / sqrt(eps). The root of 3 is here and not in larger weights, so that an optimizer's steps are large
            # enough to change them.
            factors.append(3**0.5 * factor(F.rms_norm(self.mask(h), h.shape[-1:], eps=1e-8)))
        return self.output(reduce(torch.mul, factors))


class WeightedFusion(MLPFusion):
    r"""A sum of each modality's direction, weighted by a confidence that is read from its features, and an MLP.

    $$g(h) = \sum_m e^{a_m(h_m)} \frac{U_m h_m}{\|U_m h_m\|} + s\, \frac{f(h)}{\|f(h)\|}$$

    with f the MLP of Eq. 4. The weights begin at 1 and s at 0.1, so that a training starts from the sum of what each
    modality tells alone and adds what only several tell together where the data ask for it. The exponents are bounded
    to (-4, 4): no weight can leave the range of 0.02 to 55, and the gradient of none vanishes by overflow.

    >>> WeightedFusion([4, 6], dim=3, hidden_dim=8)([torch.zeros(2, 4), torch.zeros(2, 6)]).shape
    torch.Size([2, 3])

    Arguments as for `MLPFusion`.

    Reference: in place of Eq. 4 of the ConFu paper; Arevalo et al. 2017 for gates that read the features.
    """

    BOUND = 4.0

    def __init__(
        self,
        in_dims: Sequence[int],
        dim: int,
        hidden_dim: int = 512,
        mask_ratio: float = 0.0,
        dropout: float = 0.0,
        depth: int = 1,
    ):
        super().__init__(in_dims, dim, hidden_dim, mask_ratio, dropout, depth)
        self.maps = nn.ModuleList(nn.Linear(in_dim, dim) for in_dim in in_dims)
        self.confidences = nn.ModuleList(nn.Linear(in_dim, 1) for in_dim in in_dims)
        for weight in self.confidences.parameters():
            nn.init.zeros_(weight)
        self.scale = nn.Parameter(torch.tensor([0.1]))

    def forward(self, features: Sequence[Tensor]) -> Float[Tensor, "batch dim"]:
        """Fuse features (batch, in_dim) of each modality, in the order of `in_dims`; not normalised."""
        _check_features(features, self.in_dims)
        masked = [self.mask(h) for h in features]
        total = self.scale * unit(self.layers(torch.cat(masked, dim=1)))
        for h, linear, confidence in zip(masked, self.maps, self.confidences, strict=True):
            exponent = self.BOUND * torch.tanh(confidence(h).float() / self.BOUND)
            total = total + exponent.exp() * unit(linear(h))
        return total


class SetFusion(nn.Module):
    r"""One network for every set of modalities: a map of each, their sum over the set, and an MLP that all sets share.

    $$g_S(h) = W\, \mathrm{ReLU}\Big(\frac{1}{\sqrt{|S|}} \sum_{m \in S} (U_m h_m + b_m)\Big) + c$$

    The sum has no order. The biases $b_m$ tell the network which modalities it got; the root keeps one scale whatever
    their number. It is the MLP of Eq. 4 (`MLPFusion`) whose first layer's columns belong to a modality and not to a set
    of them, so that the maps are computed once for all sets: M maps in place of those of 2^M - M - 2 networks.

    >>> fusion = SetFusion({"image": 4, "audio": 6, "text": 5}, dim=3, hidden_dim=8)
    >>> fusion({"image": torch.zeros(2, 4), "audio": torch.zeros(2, 6)}).shape
    torch.Size([2, 3])

    Arguments as for `MLPFusion`, but `in_dims` by name; the sum is one of the hidden layers.
    """

    def __init__(
        self,
        in_dims: Mapping[str, int],
        dim: int,
        hidden_dim: int = 512,
        mask_ratio: float = 0.0,
        depth: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        check_positive(depth=depth, hidden_dim=hidden_dim)
        check_share(dropout=dropout)
        _checked_dims(list(in_dims.values()))
        self.in_dims = dict(in_dims)
        self.mask = FeatureMask(mask_ratio)
        self.maps = nn.ModuleDict({name: nn.Linear(in_dim, hidden_dim) for name, in_dim in in_dims.items()})
        dropped = [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(nn.ReLU(), *dropped, *mlp(hidden_dim, [hidden_dim] * (depth - 1), dim, dropout))

    def forward(self, features: Mapping[str, Tensor]) -> Float[Tensor, "batch dim"]:
        """Fuse features (batch, in_dim) of any two or more of the modalities; not normalised."""
        if unknown := [name for name in features if name not in self.in_dims]:
            raise ValueError(f"features must be of {', '.join(self.in_dims)}; got {', '.join(map(repr, unknown))}")
        if len(features) < 2:
            raise ValueError(f"features must be of at least two modalities to fuse; got {list(features)}")
        names = [name for name in self.in_dims if name in features]  # one order, so that rounding is the same
        _check_features([features[name] for name in names], [self.in_dims[name] for name in names])
        (total,) = set_sums({name: self.mapped(name, features[name]) for name in names}, [names])
        return self.fused(total, len(names))

    def mapped(self, name: str, features: Tensor) -> Float[Tensor, "batch hidden"]:
        """A modality's summand, with the mask of training."""
        return self.maps[name](self.mask(features))

    def fused(self, total: Tensor, count: int) -> Float[Tensor, "batch dim"]:
        """The fused vectors of the sum (batch, hidden) of `count` modalities."""
        return self.layers(total * count**-0.5)


class OneSet(nn.Module):
    """A `SetFusion` for one set of its modalities, called as the networks that are built for one set are."""

    def __init__(self, shared: SetFusion, names: Sequence[str]):
        super().__init__()
        self.in_dims = _checked_dims([shared.in_dims[name] for name in names])
        self.mask, self.layers = shared.mask, shared.layers
        self.maps = nn.ModuleList(shared.maps[name] for name in names)

    def forward(self, features: Sequence[Tensor]) -> Float[Tensor, "batch dim"]:
        """Fuse features (batch, in_dim) of each modality, in the order of the names; not normalised."""
        _check_features(features, self.in_dims)
        first, *others = [layer(self.mask(h)) for layer, h in zip(self.maps, features, strict=True)]
        return self.layers(sum(others, start=first) * len(features) ** -0.5)


def set_sums(mapped: Mapping[str, Tensor], sets: Iterable[Sequence[str]]) -> list[Tensor]:
    """The sum over each set of names, from left to right; what two sets begin with is added once."""
    known: dict[tuple[str, ...], Tensor] = {}

    def total(names: tuple[str, ...]) -> Tensor:
        if len(names) == 1:
            return mapped[names[0]]
        if names not in known:
            known[names] = total(names[:-1]) + mapped[names[-1]]
        return known[names]

    return [total(tuple(names)) for names in sets]


def _shared_fusion(in_dims: Sequence[int], **settings: Any) -> OneSet:
    names = [f"input_{i}" for i in range(len(in_dims))]
    return OneSet(SetFusion(dict(zip(names, _checked_dims(in_dims))), **settings), names)


FUSIONS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLPFusion,
    "released": ReleasedFusion,
    "bilinear": BilinearFusion,
    "shared": _shared_fusion,
    "weighted": WeightedFusion,
}


def build_fusion(
    kind: str,
    in_dims: Sequence[int],
    dim: int,
    hidden_dim: int,
    mask_ratio: float = 0.0,
    depth: int = 1,
    dropout: float = 0.0,
) -> nn.Module:
    """A fusion network of one set of modalities by its registered name.

    `"shared"` is `SetFusion` with no other set to share it with; a model builds one `SetFusion` for all its subsets.

    >>> type(build_fusion("mlp", [4, 6], dim=3, hidden_dim=8)).__name__
    'MLPFusion'

    Arguments as for `MLPFusion`; `kind` is a name in `FUSIONS`, and 1 is the only depth of `"bilinear"`. Dropout is for
    `"mlp"`, `"shared"` and `"weighted"`.

    Returns:
        A module that maps a list of (batch, in_dim) to (batch, dim).
    """
    check_known("fusion kind", kind, FUSIONS)
    check_positive(depth=depth)
    if kind == "bilinear" and depth != 1:
        raise ValueError(
            f"depth is the number of hidden layers of an MLP, and the bilinear fusion has one product only; got depth "
            f"{depth}. Leave depth at 1, or take fusion 'mlp'"
        )
    if dropout and kind in ("bilinear", "released"):
        raise ValueError(
            f"dropout is of the hidden layers of fusion 'mlp', 'shared' or 'weighted'; got dropout {dropout} with "
            f"{kind!r}. Leave it at 0, or take another fusion"
        )
    # A network without hidden layers, or with its own dropout, has no such arguments.
    more = {**({} if depth == 1 else {"depth": depth}), **({"dropout": dropout} if dropout else {})}
    return FUSIONS[kind](in_dims=in_dims, dim=dim, hidden_dim=hidden_dim, mask_ratio=mask_ratio, **more)


def _checked_dims(in_dims: Sequence[int]) -> tuple[int, ...]:
    if len(in_dims) < 2:
        raise ValueError(f"in_dims must hold the sizes of at least two modalities to fuse; got {list(in_dims)}")
    check_positive(**{f"in_dims[{i}]": in_dim for i, in_dim in enumerate(in_dims)})
    return tuple(in_dims)


def _check_features(features: Sequence[Tensor], in_dims: Sequence[int]) -> None:
    # Compared one by one, not gathered in a set: the size of the batch may be a symbol while a model is exported.
    if len(features) != len(in_dims) or any(
        h.ndim != 2 or h.shape[1] != in_dim or h.shape[0] != features[0].shape[0]
        for h, in_dim in zip(features, in_dims)
    ):
        raise ValueError(
            f"features must be {len(in_dims)} tensors (batch, in_dim) with in_dim {list(in_dims)} and one batch size; "
            f"got shapes {[tuple(h.shape) for h in features]}"
        )
