"""The k best inner products: against a sort in loops, with ties, and whatever the tiles."""

import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from confu import products
from confu.products import top_k
from oracles import unit

MODULE = sys.modules[top_k.__module__]


@pytest.fixture(params=["usual tiles", "small tiles"])
def tiles(request, monkeypatch):
    if request.param == "small tiles":
        monkeypatch.setattr(MODULE, "_TILE", 64)
        monkeypatch.setattr(MODULE, "_QUERIES", 3)
        monkeypatch.setattr(MODULE, "_BLOCK", 4)


def oracle(queries, gallery, k):
    """Of small whole numbers, whose products have no rounding, so that ties are ties."""
    scores = [[sum(a * b for a, b in zip(q, g)) for g in gallery.tolist()] for q in queries.tolist()]
    return [sorted(range(len(line)), key=lambda j: (-line[j], j))[:k] for line in scores], scores


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@settings(max_examples=40)
@given(
    n=st.integers(0, 8), m=st.integers(1, 150), dim=st.integers(1, 4), top=st.integers(0, 3), share=st.floats(0, 1),
    small=st.booleans(),
)  # fmt: skip
def test_it_is_a_sort_by_score_and_row(dtype, n, m, dim, top, share, small):
    k = 1 + int(share * (m - 1))
    generator = torch.Generator().manual_seed(n * 100 + m)
    queries, gallery = (torch.randint(-top, top + 1, (rows, dim), generator=generator).to(dtype) for rows in (n, m))
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(MODULE, "_TILE", 64)
            patch.setattr(MODULE, "_QUERIES", 3)
            patch.setattr(MODULE, "_BLOCK", 4)
        scores, rows = top_k(queries, gallery, k)
    order, expected = oracle(queries, gallery, k)
    assert rows.tolist() == order
    assert scores.dtype == dtype
    assert scores.tolist() == [[line[j] for j in own] for line, own in zip(expected, order)]


def test_the_best_come_in_any_order(tiles):
    """Each tile better than the one before, and each worse."""
    queries, line = torch.ones(5, 1), torch.linspace(-1, 1, 700)[:, None]
    for gallery in (line, line.flip(0)):
        assert torch.equal(top_k(queries, gallery, 30)[1], gallery[:, 0].argsort(descending=True)[:30].expand(5, 30))


def test_real_numbers_as_a_full_sort_gives_them(tiles):
    queries, gallery = unit(7, 33), unit(1001, 33, seed=1)
    scores, rows = top_k(queries, gallery, 10)
    expected = (queries.double() @ gallery.double().T).sort(dim=1, descending=True)
    assert torch.equal(rows, expected.indices[:, :10])
    torch.testing.assert_close(scores.double(), expected.values[:, :10], rtol=0, atol=1e-6)


def test_a_gallery_that_collapsed_gives_its_first_rows(tiles):
    for value in (0.0, 1.0, -1.0):
        rows = top_k(unit(4, 1), torch.full((300, 1), value), 5)[1]
        assert torch.equal(rows, torch.arange(5).expand(4, 5))


def test_zeros_of_both_signs_tie(tiles):
    gallery = torch.tensor([[-1.0], [0.0], [-0.0], [0.0], [-2.0]])
    assert top_k(torch.tensor([[1.0], [-0.0]]), gallery, 4)[1].tolist() == [[1, 2, 3, 0], [0, 1, 2, 3]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_bad_numbers_are_named(bad):
    gallery = unit(9, 4)
    gallery[3, 1] = bad
    with pytest.raises(ValueError, match=r"gallery must be finite; 1 of 36 numbers .* first in row 3"):
        top_k(unit(2, 4), gallery, 2)
    with pytest.raises(ValueError, match=r"queries must be finite"):
        top_k(gallery, unit(9, 4), 2)


def test_what_does_not_fit_is_refused(as_users_run):
    x = unit(4, 3)
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k must lie between 1 and the size of the gallery, 4; got {k}"):
            top_k(x, x, k)
    with pytest.raises(ValueError, match=r"of one d; got \(4, 3\) and \(4, 2\)"):
        top_k(x, x[:, :2], 1)
    with pytest.raises(ValueError, match=r"one float type on one device; got torch.float32 on cpu and torch.float64"):
        top_k(x, x.double(), 1)
    huge = torch.full((3, 2), 1e30)
    assert top_k(torch.ones(1, 2), huge, 2)[1].tolist() == [[0, 1]]  # their sum overflows, they do not


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


def test_a_run_goes_on_with_the_backend_that_it_began_with(monkeypatch):
    monkeypatch.delenv("CONFU_MATMUL", raising=False)
    for name in ("default", "onednn", "default"):
        products.keep_backend(name)
        assert products.matmul_backend().name in (name, "default")  # oneDNN only where it is as exact
        assert math.isnan(products.matmul_backend().ratio)  # nothing is measured
    monkeypatch.setattr(products, "_kept", "")
    products.matmul_backend.cache_clear()
