"""The ways to compute the loss that `loss.py` compares, and its floor: the matrix products that cannot be left out."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from confu.losses import tiled
from confu.losses.infonce import ContrastOptions, info_nce_terms
from confu.plan import confu_plan
from confu.products import products

try:
    from pytorch_metric_learning.distances import DotProductSimilarity
    from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss
except ImportError:
    NTXentLoss = None

TAU, DIM = 0.07, 256
Terms = list[tuple[int, int]]
Way = Callable[[list[Tensor], Terms], Tensor]


def released(vectors: list[Tensor], terms: Terms) -> Tensor:
    """A score matrix a term, and two cross-entropies of it."""
    losses = []
    for left, right in terms:
        scores = vectors[left] @ vectors[right].T / TAU
        targets = torch.arange(len(scores))
        losses.append((F.cross_entropy(scores, targets) + F.cross_entropy(scores.T, targets)) / 2)
    return torch.stack(losses).sum()


def released_onednn(vectors: list[Tensor], terms: Terms) -> Tensor:
    """The same with the products by the backend that confu chooses (its backward pass too: see `step`)."""
    return released(vectors, terms)


def open_clip(vectors: list[Tensor], terms: Terms) -> Tensor:
    """Two score matrices a term."""
    losses = []
    for left, right in terms:
        one, other = vectors[left] @ vectors[right].T / TAU, vectors[right] @ vectors[left].T / TAU
        targets = torch.arange(len(one))
        losses.append((F.cross_entropy(one, targets) + F.cross_entropy(other, targets)) / 2)
    return torch.stack(losses).sum()


def torch_linear(vectors: list[Tensor], terms: Terms) -> Tensor:
    """torch's own fusion of a product and a cross-entropy, where this torch has it: one for each direction."""
    fused = F.linear_cross_entropy  # pyright: ignore[reportAttributeAccessIssue]
    targets = torch.arange(len(vectors[0]))
    losses = [
        (fused(vectors[left] / TAU, vectors[right], targets) + fused(vectors[right] / TAU, vectors[left], targets)) / 2
        for left, right in terms
    ]
    return torch.stack(losses).sum()


def ours(vectors: list[Tensor], terms: Terms) -> Tensor:
    return info_nce_terms(dict(enumerate(vectors)), terms, TAU)[0]


def ours_tiled(vectors: list[Tensor], terms: Terms) -> Tensor:
    before, tiled.KEPT_BYTES = tiled.KEPT_BYTES, 0
    try:
        return ours(vectors, terms)
    finally:
        tiled.KEPT_BYTES = before


def ours_equal(equal_inputs: str) -> Way:
    """With equal inputs in two sides, each eight and four times in a batch: not the value of the others."""

    def way(vectors: list[Tensor], terms: Terms) -> Tensor:
        rows = torch.arange(len(vectors[0]))
        contents = dict.fromkeys(range(len(vectors)), rows) | {1: rows % max(1, len(rows) // 8), 2: rows // 4}
        options = ContrastOptions(equal_inputs=equal_inputs)
        return info_nce_terms(dict(enumerate(vectors)), terms, TAU, contents=contents, options=options)[0]

    return way


def metric_learning(vectors: list[Tensor], terms: Terms) -> Tensor:
    """pytorch-metric-learning's way for two sides; by itself it would take the vectors to length one once more."""
    distance = DotProductSimilarity(normalize_embeddings=False)
    loss = SelfSupervisedLoss(NTXentLoss(TAU, distance=distance), symmetric=False)
    losses = [(loss(vectors[left], vectors[right]) + loss(vectors[right], vectors[left])) / 2 for left, right in terms]
    return torch.stack(losses).sum()


FLOOR, CHOSEN, PML = "released code's way", "the same, chosen backend", "pytorch-metric-learning"
WAYS: dict[str, Way] = {
    FLOOR: released,
    CHOSEN: released_onednn,
    "open_clip's way": open_clip,
    "torch linear_cross_entropy": torch_linear,
    PML: metric_learning,
    "confu": ours,
    "confu, scores not kept": ours_tiled,
    "confu, equal inputs positives": ours_equal("positives"),
    "confu, equal inputs excluded": ours_equal("excluded"),
}
MISSING = {}
if not hasattr(F, "linear_cross_entropy"):
    MISSING["torch linear_cross_entropy"] = f"torch {torch.__version__} has none"
if NTXentLoss is None:
    MISSING[PML] = "not installed (pip install pytorch-metric-learning)"
MOST_ROWS = {PML: 256}
"""Beyond so many rows a way is not run: pytorch-metric-learning holds N^2 (N - 1) numbers several times."""


def three_modalities() -> tuple[int, Terms]:
    """The six terms of Eq. 7."""
    return of_plan(confu_plan(("a", "b", "c")))


def of_plan(plan: Any) -> tuple[int, Terms]:
    subsets = list(plan.subsets)
    return len(subsets), [(subsets.index(term.left), subsets.index(term.right)) for term in plan.terms]


def leaves(count: int, n: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [
        F.normalize(torch.randn(n, DIM, generator=generator, dtype=dtype), dim=1).requires_grad_() for _ in range(count)
    ]


def step(name: str, n: int, count: int, terms: Terms) -> Callable[[], Tensor]:
    vectors, way = leaves(count, n), WAYS[name]

    def run() -> Tensor:
        for one in vectors:
            one.grad = None
        if way is released_onednn:
            with products(vectors[0]):
                total = way(vectors, terms)
                total.backward()
        else:
            total = way(vectors, terms)
            total.backward()
        return total

    return run


def floor(n: int, terms: Terms, count: int) -> Callable[[], None]:
    """The products of each term alone: `count` of them, n x n x D each."""
    a, b = torch.randn(n, DIM), torch.randn(n, DIM)
    tile = min(n, 1024)
    scores, gradient = torch.empty(tile, n), torch.zeros(n, DIM)

    def run() -> None:
        with products(a):
            for _ in terms:
                for start in range(0, n, tile):
                    part = a[start : start + tile]
                    for _ in range(count - 2):
                        torch.mm(part, b.T, out=scores)
                    torch.mm(scores, b)
                    gradient.addmm_(scores.T, part)

    return run


def check_equal() -> bool:
    """Fail unless every way gives one value and one gradient, in float64 and in float32."""
    count, terms = three_modalities()
    for dtype, most, rows in ((torch.float64, 1e-12, 200), (torch.float32, 1e-6, 200), (torch.float32, 3e-6, 32)):
        found = {}
        for name in usable(rows):
            if "equal inputs" in name or ((name == PML) != (rows == 32) and name != FLOOR):
                continue  # it takes seconds at 200 rows, and adds 1e-8 below its logarithm
            vectors = leaves(count, rows, dtype)
            total = WAYS[name](vectors, terms)
            total.backward()
            found[name] = total.detach(), torch.stack([one.grad for one in vectors if one.grad is not None])
        value, gradient = found[FLOOR]
        for name, (other, its) in found.items():
            apart = max(float((other - value).abs() / value), float((its - gradient).norm() / gradient.norm()))
            if not apart <= most:
                raise RuntimeError(f"{name} and {FLOOR} differ by {apart:.1e} in {dtype}, value or gradient")
            if name != FLOOR:
                print(f"{name} = {FLOOR} in {dtype}: value and gradients within {apart:.0e}")
    for name, why in MISSING.items():
        print(f"{name}: {why}")
    return True


def usable(n: int) -> list[str]:
    """The ways that can be run at this batch size."""
    return [name for name in WAYS if name not in MISSING and n <= MOST_ROWS.get(name, n)]
