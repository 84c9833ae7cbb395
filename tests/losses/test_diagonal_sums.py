"""Symile's sums, whose gradient is made with the value, against the whole matrix."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from confu.losses import diagonal_sums, symile, symile_contrast
from confu.losses.diagonal_sums import mean_log_sum_with_own


@pytest.fixture(params=["tiled", "guarded"], autouse=True)
def _way(request, monkeypatch):
    """Tiles are of two rows, so that there are many and the last is smaller."""
    monkeypatch.setattr(symile, "SMALL", 0)
    monkeypatch.setattr(diagonal_sums, "_TILE", 14)
    if request.param == "guarded":
        monkeypatch.setattr(diagonal_sums, "_LARGEST", 0.0)


def leaves(count, rows=7, dim=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    draw = [normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1) for _ in range(count)]
    return [one.to(dtype).requires_grad_() for one in draw]


def tau(value=0.2):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def shuffled(seed=3):
    return torch.Generator().manual_seed(seed)


def whole(anchor, others, temperature):
    """All scores at once."""
    generator, product, own = shuffled(), torch.ones_like(others[0]), torch.ones_like(others[0])
    for other in others:
        product, own = product * other[torch.randperm(len(other), generator=generator)], own * other
    scores = anchor @ product.T / temperature
    diagonal = (anchor * own).sum(dim=1) / temperature
    scores = torch.where(torch.eye(len(anchor), dtype=torch.bool), diagonal[:, None], scores)
    return cross_entropy(scores, torch.arange(len(anchor)))


@pytest.mark.parametrize("temperature", [0.2, 0.003])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_value_and_every_gradient_are_those_of_the_whole_matrix(count, temperature):
    ours, theirs = [*leaves(count), tau(temperature)], [*leaves(count), tau(temperature)]
    value = symile_contrast(ours[0], ours[1:-1], ours[-1], generator=shuffled())
    expected = whole(theirs[0], theirs[1:-1], theirs[-1])
    torch.testing.assert_close(value, expected, atol=1e-11, rtol=1e-12)
    value.backward()
    expected.backward()
    for mine, known in zip(ours, theirs):
        torch.testing.assert_close(mine.grad, known.grad, atol=1e-11, rtol=1e-10)


def test_gradcheck():
    def of(temperature, anchor, *rest):
        return symile_contrast(anchor, rest, temperature, generator=shuffled())

    assert torch.autograd.gradcheck(of, (tau(), *leaves(3, rows=4, dim=3)))


def test_the_sum_is_logsumexp_with_and_without_a_gradient():
    left, right = leaves(2, rows=5)
    own = torch.linspace(-2, 3, 5, dtype=torch.float64)
    scores = torch.where(torch.eye(5, dtype=torch.bool), own, left @ right.T)
    expected = scores.logsumexp(dim=1).mean()
    torch.testing.assert_close(mean_log_sum_with_own(left, right, own), expected)
    with torch.no_grad():
        value = mean_log_sum_with_own(left, right, own)
    torch.testing.assert_close(value, expected.detach())
    assert not value.requires_grad


def test_float32_is_that_of_float64_to_one_in_a_million():
    vectors = [one.float().double() for one in leaves(3, rows=200, dim=64)]
    found = {}
    for dtype in (torch.float64, torch.float32):
        inputs = [one.detach().to(dtype).requires_grad_() for one in vectors]
        value = symile_contrast(inputs[0], inputs[1:], 0.05, generator=shuffled())
        found[dtype] = value.double(), [one.double() for one in torch.autograd.grad(value, inputs)]
    torch.testing.assert_close(found[torch.float32][0], found[torch.float64][0], rtol=1e-6, atol=0)
    for mine, exact in zip(found[torch.float32][1], found[torch.float64][1]):
        assert (mine - exact).norm() / exact.norm() < 1e-6


def test_a_backward_pass_may_be_repeated_and_scaled():
    vectors = leaves(3)
    value = symile_contrast(vectors[0], vectors[1:], generator=shuffled())
    once = torch.autograd.grad(value, vectors, retain_graph=True)
    for first, second in zip(once, torch.autograd.grad(3 * value, vectors)):
        torch.testing.assert_close(3 * first, second)


def test_zero_and_equal_embeddings_have_finite_gradients_and_nan_is_not_swallowed():
    zero, one = torch.zeros(6, 4), normalize(torch.ones(6, 4), dim=1)
    for vectors in ((zero, zero, zero), (one, one, one), (one, -one, one), (zero, one, -one)):
        for temperature in (1.0, 0.07, 0.001):
            inputs = [vector.clone().requires_grad_() for vector in vectors]
            value = symile_contrast(inputs[0], inputs[1:], temperature)
            value.backward()
            assert value.item() == pytest.approx(math.log(6), abs=1e-4)
            assert all(vector.grad.isfinite().all() for vector in inputs)
    one[2, 1] = torch.nan
    assert symile_contrast(one, [zero, one]).isnan()


def test_autocast_does_not_lower_the_precision():
    x, y, z = (one.detach() for one in leaves(3, rows=10, dtype=torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = symile_contrast(x, [y, z], generator=shuffled())
    assert torch.equal(cast, symile_contrast(x, [y, z], generator=shuffled()))
