"""InfoNCE against its definition, written as loops: plain torch for few rows, and the tiled node in all its ways."""

import itertools
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from confu.losses import ContrastOptions, info_nce, info_nce_of_scores, info_nce_terms, infonce, tiled
from confu.losses.infonce import SAME_GROUP
from confu.types import joint_contents
from losses.parts import SIDES, TERMS, WEIGHTS, drawn, tau
from oracles import info_nce_oracle, pair_kind_oracle

WAYS = ("small", "kept", "recomputed", "guarded")


def oracle(vectors, terms, temperature, present, groups, options, contents=None):
    losses = []
    contents = contents or {name: [-1] * len(groups) for name in "abc"}
    for term in terms:
        kind = partial(pair_kind_oracle, sides=term, present=present, contents=contents, groups=groups, options=options)
        directions = [term, term[::-1]] if options.symmetric else [term]
        each = [
            info_nce_oracle(
                vectors[left], vectors[right], temperature, present[left], present[right], kind, options.label_smoothing
            )
            for left, right in directions
        ]
        losses.append(torch.stack(each).mean())
    return torch.stack(losses)


def choose(way, monkeypatch):
    """One of the ways to compute it; tiles are one or two rows, so that there are many."""
    if way != "small":
        monkeypatch.setattr(infonce, "SMALL", 0)
        monkeypatch.setattr(tiled, "TILE", 20)
        monkeypatch.setattr(tiled, "STACKED", 0)
    if way == "recomputed":
        monkeypatch.setattr(tiled, "KEPT_BYTES", 0)
    if way == "guarded":
        monkeypatch.setattr(tiled, "_exp_fits", lambda *arguments: False)


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    choose(request.param, monkeypatch)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("same_group", SAME_GROUP)
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("gaps", [True, False])
def test_value_and_gradients_are_those_of_the_loops(symmetric, same_group, smoothing, gaps):
    options = ContrastOptions(symmetric, same_group, smoothing)
    slow, present, groups = drawn(7, 4, 1, gaps)
    slow_tau = tau()
    expected = oracle(slow, TERMS, slow_tau, present, groups, options)
    (expected @ torch.tensor(WEIGHTS, dtype=torch.float64)).backward()
    for one in WAYS:
        with pytest.MonkeyPatch.context() as patch:
            choose(one, patch)
            fast, fast_tau = drawn(7, 4, 1, gaps)[0], tau()
            masks = present if gaps else None
            total, losses = info_nce_terms(
                fast, TERMS, fast_tau, weights=WEIGHTS, present=masks, groups=groups, options=options
            )
            total.backward()
        torch.testing.assert_close(losses, expected.detach(), atol=1e-11, rtol=0)
        for side in SIDES:
            torch.testing.assert_close(fast[side].grad, slow[side].grad, atol=1e-11, rtol=0)
        torch.testing.assert_close(fast_tau.grad, slow_tau.grad, atol=1e-10, rtol=0)


EQUAL = [
    *itertools.product((True,), SAME_GROUP, (0.0, 0.3), ("positives", "excluded"), (True,)),
    *itertools.product((False,), ("negatives",), (0.0,), ("positives", "excluded"), (False,)),
]


@pytest.mark.parametrize(("symmetric", "same_group", "smoothing", "equal_inputs", "gaps"), EQUAL)
def test_equal_inputs_are_those_of_the_loops(symmetric, same_group, smoothing, equal_inputs, gaps):
    """By side of each term: a fused side is equal if all its parts are."""
    options = ContrastOptions(symmetric, same_group, smoothing, equal_inputs=equal_inputs)
    slow, present, groups = drawn(9, 4, 2, gaps)
    generator = torch.Generator().manual_seed(5)
    contents = {name: torch.randint(-1, 4, (9,), generator=generator) for name in "abc"}
    by_side = {side: joint_contents([contents[name] for name in side]) for side in SIDES}
    expected = oracle(slow, TERMS, tau(), present, groups, options, contents)
    (expected @ torch.tensor(WEIGHTS, dtype=torch.float64)).backward()
    for one in WAYS:
        with pytest.MonkeyPatch.context() as patch:
            choose(one, patch)
            fast = drawn(9, 4, 2, gaps)[0]
            given = {"weights": WEIGHTS, "present": present if gaps else None, "groups": groups, "contents": by_side}
            total, losses = info_nce_terms(fast, TERMS, tau(), options=options, **given)
            total.backward()
        torch.testing.assert_close(losses, expected.detach(), atol=1e-11, rtol=0)
        for side in SIDES:
            torch.testing.assert_close(fast[side].grad, slow[side].grad, atol=1e-11, rtol=0)


