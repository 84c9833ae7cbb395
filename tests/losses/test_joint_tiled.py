"""GRAM and TRIANGLE in tiles against the plain matrix of scores, in every way that the kernel computes them."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from confu.losses import gram_contrast, joint_sums, triangle_contrast
from confu.losses.infonce import info_nce_of_scores
from confu.losses.scores import gram_volumes, triangle_areas

WAYS = ["kept", "tiled", "guarded", "guarded, kept"]
# Name, function, distance of every anchor to every tuple, number of others.
CASES = [
    pytest.param(gram_contrast, gram_volumes, 1, id="gram of 2"),
    pytest.param(gram_contrast, gram_volumes, 2, id="gram of 3"),
    pytest.param(gram_contrast, gram_volumes, 3, id="gram of 4"),
    pytest.param(gram_contrast, gram_volumes, 4, id="gram of 5"),
    pytest.param(triangle_contrast, triangle_areas, 2, id="triangle"),
    pytest.param(partial(triangle_contrast, formula="released"), partial(triangle_areas, formula="released"), 2,
                 id="triangle, released"),
]  # fmt: skip
OPTIONS = [{}, {"symmetric": False}, {"label_smoothing": 0.3}, {"symmetric": False, "label_smoothing": 0.1}]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """What `keep` must be; tiles are of two rows, so that there are many and the last is smaller."""
    monkeypatch.setattr(joint_sums, "_TILE_ROWS", 2)
    if request.param.startswith("guarded"):
        monkeypatch.setattr(joint_sums, "_REACH", 0.0)
    return request.param.endswith("kept")


def leaves(count, rows=7, dim=6, seed=0, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    draw = [normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1) for _ in range(count)]
    return [(scale * one).to(dtype).requires_grad_() for one in draw]


def tau(value=0.2, dtype=torch.float64):
    return torch.tensor(value, dtype=dtype, requires_grad=True)


def plain(distances, temperature, **options):
    return info_nce_of_scores(-distances / temperature, **options)


def both(value, inputs, expected, theirs):
    return torch.autograd.grad(value, inputs), torch.autograd.grad(expected, theirs)


@pytest.mark.parametrize("scale", [1.0, 1.7])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("contrast", "distances", "others"), CASES)
def test_values_and_every_gradient_are_those_of_the_whole_matrix(contrast, distances, others, options, scale, way):
    ours, theirs, taus = leaves(1 + others, scale=scale), leaves(1 + others, scale=scale), (tau(), tau())
    value = contrast(ours[0], ours[1:], taus[0], keep=way, **options)
    expected = plain(distances(theirs[:1], theirs[1:]), taus[1], **options)
    torch.testing.assert_close(value, expected, atol=1e-11, rtol=1e-12)
    for mine, known in zip(*both(value, [*ours, taus[0]], expected, [*theirs, taus[1]])):
        assert known.abs().max() > 1e-4
        torch.testing.assert_close(mine, known, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("contrast", "distances", "others"), CASES)
def test_gradcheck(contrast, distances, others, way):
    def of(temperature, anchor, *rest):
        return contrast(anchor, rest, temperature, label_smoothing=0.1, keep=way)

    assert torch.autograd.gradcheck(of, (tau(), *leaves(1 + others, rows=3, dim=5)))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(2, 9), dim=st.integers(1, 7), others=st.integers(1, 4), tile=st.integers(1, 9),
    temperature=st.floats(0.001, 3.0), scale=st.floats(0.1, 3.0), keep=st.booleans(), seed=st.integers(0, 999),
)  # fmt: skip
def test_any_shape_temperature_and_length(rows, dim, others, tile, temperature, scale, keep, seed):
    """Small temperatures and long vectors need the guarded sums; more vectors than dims span nothing."""
    anchor, *rest = leaves(1 + others, rows, dim, seed, scale=scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint_sums, "_TILE_ROWS", tile)
        value = gram_contrast(anchor, rest, temperature, keep=keep)
    expected = plain(gram_volumes([anchor], rest), temperature)
    # Where all is flat the rounding of float64, 1e-16, is one of 1e-8 in a root, over the temperature.
    assert abs(value - expected).item() < 1e-9 + 1e-7 / temperature * (1 + others >= dim)
    if others == 2:
        area = triangle_contrast(anchor, rest, temperature, keep=keep)
        expected = plain(triangle_areas([anchor], rest), temperature)
        assert abs(area - expected).item() < 1e-9 + 1e-7 / temperature * (dim < 3)


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "tiled"])
@pytest.mark.parametrize(("contrast", "distances", "others"), CASES)
def test_float32_is_that_of_float64(contrast, distances, others, keep):
    """The value to one in a million; the gradient, of exp of differences over the temperature, to ten."""
    vectors = [one.float().double() for one in leaves(1 + others, rows=300, dim=64)]
    found = {}
    for dtype, how in ((torch.float64, True), (torch.float32, keep)):
        inputs = [one.detach().to(dtype).requires_grad_() for one in vectors]
        value = contrast(inputs[0], inputs[1:], 0.07, keep=how)
        found[dtype] = value.double(), [one.double() for one in torch.autograd.grad(value, inputs)]
    torch.testing.assert_close(found[torch.float32][0], found[torch.float64][0], rtol=1e-6, atol=0)
    for mine, exact in zip(found[torch.float32][1], found[torch.float64][1]):
        assert (mine - exact).norm() / exact.norm() < 1e-5


@pytest.mark.parametrize("others", [2, 3])
def test_embeddings_that_nearly_agree_are_not_lost_in_rounding(others):
    """As training makes them: volumes of 1e-3 and less, whose squares float32 rounds by 1e-7 if formed carelessly."""
    generator = torch.Generator().manual_seed(0)
    base = normalize(torch.randn(200, 64, generator=generator, dtype=torch.float64), dim=1)
    noise = torch.randn(1 + others, 200, 64, generator=generator, dtype=torch.float64)
    vectors = [one.float().double() for one in normalize(base + 0.006 * noise, dim=2)]
    found = {}
    for dtype in (torch.float64, torch.float32):
        inputs = [one.to(dtype).requires_grad_() for one in vectors]
        value = gram_contrast(inputs[0], inputs[1:])
        found[dtype] = value.double(), [one.double() for one in torch.autograd.grad(value, inputs)]
    torch.testing.assert_close(found[torch.float32][0], found[torch.float64][0], rtol=1e-6, atol=0)
    for mine, exact in zip(found[torch.float32][1], found[torch.float64][1]):
        assert (mine - exact).norm() / exact.norm() < 2e-4


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "tiled"])
def test_what_lies_at_the_floor_has_no_gradient_but_that_of_the_temperature(keep):
    x, y, z = leaves(3, rows=5)
    with torch.no_grad():
        y[1], z[1] = x[1], x[3]  # flat
    ours, theirs = tau(), tau()
    value = gram_contrast(x, [y, z], ours, keep=keep)
    expected = plain(gram_volumes([x], [y, z]), theirs)
    for mine, known in zip(*both(value, [x, y, z, ours], expected, [x, y, z, theirs])):
        torch.testing.assert_close(mine, known, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "tiled"])
@pytest.mark.parametrize("contrast", [gram_contrast, triangle_contrast])
def test_zero_equal_and_opposite_embeddings_have_finite_gradients(contrast, keep):
    zero, one = torch.zeros(6, 4), normalize(torch.ones(6, 4), dim=1)
    for vectors in ((zero, zero, zero), (one, one, one), (one, -one, one), (zero, one, -one)):
        for temperature in (1.0, 0.07, 0.001):
            inputs = [vector.clone().requires_grad_() for vector in vectors]
            value = contrast(inputs[0], inputs[1:], temperature, keep=keep)
            value.backward()
            assert value.item() == pytest.approx(math.log(6), abs=1e-4)
            assert all(vector.grad.isfinite().all() for vector in inputs)


@pytest.mark.parametrize("contrast", [gram_contrast, triangle_contrast])
def test_nan_is_not_swallowed(contrast, way):
    x, y, z = (one.detach() for one in leaves(3))
    y[2, 1] = torch.nan
    assert contrast(x, [y, z], keep=way).isnan()


@pytest.mark.parametrize("contrast", [gram_contrast, triangle_contrast])
def test_half_precision_and_autocast_do_not_lower_the_precision(contrast):
    ours = [one.detach().bfloat16() for one in leaves(3, rows=10)]
    wide = [one.float() for one in ours]

    def of(vectors):
        return contrast(vectors[0], vectors[1:], keep=False)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = of(wide)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, of(wide), rtol=1e-6, atol=0)
    assert torch.equal(of(ours), of(wide))


@pytest.mark.parametrize("contrast", [gram_contrast, triangle_contrast])
def test_a_backward_pass_may_be_repeated(contrast, way):
    vectors = leaves(3)
    value = contrast(vectors[0], vectors[1:], keep=way)
    once = torch.autograd.grad(value, vectors, retain_graph=True)
    for first, second in zip(once, torch.autograd.grad(value, vectors)):
        assert torch.equal(first, second)


def test_large_batches_keep_nothing(monkeypatch):
    asked = []
    plain_apply = joint_sums._JointSums.apply
    monkeypatch.setattr(joint_sums._JointSums, "apply", lambda *args: asked.append(args[-1].keep) or plain_apply(*args))
    monkeypatch.setattr("confu.losses.volume_area.SMALL", 0)
    x, y, z = leaves(3, rows=30, dtype=torch.float32)
    needed = 3 * 30 * 30 * 4  # two products and the distances
    for limit in (needed, needed - 1):
        monkeypatch.setattr(joint_sums, "KEPT_BYTES", limit)
        gram_contrast(x, [y, z])
    with torch.no_grad():
        monkeypatch.setattr(joint_sums, "KEPT_BYTES", needed)
        gram_contrast(x, [y, z])
    assert asked == [True, False, False]
