"""Random unit vectors, a temperature, and every loss, for the tests of losses."""

from functools import partial

import torch
from torch.nn.functional import normalize

from confu.losses import CLIPLoss, ConFuLoss, GRAMLoss, SymileLoss, TRIANGLELoss
from confu.plan import confu_plan

NAMES = ("image", "audio", "text")
JOINT = {
    "symile": partial(SymileLoss, NAMES),
    "symile n_squared": partial(SymileLoss, NAMES, negatives="n_squared"),
    "gram": partial(GRAMLoss, NAMES),
    "gram released": partial(GRAMLoss, NAMES, anchors=["image"], label_smoothing=0.1),
    "triangle": partial(TRIANGLELoss, NAMES),
    "triangle released": partial(TRIANGLELoss, NAMES, anchors=["image"], formula="released", label_smoothing=0.1),
}
EVERY = {"clip": partial(CLIPLoss, NAMES), "confu": partial(ConFuLoss, confu_plan(NAMES)), **JOINT}
# Terms of single and fused sides, for InfoNCE.
SIDES = ("a", "b", "c", "ab", "ac")
TERMS = [("a", "b"), ("a", "c"), ("b", "c"), ("ab", "c"), ("ac", "b")]
WEIGHTS = [1.0, 2.0, 3.0, 4.0, 5.0]


def unit_rows(count, rows=4, dim=5, seed=0, dtype=torch.float64):
    """`count` tensors (rows, dim)."""
    generator = torch.Generator().manual_seed(seed)
    return [normalize(torch.randn(rows, dim, generator=generator, dtype=dtype), dim=1) for _ in range(count)]


def leaves(*size, **options):
    return [one.requires_grad_() for one in unit_rows(*size, **options)]


def tau(value=0.2):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def numbers(vectors):
    """Rows of scalars that keep their gradient."""
    return [[list(row) for row in one] for one in vectors]


def drawn(rows, dim, seed, gaps=False, dtype=torch.float64):
    """Vectors and masks of all sides, and groups of rows; the first two rows are complete."""
    generator = torch.Generator().manual_seed(seed)
    vectors = {
        side: normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1)
        .to(dtype)
        .requires_grad_()
        for side in SIDES
    }
    present = {side: torch.rand(rows, generator=generator) < (0.7 if gaps else 2) for side in SIDES}
    for mask in present.values():
        mask[:2] = True
    return vectors, present, torch.randint(-1, 3, (rows,), generator=generator)