def test_rows_that_are_all_equal_cost_a_known_value(way):
    """Excluded: nothing is left to be told from. Positives: all are right, which a collapsed model says best."""
    same, other = torch.full((6,), 3), torch.arange(6)
    for contents in ((same, same), (same, other), (other, same)):
        for equal_inputs, value in (("excluded", 0), ("positives", math.log(6))):
            a = normalize(torch.ones(6, 4, dtype=torch.float64), dim=1).requires_grad_()
            loss = info_nce(a, a.detach(), 0.1, contents=contents, equal_inputs=equal_inputs)
            loss.backward()
            assert loss.item() == pytest.approx(value, abs=1e-9)
            assert a.grad.abs().max() < 1e-9
    a, b = (drawn(6, 5, 1)[0][name] for name in "ab")
    torch.testing.assert_close(info_nce(a, b, contents=(other, other), equal_inputs="excluded"), info_nce(a, b))
    torch.testing.assert_close(info_nce(a, b, contents=(same, same)), info_nce(a, b))


@pytest.mark.parametrize("symmetric", [True, False])
def test_terms_in_one_stack_are_the_reference(symmetric, monkeypatch):
    """Chunks of two terms, the last of one."""
    monkeypatch.setattr(tiled, "STACKED", 2 * 7 * 7)
    vectors, other = drawn(7, 4, 1)[0], drawn(7, 4, 1)[0]
    taus = tau(), tau()
    options = ContrastOptions(symmetric)
    total, losses = info_nce_terms(vectors, TERMS, taus[0], weights=WEIGHTS, options=options)
    scores = torch.stack([other[left] @ other[right].T / taus[1] for left, right in TERMS])
    expected = info_nce_of_scores(scores, symmetric=symmetric)
    torch.testing.assert_close(losses, expected.detach())
    total.backward()
    (expected @ torch.tensor(WEIGHTS, dtype=torch.float64)).backward()
    for side in SIDES:
        torch.testing.assert_close(vectors[side].grad, other[side].grad)
    torch.testing.assert_close(taus[0].grad, taus[1].grad)


@settings(max_examples=20)
@given(
    rows=st.integers(2, 7),
    dim=st.integers(1, 5),
    temperature=st.floats(0.02, 2.0),
    options=st.builds(ContrastOptions, st.booleans(), st.sampled_from(SAME_GROUP), st.sampled_from([0.0, 0.2])),
    way=st.sampled_from(WAYS),
    seed=st.integers(0, 999),
)
def test_value_is_that_of_the_loops_for_any_size(rows, dim, temperature, options, way, seed):
    vectors, present, groups = drawn(rows, dim, seed, gaps=True)
    expected = oracle(vectors, TERMS[:1], temperature, present, groups, options)
    with pytest.MonkeyPatch.context() as patch:
        choose(way, patch)
        total, _ = info_nce_terms(vectors, TERMS[:1], temperature, present=present, groups=groups, options=options)
    assert total.item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("temperature", [0.07, 0.01, 0.001])
