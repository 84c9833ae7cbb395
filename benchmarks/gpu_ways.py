"""The ways to compute the loss that `gpu_loss.py` compares."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from confu.losses.infonce import ContrastOptions, info_nce_terms
from confu.plan import confu_plan

TAU, DIM = 0.07, 256
RELEASED, INF_CL = "released code's way", "Inf-CL's arithmetic"
Terms = list[tuple[int, int]]
Way = Callable[[list[Tensor], Terms], Tensor]


def three_modalities() -> tuple[int, Terms]:
    """The six terms of Eq. 7."""
    plan = confu_plan(("a", "b", "c"))
    subsets = list(plan.subsets)
    return len(subsets), [(subsets.index(term.left), subsets.index(term.right)) for term in plan.terms]


def ours(vectors: list[Tensor], terms: Terms) -> Tensor:
    return info_nce_terms(dict(enumerate(vectors)), terms, TAU)[0]


def inf_cl(vectors: list[Tensor], terms: Terms) -> Tensor:
    """Each direction of each term by itself."""
    sides = dict(enumerate(vectors))
    one_way = ContrastOptions(symmetric=False)
    pairs = [pair for a, b in terms for pair in ((a, b), (b, a))]
    return torch.stack([info_nce_terms(sides, [pair], TAU, options=one_way)[0] for pair in pairs]).sum() / 2


def released(vectors: list[Tensor], terms: Terms) -> Tensor:
    """A score matrix a term, and two cross-entropies of it, as autocast would compute them."""
    losses = []
    for left, right in terms:
        scores = (vectors[left] @ vectors[right].T).float() / TAU
        targets = torch.arange(len(scores), device=scores.device)
        losses.append((cross_entropy(scores, targets) + cross_entropy(scores.T, targets)) / 2)
    return torch.stack(losses).sum()


WAYS: dict[str, Way] = {"confu": ours, INF_CL: inf_cl, RELEASED: released}


def leaves(count: int, n: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    drawn = [normalize(torch.randn(n, DIM, generator=generator), dim=1) for _ in range(count)]
    return [one.to(device, dtype).requires_grad_() for one in drawn]


def exactly(vectors: list[Tensor], terms: Terms) -> Tensor:
    """By the definition; the gradients are left in the vectors."""
    losses = []
    for left, right in terms:
        scores = vectors[left] @ vectors[right].T / TAU
        losses.append(((scores.logsumexp(1) + scores.logsumexp(0)) / 2 - scores.diagonal()).mean())
    total = torch.stack(losses).sum()
    total.backward()
    return total.detach()
