"""All terms of a plan at once against the definition, in every way that the kernel has to compute them."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from confu import products
from confu.losses import log_sums as kernel
from confu.losses import terms
from confu.losses.log_sums import log_sums
from confu.losses.terms import SAME_GROUP, info_nce_terms

SIDES = ("a", "b", "c", "ab", "ac")
TERMS = [("a", "b"), ("a", "c"), ("b", "c"), ("ab", "c"), ("ac", "b")]


def slow(queries, targets, temperature, asks, answers, groups, same_group, smoothing):
    """One direction by its definition, one query at a time."""
    losses = []
    for m in torch.arange(len(queries))[asks].tolist():
        same = [n for n in range(len(targets)) if n != m and groups[m] == groups[n] >= 0 and answers[n]]
        positives = ([m] if answers[m] else []) + (same if same_group == "positives" else [])
        candidates = [n for n in range(len(targets)) if answers[n] and not (same_group == "excluded" and n in same)]
        if positives:
            scores = {n: queries[m] @ targets[n] / temperature for n in candidates}
            bottom = torch.stack(list(scores.values())).logsumexp(0)
            own = torch.stack([scores[n] for n in positives]).mean()
            every = torch.stack(list(scores.values())).mean()
            losses.append(bottom - (1 - smoothing) * own - smoothing * every)
    return torch.stack(losses).mean()


def oracle(vectors, terms, temperature, symmetric, present, groups, same_group, smoothing):
    found = []
    for left, right in terms:
        sides = (vectors[left], vectors[right]), (present[left], present[right])
        loss = slow(*sides[0], temperature, *sides[1], groups, same_group, smoothing)
        if symmetric:
            back = slow(*sides[0][::-1], temperature, *sides[1][::-1], groups, same_group, smoothing)
            loss = (loss + back) / 2
        found.append(loss)
    return found


def drawn(rows, dim, seed, gaps=False, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    vectors = {
        side: (scale * normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1))
        .requires_grad_()
        for side in SIDES
    }  # fmt: skip
    present = {side: torch.rand(rows, generator=generator) < (0.7 if gaps else 2) for side in SIDES}
    for mask in present.values():
        mask[:2] = True
    return vectors, present, torch.randint(-1, 3, (rows,), generator=generator)


@pytest.fixture(params=["small", "large", "kept", "tiled", "guarded"])
def path(request, monkeypatch):
    """The ways to compute it; tiles are one or two rows, so that there are many."""
    if request.param == "small":
        return None
    monkeypatch.setattr(kernel, "TILE", 20)
    if request.param == "large":
        monkeypatch.setattr(kernel, "KEPT_BYTES", 0)
        return None
    if request.param == "guarded":
        monkeypatch.setattr(kernel, "exp_fits", lambda left, right: False)
    return request.param == "kept"


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("same_group", SAME_GROUP)
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("gaps", [True, False])
def test_values_and_every_gradient_are_those_of_the_definition(path, symmetric, same_group, smoothing, gaps):
    for seed in range(3):
        ours, present, groups = drawn(7, 4, seed, gaps)
        theirs = drawn(7, 4, seed, gaps)[0]
        taus = [torch.tensor(0.3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        found = info_nce_terms(
            ours, TERMS, taus[0], symmetric=symmetric, present=present if gaps else None, groups=groups,
            same_group=same_group, label_smoothing=smoothing, keep=path,
        )  # fmt: skip
        expected = oracle(theirs, TERMS, taus[1], symmetric, present, groups, same_group, smoothing)
        torch.testing.assert_close(torch.stack(found), torch.stack(expected), atol=1e-12, rtol=0)
        weights = torch.arange(1.0, 6.0, dtype=torch.float64)
        (torch.stack(found) * weights).sum().backward()
        (torch.stack(expected) * weights).sum().backward()
        for side in SIDES:
            torch.testing.assert_close(ours[side].grad, theirs[side].grad, atol=1e-12, rtol=0)
        torch.testing.assert_close(taus[0].grad, taus[1].grad, atol=1e-10, rtol=0)


def test_gradcheck(path):
    vectors, present, groups = drawn(5, 3, 0, gaps=True)
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    for same_group in SAME_GROUP:
        assert torch.autograd.gradcheck(
            lambda a, b, c, tau, same=same_group: tuple(
                info_nce_terms({"a": a, "b": b, "c": c}, TERMS[:3], tau, present=present, groups=groups,
                               same_group=same, keep=path)
            ),
            (vectors["a"], vectors["b"], vectors["c"], tau),
        )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 9), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3), tile=st.integers(1, 60),
    keep=st.booleans(), scale=st.floats(0.1, 400.0), seed=st.integers(0, 999),
)  # fmt: skip
def test_sums_of_any_shape_and_size_are_logsumexp(n, sizes, tile, keep, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    left = scale * normalize(torch.randn(n, 3, generator=generator, dtype=torch.float64), dim=1)
    rights = [normalize(torch.randn(size, 3, generator=generator, dtype=torch.float64), dim=1) for size in sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "TILE", tile)
        rows, columns = log_sums(left, rights, keep=keep)
    for number, right in enumerate(rights):
        torch.testing.assert_close(rows[:, number], (left @ right.T).logsumexp(1))
    torch.testing.assert_close(columns, torch.cat([(left @ right.T).logsumexp(0) for right in rights]))


@pytest.mark.parametrize("temperature", [0.07, 0.01, 0.001])
def test_float32_is_that_of_float64_to_one_in_a_million(temperature):
    generator = torch.Generator().manual_seed(0)
    exact = normalize(torch.randn(3, 300, 64, generator=generator, dtype=torch.float64), dim=2)
    terms = list(itertools.combinations(range(3), 2))
    found = {}
    for dtype, keep in ((torch.float64, True), (torch.float32, True), (torch.float32, False)):
        vectors = exact.to(dtype).requires_grad_()
        losses = info_nce_terms(dict(enumerate(vectors)), terms, temperature, keep=keep)
        (gradient,) = torch.autograd.grad(torch.stack(losses).sum(), vectors)
        found[dtype, keep] = torch.stack(losses).detach().double(), gradient.double()
    value, gradient = found[torch.float64, True]
    for keep in (True, False):
        ours = found[torch.float32, keep]
        torch.testing.assert_close(ours[0], value, rtol=1e-6, atol=0)
        # One part in a million of the largest; what float32 inputs are rounded by is multiplied by 1 / temperature.
        assert (ours[1] - gradient).norm() / gradient.norm() < 1e-6 * max(1, 0.2 / temperature)


def test_bfloat16_is_computed_in_float32_of_the_same_numbers():
    generator = torch.Generator().manual_seed(0)
    a, b = normalize(torch.randn(2, 40, 16, generator=generator), dim=2).bfloat16()
    (low,) = info_nce_terms({"a": a, "b": b}, [("a", "b")])
    (high,) = info_nce_terms({"a": a.float(), "b": b.float()}, [("a", "b")])
    assert low.dtype == torch.float32
    assert torch.equal(low, high)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (cast,) = info_nce_terms({"a": a.float(), "b": b.float()}, [("a", "b")])
    assert torch.equal(cast, high)


@pytest.mark.parametrize("keep", [True, False])
def test_collapsed_zero_and_opposite_embeddings_have_finite_gradients(keep):
    z = torch.zeros(6, 4)
    one = normalize(torch.ones(6, 4), dim=1)
    for a, b in ((z, z), (one, one), (one, -one), (z, one)):
        for temperature in (1.0, 0.07, 0.005):
            left = a.clone().requires_grad_()
            (loss,) = info_nce_terms({"a": left, "b": b}, [("a", "b")], temperature, keep=keep)
            loss.backward()
            assert loss.item() == pytest.approx(torch.tensor(6.0).log().item(), abs=1e-4)
            assert left.grad.isfinite().all()


def test_a_backward_pass_may_be_repeated():
    vectors, _, _ = drawn(6, 4, 1)
    loss = torch.stack(info_nce_terms(vectors, TERMS, keep=True)).sum()
    loss.backward(retain_graph=True)
    once = vectors["a"].grad.clone()
    loss.backward()
    torch.testing.assert_close(vectors["a"].grad, 2 * once)


def test_nan_is_named_and_a_missing_row_may_hold_it():
    vectors, _, _ = drawn(6, 4, 1)
    with torch.no_grad():
        vectors["b"][4] = torch.nan
    with pytest.raises(ValueError, match=r"the embeddings of b must be finite.*the first in row 4"):
        info_nce_terms(vectors, TERMS)
    present = {"b": torch.tensor([True, True, True, True, False, True])}
    assert all(loss.isfinite() for loss in info_nce_terms(vectors, TERMS, present=present))


def test_large_batches_keep_no_scores(monkeypatch):
    asked = []
    plain = kernel._plain_sums

    def watch_tiles(*args):
        asked.append("kept" if args[4] else "tiles")
        return plain(*args)

    def watch(name):
        function = getattr(terms, name)
        monkeypatch.setattr(terms, name, lambda *args: (asked.append(name), function(*args))[1])

    monkeypatch.setattr(kernel, "_plain_sums", watch_tiles)
    watch("batched_info_nce")
    watch("tiled_info_nce")
    z = normalize(torch.randn(300, 4), dim=1).requires_grad_()
    monkeypatch.setattr(kernel, "KEPT_BYTES", 300 * 300 * 4 - 1)
    info_nce_terms({"a": z, "b": z}, [("a", "b")])
    monkeypatch.setattr(kernel, "KEPT_BYTES", 300 * 300 * 4)
    info_nce_terms({"a": z, "b": z}, [("a", "b")])
    with torch.no_grad():
        info_nce_terms({"a": z, "b": z}, [("a", "b")])
    some = torch.ones(300, dtype=torch.bool)
    info_nce_terms({"a": z, "b": z}, [("a", "b")], present={"a": some})
    monkeypatch.setattr(kernel, "KEPT_BYTES", 0)
    info_nce_terms({"a": z, "b": z}, [("a", "b")], present={"a": some})
    assert asked == ["tiled_info_nce", "batched_info_nce", "tiles", "kept", "tiles"]


@pytest.mark.parametrize("temperature", [0.0131, 0.02, 0.5])
def test_where_exp_does_not_fit_the_careful_way_is_taken(temperature):
    """Long vectors, opposite ones, and temperatures about the limit: the value is that of logsumexp."""
    generator = torch.Generator().manual_seed(0)
    a, b = normalize(torch.randn(2, 20, 8, generator=generator), dim=2)
    for left, right in ((a, b), (9 * a, b), (a, -a), (30 * a, 30 * a), (a, a)):
        (ours,) = info_nce_terms({"a": left.clone().requires_grad_(), "b": right}, [("a", "b")], temperature)
        scores = left.double() @ right.double().T / temperature
        loss = (scores.logsumexp(1) + scores.logsumexp(0)) / 2 - scores.diagonal()
        rounding = 1e-6 * max(100.0, float(scores.abs().max()))
        assert ours.item() == pytest.approx(loss.mean().item(), rel=1e-5, abs=rounding)


def test_the_choice_of_a_backend_never_changes_the_precision(monkeypatch):
    before = torch.backends.mkldnn.matmul.fp32_precision
    for asked in ("default", "onednn", ""):
        monkeypatch.setenv("CONFU_MATMUL", asked)
        products.matmul_backend.cache_clear()
        found = products.matmul_backend()
        assert found.name in ((asked,) if asked == "default" else ("default", "onednn"))
        a, b = torch.randn(2, 64, 64)
        with products.products(a):
            error = (a @ b - a.double() @ b.double()).abs().max()
        assert error < 1e-4  # bf16 would be off by 0.1
        assert torch.backends.mkldnn.matmul.fp32_precision == before
    monkeypatch.setenv("CONFU_MATMUL", "bf16")
    products.matmul_backend.cache_clear()
    with pytest.raises(ValueError, match="CONFU_MATMUL must be 'default' or 'onednn'; got 'bf16'"):
        products.matmul_backend()
    products.matmul_backend.cache_clear()