def test_float32_is_that_of_float64_to_one_in_a_million(temperature, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    exact = normalize(torch.randn(3, 200, 64, generator=generator, dtype=torch.float64), dim=2)
    terms = list(itertools.combinations(range(3), 2))
    results = {}
    for dtype, kept in ((torch.float64, 2**20), (torch.float32, 2**20), (torch.float32, 0)):
        monkeypatch.setattr(tiled, "KEPT_BYTES", kept)
        monkeypatch.setattr(tiled, "STACKED", kept)
        vectors = exact.to(dtype).requires_grad_()
        total, losses = info_nce_terms(dict(enumerate(vectors)), terms, temperature)
        (gradient,) = torch.autograd.grad(total, vectors)
        results[dtype, kept] = losses.double(), gradient.double()
    value, gradient = results[torch.float64, 2**20]
    for kept in (2**20, 0):
        losses, approximate = results[torch.float32, kept]
        torch.testing.assert_close(losses, value, rtol=1e-6, atol=0)
        # One part in a million of the largest; what float32 inputs are rounded by is multiplied by 1 / temperature.
        assert (approximate - gradient).norm() / gradient.norm() < 1e-6 * max(1, 0.3 / temperature)


def test_bfloat16_and_autocast_are_computed_in_float32(way):
    a, b = (drawn(20, 16, 0, dtype=torch.bfloat16)[0][name].detach() for name in "ab")
    low, high = info_nce(a, b), info_nce(a.float(), b.float())
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, high, rtol=1e-6, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = info_nce(a.float(), b.float())
    torch.testing.assert_close(cast, high, rtol=1e-6, atol=0)
    leaf = a.clone().requires_grad_()
    info_nce(leaf, b).backward()
    assert leaf.grad.dtype == torch.bfloat16


def test_collapsed_and_zero_embeddings_have_finite_gradients(way):
    zero, one = torch.zeros(6, 4), normalize(torch.ones(6, 4), dim=1)
    for a, b in ((zero, zero), (one, one), (one, -one), (zero, one)):
        for temperature in (1.0, 0.07, 0.005):
            left = a.clone().requires_grad_()
            loss = info_nce(left, b, temperature)
            loss.backward()
            assert loss.item() == pytest.approx(math.log(6), abs=1e-4)
            assert left.grad.isfinite().all()


def test_a_backward_pass_may_be_repeated_and_scaled(way):
    vectors, _, _ = drawn(6, 4, 1)
    total, _ = info_nce_terms(vectors, TERMS)
    once = torch.autograd.grad(total, list(vectors.values()), retain_graph=True)
    for first, second in zip(once, torch.autograd.grad(3 * total, list(vectors.values()))):
        torch.testing.assert_close(3 * first, second)


def test_only_sides_that_need_a_gradient_get_one(way):
    a, b = (drawn(6, 4, 1)[0][name] for name in "ab")
    info_nce(a, b.detach(), 0.2).backward()
    expected = a.grad.clone()
    a.grad = None
    info_nce(a, b, 0.2).backward()
    torch.testing.assert_close(a.grad, expected)
    with torch.no_grad():
        assert not info_nce(a, b).requires_grad


def test_nan_is_named_and_a_missing_row_may_hold_it(way):
    vectors, _, _ = drawn(6, 4, 1)
    present = {"b": torch.tensor([True, True, True, True, False, True])}
    clean = info_nce_terms(vectors, TERMS, present=present)[0]
    with torch.no_grad():
        vectors["b"][4] = torch.nan
    total = info_nce_terms(vectors, TERMS, present=present)[0]
    assert torch.equal(total, clean)
    total.backward()
    assert all(one.grad.isfinite().all() for one in vectors.values())
    with pytest.raises(ValueError, match=r"the embeddings of b must be finite.*the first in row 4"):
        info_nce_terms(vectors, TERMS)


def test_large_batches_keep_no_scores(monkeypatch):
    kept = []
    add_softmax = tiled._Block.add_softmax
    monkeypatch.setattr(
        tiled._Block,
        "add_softmax",
        lambda block, rows, columns, exps, into: (
            kept.append(exps is not None),
            add_softmax(block, rows, columns, exps, into),
        )[1],
    )
    monkeypatch.setattr(tiled, "STACKED", 0)
    z = normalize(torch.randn(300, 4), dim=1).requires_grad_()
    for limit in (300 * 300 * 4, 300 * 300 * 4 - 1):
        monkeypatch.setattr(tiled, "KEPT_BYTES", limit)
        info_nce(z, z)
    with torch.no_grad():
        info_nce(z, z)
    assert kept == [True, False]


@pytest.mark.parametrize("temperature", [0.0131, 0.02, 0.5])
def test_where_exp_does_not_fit_a_maximum_is_subtracted(temperature, monkeypatch):
    """Long vectors, opposite ones, and temperatures about the limit: the value is that of logsumexp."""
    generator = torch.Generator().manual_seed(0)
    a, b = normalize(torch.randn(2, 20, 8, generator=generator), dim=2)
    for stacked in (2**17, 0):
        monkeypatch.setattr(tiled, "STACKED", stacked)
        for left, right in ((a, b), (9 * a, b), (a, -a), (30 * a, 30 * a), (a, a)):
            loss = info_nce(left.clone().requires_grad_(), right, temperature)
            scores = left.double() @ right.double().T / temperature
            expected = ((scores.logsumexp(1) + scores.logsumexp(0)) / 2 - scores.diagonal()).mean()
            rounding = 1e-6 * max(100.0, float(scores.abs().max()))
            assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=rounding)
    assert info_nce(a, a.roll(1, dims=0), 1e-4).isfinite()


