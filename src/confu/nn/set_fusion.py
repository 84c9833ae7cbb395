"""One fusion network for every set of modalities, where the others are built once for each set."""

from collections.abc import Iterable, Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from confu.nn import fusion_inputs
from confu.nn.feature_mask import FeatureMask
from confu.nn.mlp import mlp
from confu.nn.sizes import check_positive


class SetFusion(nn.Module):
    r"""A map of each modality's own, their sum over any set of modalities, and an MLP that all sets share.

    $$g_S(h) = W\, \mathrm{ReLU}\Big(\frac{1}{\sqrt{|S|}} \sum_{m \in S} (U_m h_m + b_m)\Big) + c$$

    The sum has no order. The biases $b_m$ tell the network which modalities it got; the root keeps one scale whatever
    their number. It is the MLP of Eq. 4 (`MLPFusion`) whose first layer's columns belong to a modality and not to a set
    of them, so that the maps are computed once for all sets: M maps in place of those of 2^M - M - 2 networks.

    >>> import torch
    >>> fusion = SetFusion({"image": 4, "audio": 6, "text": 5}, dim=3, hidden_dim=8)
    >>> h = {"image": torch.zeros(2, 4), "audio": torch.zeros(2, 6)}
    >>> fusion(h).shape, torch.equal(fusion(h), fusion(dict(reversed(h.items()))))
    (torch.Size([2, 3]), True)

    Args:
        in_dims: size of each modality's features by name, two or more.
        dim: size of the output.
        hidden_dim: size of the sum and of each hidden layer.
        mask_ratio: share of each modality's features that is dropped in training, see `FeatureMask`.
        depth: number of hidden layers, the sum among them.

    Raises:
        ValueError: for fewer than two modalities, a size or depth below one or a ratio outside [0, 1).

    Reference: takes the place of all networks of Eq. 4 of the ConFu paper at once; Zaheer et al. 2017 (Deep Sets) for
    the sum.
    """

    def __init__(
        self, in_dims: Mapping[str, int], dim: int, hidden_dim: int = 512, mask_ratio: float = 0.0, depth: int = 1
    ):
        super().__init__()
        check_positive(depth=depth, hidden_dim=hidden_dim)
        fusion_inputs.checked_dims(list(in_dims.values()))
        self.in_dims = dict(in_dims)
        self.mask = FeatureMask(mask_ratio)
        self.maps = nn.ModuleDict({name: nn.Linear(in_dim, hidden_dim) for name, in_dim in in_dims.items()})
        self.layers = nn.Sequential(nn.ReLU(), *mlp(hidden_dim, [hidden_dim] * (depth - 1), dim))

    def forward(self, features: Mapping[str, Tensor]) -> Float[Tensor, "batch dim"]:
        """Fuse features (batch, in_dim) of any two or more of the modalities; not normalised.

        Raises:
            ValueError: for an unknown modality, a single one, another size, or batches of different sizes.
        """
        if unknown := [name for name in features if name not in self.in_dims]:
            raise ValueError(f"features must be of {', '.join(self.in_dims)}; got {', '.join(map(repr, unknown))}")
        if len(features) < 2:
            raise ValueError(f"features must be of at least two modalities to fuse; got {list(features)}")
        names = [name for name in self.in_dims if name in features]  # one order, so that rounding is the same
        fusion_inputs.check_features([features[name] for name in names], [self.in_dims[name] for name in names])
        (total,) = set_sums({name: self.mapped(name, features[name]) for name in names}, [names])
        return self.fused(total, len(names))

    def mapped(self, name: str, features: Tensor) -> Float[Tensor, "batch hidden"]:
        """A modality's part of the sum, with the mask of training."""
        return self.maps[name](self.mask(features))

    def fused(self, total: Tensor, count: int) -> Float[Tensor, "batch dim"]:
        """What the network makes of the sum (batch, hidden) of `count` modalities' parts."""
        return self.layers(total * count**-0.5)


class OneSet(nn.Module):
    """A `SetFusion` for one set of its modalities, called as the networks that are built for one set are.

    >>> import torch
    >>> shared = SetFusion({"image": 4, "audio": 6, "text": 5}, dim=3, hidden_dim=8)
    >>> OneSet(shared, ["image", "text"])([torch.zeros(2, 4), torch.zeros(2, 5)]).shape
    torch.Size([2, 3])

    Args:
        shared: whose weights it uses; of its maps it holds only those of the set.
        names: of the modalities, two or more.
    """

    def __init__(self, shared: SetFusion, names: Sequence[str]):
        super().__init__()
        self.in_dims = fusion_inputs.checked_dims([shared.in_dims[name] for name in names])
        self.mask, self.layers = shared.mask, shared.layers
        self.maps = nn.ModuleList(shared.maps[name] for name in names)

    def forward(self, features: Sequence[Tensor]) -> Float[Tensor, "batch dim"]:
        """Fuse features (batch, in_dim) of each modality, in the order of the names; not normalised."""
        fusion_inputs.check_features(features, self.in_dims)
        first, *others = [layer(self.mask(h)) for layer, h in zip(self.maps, features, strict=True)]
        return self.layers(sum(others, start=first) * len(features) ** -0.5)


def set_sums(mapped: Mapping[str, Tensor], sets: Iterable[Sequence[str]]) -> list[Tensor]:
    """The sum over each set of names, from left to right; what two sets begin with is added once.

    >>> import torch
    >>> ones = {name: torch.ones(1) for name in "abc"}
    >>> set_sums(ones, ["ab", "abc"])
    [tensor([2.]), tensor([3.])]

    Args:
        mapped: one tensor a name, all of one shape.
        sets: the names of each.

    Returns:
        One sum a set.
    """
    known: dict[tuple[str, ...], Tensor] = {}

    def total(names: tuple[str, ...]) -> Tensor:
        if len(names) == 1:
            return mapped[names[0]]
        if names not in known:
            known[names] = total(names[:-1]) + mapped[names[-1]]
        return known[names]

    return [total(tuple(names)) for names in sets]
