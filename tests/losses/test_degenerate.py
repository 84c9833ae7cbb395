"""Every loss on embeddings that have no direction, the same one, opposite ones, or lie on a line or in a plane."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from confu.losses import gram_contrast, triangle_contrast
from confu.nn import Temperature
from confu.plan import Subset
from confu.types import Embeddings
from losses.parts import EVERY, NAMES, unit_rows

FUSED = ("audio+text", "image+text", "image+audio")
E = torch.eye(4)
ZERO = torch.zeros(4)
ORDINARY = unit_rows(3, 4, 4, dtype=torch.float32)
TRIPLES = {
    "equal": (E[0], E[0], E[0]),
    "opposite": (E[0], -E[0], E[0]),
    "all zero": (ZERO, ZERO, ZERO),
    "one zero": (ZERO, E[0], E[1]),
    "two zero": (ZERO, ZERO, E[0]),
    "collinear ends": (E[0], -E[0], ZERO),
    "one plane": (E[0], E[1], (E[0] + E[1]) / 2**0.5),
    "nearly equal": (E[0], E[0] + 1e-4 * E[1], E[0] - 1e-4 * E[2]),
    "nearly equal, below float32": (E[0], E[0] + 1e-9 * E[1], E[0]),
    "tiny": (1e-20 * E[0], 1e-20 * E[1], 1e-20 * E[2]),
}
DTYPES = [torch.float32, torch.bfloat16]


def check_finite(make, vectors):
    fused = [Subset.parse(name) for name in FUSED]
    leaves = {Subset(name): one.clone().requires_grad_() for name, one in zip(NAMES, vectors)}
    leaves |= {subset: one.clone().requires_grad_() for subset, one in zip(fused, vectors)}
    loss = make(temperature=Temperature(0.05, learned=True))
    total = loss(Embeddings(leaves)).total
    assert total.isfinite(), total
    total.backward()
    for subset, leaf in leaves.items():
        assert leaf.grad is None or leaf.grad.isfinite().all(), subset
    assert loss.temperature.log_inverse.grad.isfinite()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("triple", TRIPLES.values(), ids=TRIPLES)
@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
def test_degenerate_rows_give_finite_gradients(make, triple, dtype):
    same = [one.repeat(4, 1).to(dtype) for one in triple]
    check_finite(make, same)
    # The same among rows that have a direction.
    ordinary = [one.to(dtype) for one in ORDINARY]
    check_finite(make, [torch.cat([one[:2], other]) for one, other in zip(same, ordinary)])


VECTORS = st.sampled_from([ZERO, *E[:3], -E[0], -E[1], (E[0] + E[1]) / 2**0.5, E[0] + 1e-5 * E[1], torch.ones(4) / 2])


@settings(max_examples=60)
@given(
    make=st.sampled_from(list(EVERY.values())), dtype=st.sampled_from(DTYPES),
    rows=st.lists(st.tuples(VECTORS, VECTORS, VECTORS), min_size=2, max_size=5),
)  # fmt: skip
def test_any_mixture_of_degenerate_rows_gives_finite_gradients(make, dtype, rows):
    check_finite(make, [torch.stack(column).to(dtype) for column in zip(*rows)])


@pytest.mark.parametrize("contrast", [gram_contrast, triangle_contrast], ids=["gram", "triangle"])
def test_gradients_stay_bounded_as_embeddings_collapse(contrast):
    """Roots steepen near zero: in float32 rounding must not turn that into large numbers."""
    for spread in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7):
        generator = torch.Generator().manual_seed(0)
        near = [normalize(E[:1] + spread * torch.randn(16, 4, generator=generator), dim=1) for _ in range(3)]
        x, y, z = (one.requires_grad_() for one in near)
        contrast(x, [y, z], 0.07).backward()
        assert max(one.grad.norm(dim=1).max() for one in (x, y, z)) < 5 / 0.07
