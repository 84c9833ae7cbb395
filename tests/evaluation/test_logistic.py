"""The descent behind the probe: its estimate of the Hessian, float32 first, and embeddings of few dimensions."""

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from confu.evaluation import logistic
from confu.evaluation.curvature import Curvature, estimate_curvature, likely_rows
from confu.evaluation.logistic import minimise_log_loss


def collapsed(n=2000, dim=64, axes=7, noise=1e-4, classes=10, seed=0):
    """Unit vectors about few directions: what a trained encoder gives."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    middles = torch.randn(classes, axes, generator=generator)
    along = middles[labels] + 0.6 * torch.randn(n, axes, generator=generator)
    x = along @ torch.randn(axes, dim, generator=generator) + noise * torch.randn(n, dim, generator=generator)
    return normalize(x, dim=1), labels


def penalties(n, *cs):
    return torch.tensor([1 / (c * n) for c in cs], dtype=torch.float64)


def test_the_head_is_the_hessian_and_the_rest_its_diagonal():
    generator = torch.Generator().manual_seed(0)
    z = torch.cat([torch.randn(40, 4, generator=generator), torch.ones(40, 1)], dim=1)
    at, penalty = torch.randn(3, 5, generator=generator).double(), torch.tensor(0.3).double()
    weights = torch.rand(40, generator=generator) / 20

    def loss(flat):
        w = flat.view(3, 5)
        return (weights * (w @ z.double().T).logsumexp(dim=0)).sum() + penalty * w[:, :-1].square().sum() / 2

    hessian = torch.autograd.functional.hessian(loss, at.flatten())
    inverse, factor, scale = estimate_curvature(at, penalty, z, weights)
    assert torch.allclose(1 / inverse, hessian.diagonal().view(3, 5), rtol=1e-4)
    estimate = Curvature(inverse[None], factor[None], scale[None])
    # Vectors that add up to zero over the classes, as gradients do, are taken back to where they came from.
    step = torch.randn(2, 3, 5, generator=generator).double()
    step[..., -1] -= step[..., -1].mean(dim=1, keepdim=True)
    step[..., :-1] -= step[..., :-1].mean(dim=1, keepdim=True)
    there = (step.flatten(1) @ hessian).view(1, 2, 3, 5)
    torch.testing.assert_close(estimate.solve(there)[0], step, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("head", [0, 9, 15])
def test_a_smaller_head_leaves_the_diagonal(monkeypatch, head):
    monkeypatch.setattr("confu.evaluation.curvature._HEAD", head)
    x, y = collapsed(300, 8, 8, classes=3)
    found = minimise_log_loss(x, y, penalties(300, 1.0, 50.0), 3, 500, 1e-6)
    assert found.converged.all()
    monkeypatch.undo()
    usual = minimise_log_loss(x, y, penalties(300, 1.0, 50.0), 3, 500, 1e-6)
    torch.testing.assert_close(found.weight, usual.weight, rtol=1e-4, atol=1e-4)


def test_likely_rows_stand_for_the_mean_over_all():
    spread = torch.rand(5000, generator=torch.Generator().manual_seed(0)) ** 6
    of_rows = spread * torch.linspace(1, 2, 5000)
    rows, weights = likely_rows(spread, 500)
    assert float((of_rows[rows] * weights).sum()) == pytest.approx(float(of_rows.mean()), rel=1e-2)
    assert float(spread[rows].mean()) > 3 * float(spread.mean())
    assert torch.equal(likely_rows(spread, 500)[0], rows)
    nothing = likely_rows(torch.zeros(50), 10)
    assert torch.isfinite(nothing[1]).all()


@pytest.mark.parametrize("noise", [1e-2, 1e-6])
@pytest.mark.parametrize("axes", [2, 7])
def test_few_effective_dimensions_are_fitted_at_every_strength(axes, noise):
    x, y = collapsed(axes=axes, noise=noise)
    found = minimise_log_loss(x, y, penalties(len(x), 1e-3, 1.0, 100.0, 1e3), 10, 150, 1e-3)
    assert found.converged.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_float32_first_ends_where_float64_does(monkeypatch, dtype):
    x, y = collapsed(700, 20, classes=4)
    x, lambdas = x.to(dtype), penalties(700, 0.1, 10.0, 1e4)
    seen = []
    plain = logistic._Objective.__call__
    monkeypatch.setattr(
        logistic._Objective, "__call__", lambda own, *args: (seen.append(own.dtype), plain(own, *args))[1]
    )
    slow = minimise_log_loss(x, y, lambdas, 4, 500, 1e-7)
    assert set(seen) == {torch.float64}
    monkeypatch.setattr(logistic, "_FAST", 0)
    monkeypatch.setattr(logistic, "_SAMPLE", 100)
    seen.clear()
    fast = minimise_log_loss(x, y, lambdas, 4, 500, 1e-7)
    assert seen.count(torch.float32) > seen.count(torch.float64) > 0
    assert slow.converged.all()
    assert fast.converged.all()
    for one, other in zip(fast.weight, slow.weight):
        assert float((one - other).norm()) < 1e-6 * float(other.norm())
    torch.testing.assert_close(fast.value, slow.value, rtol=1e-10, atol=0)


def test_residuals_keep_their_digits_where_a_class_is_almost_certain():
    scores = torch.tensor([[30.0, 2.0, 0.0], [-100.0, 60.0, 3.0], [1.0, 1.0, 1.0], [0.0, 14.0, -3.0]]).T[None]
    own = torch.tensor([0, 0, 2, 1])
    exact = scores.double().clone().requires_grad_()
    loss = cross_entropy(exact[0].T, own, reduction="none")
    loss.sum().backward()
    found, residual = logistic._residuals(scores.clone(), own)
    torch.testing.assert_close(found[0].double(), loss.detach(), rtol=1e-6, atol=1e-15)
    torch.testing.assert_close(residual[0].double().T, exact.grad[0].T, rtol=1e-5, atol=1e-15)


def test_rounding_that_ends_float32_is_mended_in_float64(monkeypatch):
    monkeypatch.setattr(logistic, "_FAST", 0)
    monkeypatch.setattr(logistic, "_ROUNDING_FAST", 0.0)  # it never stops by itself
    x, y = collapsed(300, 12, classes=3)
    found = minimise_log_loss(x, y, penalties(300, 1.0), 3, 500, 1e-9)
    assert found.converged.all()
