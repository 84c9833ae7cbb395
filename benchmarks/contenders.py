"""The losses that are compared: those of confu, and what their papers' released code does, re-created from it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import symile
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import normalize

from confu import Batch, CLIPLoss, ConFuLoss, ContrastiveObjective, Embeddings, Inputs, MultimodalModel, Subset
from confu.losses import GRAMLoss, SymileLoss, TRIANGLELoss
from confu.plan import confu_plan, pairwise_plan

NAMES = ("a", "b", "c")
PAIRS = (("a", "b"), ("a", "c"), ("b", "c"))
TEMPERATURE = 0.07
FUSION_DIM = 512


class OpenCLIP(nn.Module):
    """Each pair as open_clip does it: both score matrices are products of their own."""

    def forward(self, z: Embeddings) -> Tensor:
        losses = [self.pair(z[one], z[other]) for one, other in PAIRS]
        return torch.stack(losses).mean()

    def pair(self, one: Tensor, other: Tensor) -> Tensor:
        targets = torch.arange(len(one))
        forward, backward = one @ other.T / TEMPERATURE, other @ one.T / TEMPERATURE
        return (F.cross_entropy(forward, targets) + F.cross_entropy(backward, targets)) / 2


class PackagedSymile(nn.Module):
    """The package `symile` 0.1.0, by Symile's authors."""

    def __init__(self, negatives: str) -> None:
        super().__init__()
        self.loss = symile.Symile(negative_sampling=negatives)

    def forward(self, z: Embeddings) -> Tensor:
        return self.loss([z[name] for name in NAMES], 1 / TEMPERATURE)


def both_ways(distances: Tensor, label_smoothing: float = 0.0) -> Tensor:
    targets, scores = torch.arange(len(distances)), -distances / TEMPERATURE
    return (
        F.cross_entropy(scores, targets, label_smoothing=label_smoothing)
        + F.cross_entropy(scores.T, targets, label_smoothing=label_smoothing)
    ) / 2


class ReleasedTriangle(nn.Module):
    """TRIANGLE's released way: the two edges of every triangle, (N, N, D) each; no root, the first name the anchor."""

    def forward(self, z: Embeddings) -> Tensor:
        x, y, w = (z[name] for name in NAMES)
        u, v = x[:, None] - y[None], x[:, None] - w[None]
        areas = ((u**2).sum(dim=2) * (v**2).sum(dim=2) - (u * v).sum(dim=2) ** 2) / 2
        return both_ways(areas, label_smoothing=0.1)


