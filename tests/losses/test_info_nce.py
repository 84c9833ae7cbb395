"""InfoNCE against its definition, written as loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from confu.losses import info_nce


def one_sided(queries, targets, temperature):
    """Eq. 2, one exponential at a time."""
    total = 0.0
    for m in range(len(queries)):
        own = ((queries[m] * targets[m]).sum() / temperature).exp()
        every = sum(((queries[m] * targets[n]).sum() / temperature).exp() for n in range(len(targets)))
        total = total - (own / every).log()
    return total / len(queries)


def oracle(queries, targets, temperature, symmetric):
    forward = one_sided(queries, targets, temperature)
    return (forward + one_sided(targets, queries, temperature)) / 2 if symmetric else forward


def unit_rows(rows, dim, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, dim, generator=generator, dtype=dtype), dim=1)


def leaves(rows=6, dim=5, temperature=0.2):
    return [
        unit_rows(rows, dim, seed=1).requires_grad_(),
        unit_rows(rows, dim, seed=2).requires_grad_(),
        torch.tensor(temperature, dtype=torch.float64, requires_grad=True),
    ]


@pytest.mark.parametrize("symmetric", [True, False])
def test_value_and_every_gradient_are_those_of_the_loops(symmetric):
    fast, slow = leaves(), leaves()
    value, expected = info_nce(*fast, symmetric=symmetric), oracle(*slow, symmetric)
    torch.testing.assert_close(value, expected, atol=1e-12, rtol=0)
    value.backward()
    expected.backward()
    for ours, theirs in zip(fast, slow):
        assert theirs.grad.abs().max() > 1e-3
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-12, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(2, 7), dim=st.integers(1, 5), temperature=st.floats(0.05, 2.0), symmetric=st.booleans(),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_value_is_that_of_the_loops_for_any_size(rows, dim, temperature, symmetric, seed):
    queries, targets = unit_rows(rows, dim, seed), unit_rows(rows, dim, seed + 1000)
    value = info_nce(queries, targets, temperature, symmetric=symmetric)
    torch.testing.assert_close(value, oracle(queries, targets, temperature, symmetric), atol=1e-10, rtol=0)


@pytest.mark.parametrize("symmetric", [True, False])
def test_gradcheck(symmetric):
    present = torch.tensor([True, True, False, True])
    queries, targets, temperature = leaves(4, 3)
    assert torch.autograd.gradcheck(
        lambda q, t, tau: info_nce(q, t, tau, symmetric=symmetric, query_present=present, target_present=present),
        (queries, targets, temperature),
    )


@pytest.mark.parametrize("symmetric", [True, False])
def test_rows_that_are_not_present_are_as_if_deleted(symmetric):
    present = torch.tensor([True, False, True, True, False, True])
    masked, deleted = leaves(), leaves()
    value = info_nce(*masked, symmetric=symmetric, query_present=present, target_present=present)
    expected = info_nce(deleted[0][present], deleted[1][present], deleted[2], symmetric=symmetric)
    torch.testing.assert_close(value, expected, atol=1e-14, rtol=0)
    value.backward()
    expected.backward()
    for ours, theirs in zip(masked, deleted):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-14, rtol=0)
    assert not masked[0].grad[~present].any()
    assert not masked[1].grad[~present].any()


def slow(queries, targets, temperature, asks, answers, groups, same_group, symmetric):
    """The definition with gaps and groups, one query at a time."""
    if symmetric:
        there = slow(queries, targets, temperature, asks, answers, groups, same_group, False)
        return (there + slow(targets, queries, temperature, answers, asks, groups, same_group, False)) / 2
    losses = []
    for m in range(len(queries)):
        same = [n for n in range(len(targets)) if n != m and groups[m] == groups[n] >= 0 and answers[n]]
        own = [m] if answers[m] else []
        positives = own + (same if same_group == "positives" else [])
        candidates = [n for n in range(len(targets)) if answers[n] and not (same_group == "excluded" and n in same)]
        if asks[m] and positives:
            scores = {n: queries[m] @ targets[n] / temperature for n in candidates}
            bottom = torch.stack(list(scores.values())).exp().sum().log()
            losses.append(torch.stack([bottom - scores[n] for n in positives]).mean())
    return torch.stack(losses).mean()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 9999), rows=st.integers(4, 8), symmetric=st.booleans(),
    same_group=st.sampled_from(["negatives", "positives", "excluded"]),
)  # fmt: skip
def test_gaps_and_groups_are_those_of_the_loops(seed, rows, symmetric, same_group):
    generator = torch.Generator().manual_seed(seed)
    asks, answers = (torch.rand(rows, generator=generator) < 0.7 for _ in range(2))
    asks[:2] = answers[:2] = True
    groups = torch.randint(-1, 3, (rows,), generator=generator)
    fast, by_loop = leaves(rows), leaves(rows)
    value = info_nce(
        *fast, symmetric=symmetric, query_present=asks, target_present=answers, groups=groups, same_group=same_group
    )
    expected = slow(*by_loop, asks, answers, groups, same_group, symmetric)
    torch.testing.assert_close(value, expected, atol=1e-12, rtol=0)
    value.backward()
    expected.backward()
    for ours, theirs in zip(fast, by_loop):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-12, rtol=0)


def test_a_row_with_one_side_alone_is_a_negative():
    queries, targets, temperature = leaves()
    asks = torch.tensor([True, True, True, False, True, True])
    there = info_nce(queries, targets, temperature, query_present=asks, symmetric=False)
    targets_of_all = info_nce(queries[asks], targets[asks], temperature, symmetric=False)
    assert there > targets_of_all  # one more target to be told from
    there.backward()
    assert targets.grad[3].any() and not queries.grad[3].any()


def test_rows_of_no_group_are_as_without_groups():
    queries, targets, temperature = leaves()
    alone, distinct = torch.full((6,), -1), torch.arange(6)
    expected = info_nce(queries, targets, temperature)
    for same_group in ("negatives", "positives", "excluded"):
        for groups in (alone, distinct):
            value = info_nce(queries, targets, temperature, groups=groups, same_group=same_group)
            torch.testing.assert_close(value, expected, atol=1e-12, rtol=0)
    one = torch.zeros(6, dtype=torch.long)
    assert info_nce(queries, targets, temperature, groups=one, same_group="excluded").item() == pytest.approx(0)


def test_numbers_in_rows_that_are_not_present_do_not_matter_even_nan():
    queries, targets, _ = leaves()
    present = torch.tensor([True, False, True, True, True, True])
    clean = info_nce(queries, targets, query_present=present, target_present=present)
    with torch.no_grad():
        queries[1], targets[1] = torch.nan, torch.inf
    value = info_nce(queries, targets, query_present=present, target_present=present)
    assert torch.equal(value, clean)
    value.backward()
    assert queries.grad.isfinite().all()


@pytest.mark.parametrize("rows", [2, 10, 256])
@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
def test_collapsed_embeddings_cost_log_n(rows, temperature):
    same = normalize(torch.ones(rows, 8), dim=1)
    assert info_nce(same, same, temperature).item() == pytest.approx(math.log(rows), abs=1e-5)


def test_loss_is_never_below_zero_and_nears_it_for_perfect_embeddings():
    z = torch.eye(16)
    assert 0 <= info_nce(z, z, 0.01).item() < 1e-6
    assert info_nce(z, z.roll(1, dims=0), 0.01).item() == pytest.approx(100, abs=1e-3)


def test_the_order_of_the_rows_does_not_matter():
    queries, targets, temperature = leaves(9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    for symmetric in (True, False):
        value = info_nce(queries, targets, temperature, symmetric=symmetric)
        torch.testing.assert_close(info_nce(queries[order], targets[order], temperature, symmetric=symmetric), value)
    assert abs(info_nce(queries, targets[order]) - info_nce(queries, targets)) > 1e-3


def test_sides_may_be_swapped_only_if_symmetric():
    queries, targets, temperature = leaves()
    torch.testing.assert_close(info_nce(targets, queries, temperature), info_nce(queries, targets, temperature))
    forward = info_nce(queries, targets, temperature, symmetric=False)
    backward = info_nce(targets, queries, temperature, symmetric=False)
    assert abs(forward - backward) > 1e-4
    torch.testing.assert_close((forward + backward) / 2, info_nce(queries, targets, temperature))


def test_one_rotation_of_both_sides_does_not_matter():
    queries, targets, temperature = leaves()
    rotation, _ = torch.linalg.qr(unit_rows(5, 5, seed=4))
    torch.testing.assert_close(
        info_nce(queries @ rotation, targets @ rotation, temperature), info_nce(queries, targets, temperature)
    )


def test_small_temperatures_do_not_overflow():
    z = unit_rows(64, 8, dtype=torch.float32)
    value = info_nce(z, z.roll(1, dims=0), 1e-4)
    assert value.isfinite()


def test_bad_arguments_are_refused(as_users_run):
    z = unit_rows(4, 3)
    with pytest.raises(ValueError, match=r"the same dim; got queries \(4, 3\) and targets \(4, 2\)"):
        info_nce(z, z[:, :2])
    with pytest.raises(ValueError, match=r"the same number of rows.*\(4, 3\) and targets \(3, 3\)"):
        info_nce(z, z[:3])
    with pytest.raises(ValueError, match=r"must be 2-D"):
        info_nce(z[0], z[0])
    with pytest.raises(ValueError, match="InfoNCE, which needs a negative for each row, needs at least 2 rows; got 1"):
        info_nce(z[:1], z[:1])
    with pytest.raises(ValueError, match="needs at least 2 rows; got 1"):
        info_nce(z, z, query_present=torch.tensor([False, True, False, False]))
    with pytest.raises(ValueError, match="same_group 'positve' is not known; did you mean 'positives'"):
        info_nce(z, z, same_group="positve")
    for temperature in (0.0, -0.07, float("nan")):
        with pytest.raises(ValueError, match="temperature must be positive, got"):
            info_nce(z, z, temperature)
