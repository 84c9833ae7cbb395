"""Symile's contrast against loops, and the whole loss against its authors' package."""

import math

import pytest
import symile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from confu.losses import SymileLoss, info_nce, symile_contrast
from confu.plan import Subset
from confu.types import Embeddings
from losses.parts import leaves, numbers, tau
from oracles import symile_oracle

NEGATIVES = ["n", "n_squared"]


@pytest.fixture(autouse=True, scope="module", params=[1 << 20, 1], ids=["scores kept", "block by block"])
def _block_numbers(request):
    """Small batches keep all their scores, large ones make them again block by block; both are tested on small ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("confu.losses.joint.TILE", request.param)
        yield


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def shuffles_of(count, rows, seed=3):
    generator = seeded(seed)
    return [torch.randperm(rows, generator=generator).tolist() for _ in range(count)]


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_value_and_every_gradient_are_those_of_the_loops(count, negatives):
    rows = 4 if count < 4 else 3
    fast, fast_tau, slow, slow_tau = leaves(count, rows), tau(), leaves(count, rows), tau()
    shuffles = shuffles_of(count - 1, rows) if negatives == "n" else None
    value = symile_contrast(fast[0], fast[1:], fast_tau, negatives=negatives, generator=seeded())
    anchor, *others = numbers(slow)
    expected = symile_oracle(anchor, others, slow_tau, shuffles)
    torch.testing.assert_close(value, expected, atol=1e-12, rtol=0)
    plain = [one.tolist() for one in slow]
    assert symile_oracle(plain[0], plain[1:], 0.2, shuffles) == pytest.approx(value.item(), abs=1e-12)
    value.backward()
    expected.backward()
    for ours, theirs in zip([*fast, fast_tau], [*slow, slow_tau]):
        assert theirs.grad.abs().max() > 1e-3
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-12, rtol=0)


@settings(max_examples=20)
@given(
    rows=st.integers(2, 6), dim=st.integers(1, 5), count=st.integers(2, 4), temperature=st.floats(0.02, 2.0),
    negatives=st.sampled_from(NEGATIVES), seed=st.integers(0, 999),
)  # fmt: skip
def test_value_is_that_of_the_loops_for_any_size(rows, dim, count, temperature, negatives, seed):
    anchor, *others = leaves(count, rows, dim, seed)
    value = symile_contrast(anchor, others, temperature, negatives=negatives, generator=seeded(seed))
    shuffles = shuffles_of(count - 1, rows, seed) if negatives == "n" else None
    expected = symile_oracle(anchor.tolist(), [other.tolist() for other in others], temperature, shuffles)
    assert value.item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_value_and_gradient_are_those_of_the_authors_package(count, negatives, dtype):
    """With the same seed the shuffles are the same: drawn in one order, from the global generator."""
    rows, temperature = (6 if count == 4 else 8), math.exp(-2.5)
    ours, theirs = leaves(count, rows, 16, dtype=dtype), leaves(count, rows, 16, dtype=dtype)
    scale = torch.tensor(1 / temperature, dtype=dtype, requires_grad=True)
    torch.manual_seed(5)
    expected = symile.Symile(negative_sampling=negatives)(theirs, scale)
    expected.backward()
    torch.manual_seed(5)
    names = "abcd"[:count]
    vectors = {Subset(name): one for name, one in zip(names, ours)}
    loss = SymileLoss(tuple(names), negatives=negatives).to(dtype)
    out = loss(Embeddings(vectors))
    out.total.backward()
    close = {"atol": 1e-7, "rtol": 1e-7} if dtype == torch.float64 else {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(out.total, expected, **close)
    for mine, package in zip(ours, theirs):
        assert package.grad.abs().max() > 1e-3
        torch.testing.assert_close(mine.grad, package.grad, **close)
    # Theirs is a factor, ours the logarithm of one: d/d log s = s d/ds.
    torch.testing.assert_close(loss.temperature.log_inverse.grad, scale.grad * scale.detach(), **close)


def test_with_one_other_all_negatives_are_those_of_info_nce():
    anchor, other = leaves(2)
    expected = info_nce(anchor, other, 0.2, symmetric=False)
    torch.testing.assert_close(symile_contrast(anchor, [other], 0.2, negatives="n_squared"), expected)


def test_all_negatives_ignore_the_order_of_rows():
    anchor, *others = leaves(4)
    value = symile_contrast(anchor, others, negatives="n_squared")
    order = torch.tensor([2, 0, 3, 1])
    moved = symile_contrast(anchor[order], [other[order] for other in others], negatives="n_squared")
    torch.testing.assert_close(moved, value)
    torch.testing.assert_close(symile_contrast(anchor, others[::-1], negatives="n_squared"), value)
    mixed = symile_contrast(anchor[order], others, negatives="n_squared")
    assert abs(mixed - value) > 1e-3  # rows that do not belong together


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_symile_symmetries_exclude_rotation(negatives):
    anchor, *others = leaves(3)

    def contrast(anchor, others):
        return symile_contrast(anchor, others, negatives=negatives, generator=seeded())

    value = contrast(anchor, others)
    order, signs = torch.tensor([4, 2, 0, 1, 3]), torch.tensor([1.0, -1, 1, -1, -1], dtype=torch.float64)
    torch.testing.assert_close(contrast(anchor[:, order], [other[:, order] for other in others]), value)
    torch.testing.assert_close(contrast(anchor * signs, [others[0] * signs, others[1]]), value)
    rotation, _ = torch.linalg.qr(leaves(1, 5, 5, seed=4)[0].detach())
    assert abs(contrast(anchor @ rotation, [other @ rotation for other in others]) - value) > 1e-3


def test_shuffles_average_to_a_share_of_all_negatives():
    """Three of fifteen negatives: less than with all, more than with none."""
    anchor, *others = leaves(3)
    few = torch.stack([symile_contrast(anchor, others, generator=seeded(seed)) for seed in range(50)])
    assert few.std() > 0
    assert 0 < few.mean() < symile_contrast(anchor, others, negatives="n_squared")


def test_known_values():
    z = torch.eye(4)
    e = math.e
    for others, own in ([[z, z], e], [[z, -z], 1 / e]):
        found = symile_contrast(z, others, 1.0, negatives="n_squared").item()
        assert found == pytest.approx(-math.log(own / (own + 15)), abs=1e-6)
    same = normalize(torch.ones(8, 5), dim=1)
    assert symile_contrast(same, [same, same]).item() == pytest.approx(math.log(8), abs=1e-5)
    assert symile_contrast(same, [same, same], negatives="n_squared").item() == pytest.approx(math.log(64), abs=1e-5)


def test_large_batches_take_blocks_and_give_the_same(monkeypatch):
    together, apart = leaves(3, rows=32, dtype=torch.float32), leaves(3, rows=32, dtype=torch.float32)
    for size, (anchor, *others) in ((1 << 20, together), (3 * 32 * 32, apart)):  # three of 32 rows at once
        monkeypatch.setattr("confu.losses.joint.TILE", size)
        symile_contrast(anchor, others, negatives="n_squared").backward()
    for one, other in zip(together, apart):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_small_temperatures_do_not_overflow(negatives):
    anchor, *others = leaves(3, rows=8, dtype=torch.float32)
    value = symile_contrast(anchor, others, 1e-4, negatives=negatives)
    value.backward()
    assert value.isfinite() and all(one.grad.isfinite().all() for one in (anchor, *others))


def test_bad_arguments_are_refused(as_users_run):
    x, y, z = (one.detach() for one in leaves(3))
    with pytest.raises(ValueError, match="negatives 'n2' is not known; did you mean 'n'"):
        symile_contrast(x, [y, z], negatives="n2")
    with pytest.raises(ValueError, match="each side must be one or more tensors"):
        symile_contrast(x, [])
    with pytest.raises(ValueError, match=r"anchor and others must have the same rows; got \[3, 4, 4\]"):
        symile_contrast(x[:3], [y, z])
    with pytest.raises(ValueError, match="the same dim"):
        symile_contrast(x, [y, z[:, :2]])
    with pytest.raises(ValueError, match="Symile, which needs a negative for each row, needs at least 2 rows; got 1"):
        symile_contrast(x[:1], [y[:1], z[:1]])
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature must be positive, got"):
            symile_contrast(x, [y, z], temperature)
