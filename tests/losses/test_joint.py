"""GRAM, TRIANGLE and Symile in tiles against the plain matrix of scores."""

import math
from functools import partial, reduce

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from confu.losses import (
    gram_contrast,
    gram_volumes,
    info_nce_of_scores,
    joint,
    squares,
    symile_contrast,
    triangle_areas,
    triangle_contrast,
)
from losses.parts import tau, unit_rows

WAYS = ("one tile", "kept", "recomputed")


def symile_shuffled(anchor, others, temperature, **options):
    return symile_contrast(anchor, others, temperature, generator=torch.Generator().manual_seed(3), **options)


def symile_scores(anchor, others, temperature):
    """All scores at once, of the same shuffles."""
    generator = torch.Generator().manual_seed(3)
    shuffled = [other[torch.randperm(len(other), generator=generator)] for other in others]
    own = (anchor * reduce(torch.mul, others)).sum(dim=1)
    scores = anchor @ reduce(torch.mul, shuffled).T
    return torch.where(torch.eye(len(anchor), dtype=torch.bool), own[:, None], scores) / temperature


def distances(function, anchor, others, temperature):
    return -function([anchor], others) / temperature


released = {"formula": "released"}
# Name, contrast, all its scores, number of others.
CASES = [
    *(pytest.param(gram_contrast, partial(distances, gram_volumes), n, id=f"gram of {n + 1}") for n in (1, 2, 3, 4)),
    pytest.param(triangle_contrast, partial(distances, triangle_areas), 2, id="triangle"),
    pytest.param(
        partial(triangle_contrast, **released),
        partial(distances, partial(triangle_areas, **released)),
        2,
        id="triangle, released",
    ),
]
SYMILE = [pytest.param(symile_shuffled, symile_scores, count, id=f"symile of {count + 1}") for count in (1, 2, 3)]
OPTIONS = [{}, {"symmetric": False}, {"label_smoothing": 0.3}, {"symmetric": False, "label_smoothing": 0.1}]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Tiles are of two rows, so that there are many and the last is smaller."""
    monkeypatch.setattr(squares, "SMALL", 0)
    if request.param != "one tile":
        monkeypatch.setattr(joint, "TILE", 14)
    if request.param == "recomputed":
        monkeypatch.setattr(joint, "KEPT", 0)


def leaves(count, rows=7, dim=6, seed=0, scale=1.0):
    return [(scale * one).requires_grad_() for one in unit_rows(count, rows, dim, seed)]


@pytest.mark.parametrize("temperature", [0.2, 0.003])
@pytest.mark.parametrize(("contrast", "scores", "others"), CASES + SYMILE)
def test_value_and_gradients_are_those_of_the_matrix(contrast, scores, others, temperature, way):
    symile = scores is symile_scores
    for options in [{}] if symile else OPTIONS:
        fast, slow = [*leaves(1 + others), tau(temperature)], [*leaves(1 + others), tau(temperature)]
        value = contrast(fast[0], fast[1:-1], fast[-1], **options)
        matrix = scores(slow[0], slow[1:-1], slow[-1])
        expected = info_nce_of_scores(matrix, **({"symmetric": False} if symile else options))
        torch.testing.assert_close(value, expected, atol=1e-11, rtol=1e-11)
        for one, other in zip(torch.autograd.grad(value, fast), torch.autograd.grad(expected, slow)):
            torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-9)


@settings(max_examples=20)
@given(
    rows=st.integers(2, 9),
    dim=st.integers(1, 7),
    others=st.integers(1, 4),
    tile=st.integers(1, 40),
    temperature=st.floats(0.001, 3.0),
    scale=st.floats(0.1, 3.0),
    kept=st.booleans(),
    seed=st.integers(0, 999),
)
def test_any_shape_temperature_and_length(rows, dim, others, tile, temperature, scale, kept, seed):
    """Small temperatures and long vectors do not overflow; more vectors than dims span nothing."""
    anchor, *rest = leaves(1 + others, rows, dim, seed, scale=scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(squares, "SMALL", 0)
        patch.setattr(joint, "TILE", tile)
        patch.setattr(joint, "KEPT", 10**6 * kept)
        value = gram_contrast(anchor, rest, temperature)
    expected = info_nce_of_scores(-gram_volumes([anchor], rest) / temperature)
    # Where all is flat the rounding of float64, 1e-16, is one of 1e-8 in a root, over the temperature.
    assert abs(value - expected).item() < 1e-9 + 1e-6 / temperature * (1 + others >= dim)


@pytest.mark.parametrize(("contrast", "scores", "others"), CASES + SYMILE)
def test_float32_is_that_of_float64(contrast, scores, others, monkeypatch):
    """The value to one in a million; the gradient, of exp of differences over the temperature, to ten."""
    monkeypatch.setattr(squares, "SMALL", 0)
    monkeypatch.setattr(joint, "TILE", 5000)
    vectors = [one.float().double() for one in leaves(1 + others, rows=150, dim=64)]
    results = {}
    for dtype in (torch.float64, torch.float32):
        inputs = [one.detach().to(dtype).requires_grad_() for one in vectors]
        value = contrast(inputs[0], inputs[1:], 0.07)
        results[dtype] = value.double(), [one.double() for one in torch.autograd.grad(value, inputs)]
    torch.testing.assert_close(results[torch.float32][0], results[torch.float64][0], rtol=2e-6, atol=0)
    for one, exact in zip(results[torch.float32][1], results[torch.float64][1]):
        assert (one - exact).norm() / exact.norm() < 2e-5


@pytest.mark.parametrize("others", [2, 3])
def test_embeddings_that_nearly_agree_are_not_lost(others, monkeypatch):
    """As training makes them: volumes of 1e-3 and less, whose squares float32 rounds by 1e-7 if formed carelessly."""
    monkeypatch.setattr(squares, "SMALL", 0)
    generator = torch.Generator().manual_seed(0)
    base = normalize(torch.randn(200, 64, generator=generator, dtype=torch.float64), dim=1)
    noise = torch.randn(1 + others, 200, 64, generator=generator, dtype=torch.float64)
    vectors = [one.float().double() for one in normalize(base + 0.006 * noise, dim=2)]
    results = {}
    for dtype in (torch.float64, torch.float32):
        inputs = [one.to(dtype).requires_grad_() for one in vectors]
        value = gram_contrast(inputs[0], inputs[1:])
        results[dtype] = value.double(), [one.double() for one in torch.autograd.grad(value, inputs)]
    torch.testing.assert_close(results[torch.float32][0], results[torch.float64][0], rtol=3e-6, atol=0)
    for one, exact in zip(results[torch.float32][1], results[torch.float64][1]):
        assert (one - exact).norm() / exact.norm() < 1e-3


def test_the_floor_has_no_gradient_but_for_the_temperature(way):
    inputs, others = ([*leaves(3, rows=5), tau()] for _ in range(2))
    for x, y, z, _ in (inputs, others):
        with torch.no_grad():
            y[1], z[1] = x[1], x[3]  # flat
    value = gram_contrast(inputs[0], inputs[1:3], inputs[3])
    expected = info_nce_of_scores(-gram_volumes(others[:1], others[1:3]) / others[3])
    for one, other in zip(torch.autograd.grad(value, inputs), torch.autograd.grad(expected, others)):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-7)


CONTRASTS = [pytest.param(one, id=one.__name__) for one in (gram_contrast, triangle_contrast, symile_shuffled)]


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_degenerate_embeddings_have_finite_gradients(contrast, way):
    zero, one = torch.zeros(6, 4), normalize(torch.ones(6, 4), dim=1)
    for vectors in ((zero, zero, zero), (one, one, one), (one, -one, one), (zero, one, -one)):
        for temperature in (1.0, 0.07, 0.001):
            inputs = [vector.clone().requires_grad_() for vector in vectors]
            value = contrast(inputs[0], inputs[1:], temperature)
            value.backward()
            assert value.item() == pytest.approx(math.log(6), abs=1e-4)
            assert all(vector.grad.isfinite().all() for vector in inputs)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_nan_is_not_swallowed_and_backward_may_be_repeated(contrast, way):
    vectors = leaves(3)
    value = contrast(vectors[0], vectors[1:], 0.07)
    once = torch.autograd.grad(value, vectors, retain_graph=True)
    for first, second in zip(once, torch.autograd.grad(3 * value, vectors)):
        torch.testing.assert_close(3 * first, second)
    x, y, z = (one.detach() for one in vectors)
    with torch.no_grad():
        assert contrast(x, [y, z], 0.07).item() == pytest.approx(value.item())
    y[2, 1] = torch.nan
    assert contrast(x, [y, z], 0.07).isnan()


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_half_precision_and_autocast_are_computed_in_float32(contrast, way):
    half = [one.detach().bfloat16() for one in leaves(3, rows=10)]
    wide = [one.float() for one in half]
    expected = contrast(wide[0], wide[1:], 0.07)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = contrast(wide[0], wide[1:], 0.07)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, expected, rtol=1e-6, atol=0)
    if contrast is not symile_shuffled:
        torch.testing.assert_close(contrast(half[0], half[1:], 0.07), expected, rtol=1e-6, atol=0)
