"""The bound on total correlation against the chain rule, and against data whose total correlation is known."""

import math
from itertools import permutations

import pytest
import torch
from torch.nn.functional import normalize, one_hot

from confu.losses import info_nce, total_correlation_bound
from confu.plan import Subset, confu_plan, disjoint_plan, pairwise_plan


def random_losses(modalities, seed=0):
    """A loss and a number of rows for every term with one modality on one side."""
    generator = torch.Generator().manual_seed(seed)
    losses = {}
    for term in disjoint_plan(modalities, single_side=True).terms:
        loss = torch.rand((), generator=generator, dtype=torch.float64).item() * 3
        rows = int(torch.randint(2, 300, (), generator=generator))
        losses[term.left, term.right] = (loss, rows)
    return losses


def chain_rule(losses, modalities):
    """TC = I(X_2; X_1) + I(X_3; X_1, X_2) + ..., each term bounded by log N - loss, averaged over every order."""
    sides = {frozenset(pair): value for pair, value in losses.items()}
    orders = list(permutations(modalities))
    total = 0.0
    for order in orders:
        for k in range(1, len(order)):
            loss, rows = sides[frozenset((Subset(order[k]), Subset(*order[:k])))]
            total += math.log(rows) - loss
    return total / len(orders)


def test_three_modalities_are_equation_13_with_each_term_once():
    n = 64
    loss = {"ab": 3.1, "ac": 2.2, "bc": 3.9, "c~ab": 1.3, "b~ac": 2.7, "a~bc": 0.4}
    a, b, c = Subset("a"), Subset("b"), Subset("c")
    losses = {
        (a, b): (loss["ab"], n),
        (a, c): (loss["ac"], n),
        (b, c): (loss["bc"], n),
        (c, Subset("a", "b")): (loss["c~ab"], n),
        (b, Subset("a", "c")): (loss["b~ac"], n),
        (a, Subset("b", "c")): (loss["a~bc"], n),
    }
    by_hand = -sum(loss.values()) / 3 + 2 * math.log(n)
    assert total_correlation_bound(losses, "abc") == pytest.approx(by_hand, abs=1e-12)
    # The printed factor, 1/3 before a sum over six orders, takes each loss twice.
    printed = -2 * sum(loss.values()) / 3 + 2 * math.log(n)
    assert total_correlation_bound(losses, "abc") != pytest.approx(printed, abs=1)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_bound_is_the_chain_rule_in_every_order(count):
    modalities = "abcde"[:count]
    for seed in range(3):
        losses = random_losses(modalities, seed)
        bound = total_correlation_bound(losses, modalities)
        assert bound == pytest.approx(chain_rule(losses, modalities), abs=1e-10)


def test_the_order_of_sides_and_terms_does_not_matter():
    losses = random_losses("abcd")
    bound = total_correlation_bound(losses, "abcd")
    turned = {(Subset(*reversed(right.names)), left): value for (left, right), value in losses.items()}
    assert total_correlation_bound(turned, "dbca") == pytest.approx(bound, abs=1e-12)
    more = {**losses, (Subset("a", "b"), Subset("c", "d")): (99.0, 8)}
    assert total_correlation_bound(more, "abcd") == bound


def test_it_is_none_if_any_needed_term_is_missing():
    losses = random_losses("abc")
    for missing in losses:
        assert total_correlation_bound({k: v for k, v in losses.items() if k != missing}, "abc") is None
    pairs = {(term.left, term.right): (1.0, 8) for term in pairwise_plan("abc").terms}
    assert total_correlation_bound(pairs, "abc") is None
    assert total_correlation_bound({(Subset("a"), Subset("b")): (1.0, 8)}, "ab") == pytest.approx(math.log(8) - 1)


def test_tensors_give_a_tensor_with_a_gradient():
    losses = {k: (torch.tensor(v, requires_grad=True), n) for k, (v, n) in random_losses("abc").items()}
    bound = total_correlation_bound(losses, "abc")
    bound.backward()
    for loss, _ in losses.values():
        assert loss.grad.item() == pytest.approx(-1 / 3)


def test_it_is_at_most_m_minus_one_times_log_n():
    for count in (2, 3, 4):
        perfect = dict.fromkeys(random_losses("abcd"[:count]), (0.0, 32))
        assert total_correlation_bound(perfect, "abcd"[:count]) == pytest.approx((count - 1) * math.log(32))


def xor_embeddings(batch, seed, bits=5):
    """Embeddings that know XOR by heart, with a = b xor c: a fused pair points at the code of the third modality.

    Each modality has axes of its own, so that two single ones, which say nothing of each other, score zero always.
    """
    codes = 2**bits
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randint(0, codes, (2, batch), generator=generator)
    values = {"a": a, "b": b, "c": a ^ b}
    single = {Subset(name): one_hot(values[name] + k * codes, 3 * codes).float() for k, name in enumerate("abc")}
    fused = {}
    for k, (left, right) in enumerate(("bc", "ac", "ab")):  # without a, b, c
        fused[Subset(left, right)] = one_hot((values[left] ^ values[right]) + k * codes, 3 * codes).float()
    return single | fused


@pytest.mark.parametrize("batch", [32, 256])
def test_on_xor_it_stays_below_the_true_total_correlation(batch):
    truth = 5 * math.log(2)  # a and b are independent; c holds nothing that both together do not
    plan, bounds = confu_plan("abc"), []
    for seed in range(20):
        z = xor_embeddings(batch, seed)
        losses = {(t.left, t.right): (info_nce(z[t.left], z[t.right], 0.05), batch) for t in plan.terms}
        for term in plan.terms:
            if not term.is_fused:
                assert losses[term.left, term.right][0].item() == pytest.approx(math.log(batch), abs=1e-5)
        bounds.append(total_correlation_bound(losses, "abc").item())
        assert bounds[-1] < math.log(batch)  # three fused terms at a third each
    assert 0.75 * truth < sum(bounds) / len(bounds) < truth


def test_on_independent_data_it_is_at_most_zero_on_average():
    generator = torch.Generator().manual_seed(0)
    plan, bounds = confu_plan("abc"), []
    for _ in range(50):
        z = {subset: normalize(torch.randn(64, 8, generator=generator), dim=1) for subset in plan.subsets}
        losses = {(t.left, t.right): (info_nce(z[t.left], z[t.right], 0.5).item(), 64) for t in plan.terms}
        bounds.append(total_correlation_bound(losses, "abc"))
    assert sum(bounds) / len(bounds) < 0