class DeterminantGRAM(nn.Module):
    """GRAM's released way, `torch.det` of every Gram matrix, (N, N, 3, 3); here with every name an anchor."""

    def forward(self, z: Embeddings) -> Tensor:
        losses = [both_ways(self.volumes(*(z[one] for one in order))) for order in ("abc", "bac", "cab")]
        return torch.stack(losses).mean()

    def volumes(self, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        n = len(x)
        xx, yy, ww, yw = ((one * other).sum(dim=1) for one, other in ((x, x), (y, y), (w, w), (y, w)))
        xx, yy, ww, yw = xx[:, None].expand(n, n), yy.expand(n, n), ww.expand(n, n), yw.expand(n, n)
        xy, xw = x @ y.T, x @ w.T
        rows = [torch.stack(row, dim=-1) for row in ([xx, xy, xw], [xy, yy, yw], [xw, yw, ww])]
        return torch.det(torch.stack(rows, dim=-2)).abs().sqrt()


@dataclass(frozen=True)
class Contender:
    """A loss that is measured.

    Attributes:
        loss: makes it.
        same_as: the other name under which the same numbers are computed, checked before anything is measured.
        held: how many numbers are held at the peak, of N rows and D dims; only for those that may be too many. The
            factors are from measurements at N = 256.
        products: multiplications and additions in matrix products of a step; only for those that may be too many.
        fused: whether the model has fusion networks.
    """

    loss: Callable[[], nn.Module]
    same_as: str | None = None
    held: Callable[[int, int], int] = lambda n, d: 0
    products: Callable[[int, int], int] = lambda n, d: 0
    fused: bool = False


CONTENDERS: dict[str, Contender] = {
    "open_clip's way, three pairs": Contender(OpenCLIP, same_as="tri-clip"),
    "tri-clip": Contender(partial(CLIPLoss, NAMES, TEMPERATURE)),
    "confu": Contender(lambda: ConFuLoss(confu_plan(NAMES), TEMPERATURE), fused=True),
    "symile, O(N)": Contender(partial(SymileLoss, NAMES, TEMPERATURE)),
    "symile 0.1.0, O(N)": Contender(partial(PackagedSymile, "n"), same_as="symile, O(N)"),
    "symile, O(N²)": Contender(
        partial(SymileLoss, NAMES, TEMPERATURE, "n_squared"),
        products=lambda n, d: 24 * n**3 * d,  # three anchors; scores twice, and two gradients
    ),
    "symile 0.1.0, O(N²)": Contender(
        partial(PackagedSymile, "n_squared"), same_as="symile, O(N²)",
        held=lambda n, d: 6 * (n**2 * d + n**3), products=lambda n, d: 18 * n**3 * d,
    ),
    "gram": Contender(partial(GRAMLoss, NAMES, TEMPERATURE)),
    "gram by torch.det": Contender(DeterminantGRAM, same_as="gram", held=lambda n, d: 140 * n**2),
    "triangle": Contender(partial(TRIANGLELoss, NAMES, TEMPERATURE)),
    "triangle, one anchor": Contender(
        partial(TRIANGLELoss, NAMES, TEMPERATURE, ["a"], formula="released", label_smoothing=0.1)
    ),
    "triangle released, (N, N, D)": Contender(
        ReleasedTriangle, same_as="triangle, one anchor", held=lambda n, d: 7 * n**2 * d
    ),
}  # fmt: skip
FLOOR = "open_clip's way, three pairs"


class LinearEncoder(nn.Linear):
    """The least that an encoder can be."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim)
        self.out_dim = dim


def loss_step(contender: Contender, n: int, dim: int, dtype: torch.dtype = torch.float32) -> Callable[[], Tensor]:
    """A function that does forward and backward of the loss alone, on embeddings that are there."""
    torch.manual_seed(0)
    subsets = confu_plan(NAMES).subsets if contender.fused else tuple(map(Subset, NAMES))
    leaves = {one: normalize(torch.randn(n, dim, dtype=dtype), dim=1).requires_grad_() for one in subsets}
    return _step(contender.loss().to(dtype), Embeddings(leaves), list(leaves.values()))


def model_step(contender: Contender, n: int, dim: int) -> Callable[[], Tensor]:
    """The same with a linear encoder and a projection a modality, and fusion networks where the method has them."""
    torch.manual_seed(0)
    plan = confu_plan(NAMES) if contender.fused else pairwise_plan(NAMES)
    encoders = {name: LinearEncoder(dim) for name in NAMES}
    objective = ContrastiveObjective(MultimodalModel(plan, encoders, dim, fusion_dim=FUSION_DIM), contender.loss())
    inputs = {name: Inputs(torch.randn(n, dim), torch.arange(n)) for name in NAMES}
    batch = Batch(inputs, [str(row) for row in range(n)])
    return _step(objective, batch, [one for one in objective.parameters() if one.requires_grad])


def _step(module: nn.Module, given: Embeddings | Batch, leaves: list[Tensor]) -> Callable[[], Tensor]:
    def step() -> Tensor:
        for leaf in leaves:
            leaf.grad = None
        out = module(given)
        total = out if isinstance(out, Tensor) else out.total
        total.backward()
        return total.detach()

    step.leaves = leaves
    return step


PARTS = {"loss": loss_step, "step": model_step}