def test_a_row_with_one_side_alone_is_a_negative(way):
    a, b = (drawn(6, 5, 1)[0][name] for name in "ab")
    asks = torch.tensor([True, True, True, False, True, True])
    loss = info_nce(a, b, 0.2, present=(asks, None), symmetric=False)
    assert loss > info_nce(a[asks], b[asks], 0.2, symmetric=False)  # one more target to be told from
    loss.backward()
    assert b.grad[3].any() and not a.grad[3].any()


def test_rows_of_no_group_are_as_without_groups(way):
    a, b = (drawn(6, 5, 1)[0][name] for name in "ab")
    expected = info_nce(a, b, 0.2)
    for same_group, groups in itertools.product(SAME_GROUP, (torch.full((6,), -1), torch.arange(6))):
        loss = info_nce(a, b, 0.2, groups=groups, same_group=same_group)
        torch.testing.assert_close(loss, expected, atol=1e-12, rtol=0)
    one = torch.zeros(6, dtype=torch.long)
    assert info_nce(a, b, groups=one, same_group="excluded").item() == pytest.approx(0, abs=1e-9)


def test_collapsed_embeddings_cost_log_n_and_perfect_none():
    for rows, temperature in itertools.product((2, 10, 256), (0.01, 0.07, 1.0)):
        same = normalize(torch.ones(rows, 8), dim=1)
        assert info_nce(same, same, temperature).item() == pytest.approx(math.log(rows), abs=1e-5)
    z = torch.eye(16)
    assert 0 <= info_nce(z, z, 0.01).item() < 1e-6
    assert info_nce(z, z.roll(1, dims=0), 0.01).item() == pytest.approx(100, abs=1e-3)


def test_rows_may_be_reordered_and_the_space_rotated():
    a, b = (drawn(9, 5, 1)[0][name].detach() for name in "ab")
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64))
    for symmetric in (True, False):
        loss = info_nce(a, b, 0.2, symmetric=symmetric)
        torch.testing.assert_close(info_nce(a[order], b[order], 0.2, symmetric=symmetric), loss)
        torch.testing.assert_close(info_nce(a @ rotation, b @ rotation, 0.2, symmetric=symmetric), loss)
    assert abs(info_nce(a, b[order]) - info_nce(a, b)) > 1e-3


def test_sides_may_be_swapped_only_if_symmetric():
    a, b = (drawn(6, 5, 1)[0][name].detach() for name in "ab")
    torch.testing.assert_close(info_nce(b, a, 0.2), info_nce(a, b, 0.2))
    forward, backward = info_nce(a, b, 0.2, symmetric=False), info_nce(b, a, 0.2, symmetric=False)
    assert abs(forward - backward) > 1e-4
    torch.testing.assert_close((forward + backward) / 2, info_nce(a, b, 0.2))


def test_bad_arguments_are_refused(as_users_run):
    z = normalize(torch.randn(4, 3), dim=1)
    with pytest.raises(ValueError, match=r"the same dim; got queries \(4, 3\) and targets \(4, 2\)"):
        info_nce(z, z[:, :2])
    with pytest.raises(ValueError, match=r"the same number of rows.*\(4, 3\) and targets \(3, 3\)"):
        info_nce(z, z[:3])
    with pytest.raises(ValueError, match=r"must be 2-D"):
        info_nce(z[0], z[0])
    with pytest.raises(ValueError, match="InfoNCE, which needs a negative for each row, needs at least 2 rows; got 1"):
        info_nce(z[:1], z[:1])
    with pytest.raises(ValueError, match="needs at least 2 rows; got 1"):
        info_nce(z, z, present=(torch.tensor([False, True, False, False]), None))
    with pytest.raises(ValueError, match="same_group 'positve' is not known; did you mean 'positives'"):
        info_nce(z, z, same_group="positve")
    with pytest.raises(ValueError, match="negatives 'rign' is not known; did you mean 'ring'"):
        ContrastOptions(negatives="rign")
    for temperature in (0.0, -0.07, float("nan")):
        with pytest.raises(ValueError, match="temperature must be positive, got"):
            info_nce(z, z, temperature)
