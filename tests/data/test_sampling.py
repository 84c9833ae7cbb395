"""Batches of an epoch: each row once, enough complete rows, no group twice; the same again for the same seed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from confu.data.gaps import random_gaps
from confu.data.sampling import BalancedBatches, Stretches, UniformBatches, UniqueBatches
from confu.plan import Subset

NAMES = ("image", "audio", "text")
PAIR, ALL = Subset("image", "text"), Subset(*NAMES)


def complete(present, term, batch):
    return int(torch.stack([present[name][batch] for name in term]).all(0).sum())


@pytest.mark.parametrize("make", [
    lambda: UniformBatches(50, 8),
    lambda: BalancedBatches(random_gaps(50, NAMES, 0.6), [PAIR, ALL], 8, 0.5),
    lambda: UniqueBatches(torch.arange(50) % 12, 8),
    lambda: Stretches(UniformBatches(50, 8), 4),
])  # fmt: skip
def test_batches_depend_on_seed_and_epoch_alone(make):
    first = make().epoch(3, 7)
    assert torch.equal(first, make().epoch(3, 7))
    assert not torch.equal(first, make().epoch(3, 8))
    assert not torch.equal(first, make().epoch(4, 7))
    assert first.shape == (make().steps, 8)
    assert all(len(batch.unique()) == 8 for batch in first)


def test_balanced_batches_hold_the_same_share_of_every_pattern():
    present = random_gaps(900, NAMES, 0.5, seed=2)
    batches = BalancedBatches(present, [PAIR], 60, least=0.0)
    order = batches.epoch(0, 0)
    assert len(order.unique()) == order.numel() == 900
    patterns = torch.stack(list(present.values())).to(torch.float64)
    for pattern in patterns.T.unique(dim=0):
        rows = (pattern == patterns.T).all(1)
        counts = [int(rows[batch].sum()) for batch in order]
        assert max(counts) - min(counts) <= 2
    uniform = [complete(present, ALL, batch) for batch in UniformBatches(900, 60).epoch(0, 0)]
    assert max(uniform) - min(uniform) > 2  # what it is for


@settings(max_examples=60)
@given(
    rows=st.integers(40, 300), share=st.floats(0, 0.95), least=st.floats(0, 1), size=st.integers(4, 40),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_every_batch_has_enough_complete_rows_or_all_there_are(rows, share, least, size, seed):
    present = random_gaps(rows, NAMES, share, seed)
    have = {term: complete(present, term, torch.arange(rows)) for term in (PAIR, ALL)}
    if min(have.values()) < 2:
        return
    order = BalancedBatches(present, [PAIR, ALL], size, least).epoch(seed, 0)
    assert order.shape == (rows // size, size)
    for batch in order:
        assert len(batch.unique()) == size
        for term in (PAIR, ALL):
            # Parts come in whole rows, a term has several of them, and each may be one short.
            assert complete(present, term, batch) >= min(least * size, have[term]) - 3


def test_rare_complete_rows_come_again_within_an_epoch():
    present = random_gaps(1000, NAMES, 0.95, seed=0)
    order = BalancedBatches(present, [ALL], 100, least=0.25).epoch(0, 0)
    full = torch.stack(list(present.values())).all(0)
    counts = order.flatten().bincount(minlength=1000)
    assert counts[full].min() >= 4 and counts[~full].max() == 1
    assert [int(full[batch].sum()) for batch in order] == pytest.approx([25] * 10, abs=1)


@settings(max_examples=40)
@given(rows=st.integers(10, 200), groups=st.integers(2, 40), size=st.integers(2, 10), seed=st.integers(0, 99))
def test_unique_batches_repeat_no_group_and_no_row(rows, groups, size, seed):
    of = torch.randint(-groups // 2, groups, (rows,), generator=torch.Generator().manual_seed(seed)).clamp(min=-1)
    if len(of[of >= 0].unique()) + int((of < 0).sum()) < size:
        with pytest.raises(ValueError, match="cannot fill a batch"):
            UniqueBatches(of, size)
        return
    batches = UniqueBatches(of, size)
    order = batches.epoch(seed, 0)
    assert len(order.flatten().unique()) == order.numel()
    for batch in order:
        named = of[batch][of[batch] >= 0]
        assert len(named.unique()) == len(named)
    # As many batches as can be: one more could not be filled even with each group in every batch.
    counts = of[of >= 0].bincount()
    more = batches.steps + 1
    assert int(counts.clamp(max=more).sum()) + int((of < 0).sum()) < more * size


def test_a_term_without_complete_rows_is_refused():
    present = {"image": torch.tensor([True, False, True]), "text": torch.tensor([False, True, True])}
    with pytest.raises(ValueError, match=r"what needs image\+text: 1 of 3 training rows have all of it"):
        BalancedBatches(present, [PAIR], 2)


@pytest.mark.parametrize("steps", [1, 4, 6, 7, 20])
def test_stretches_are_the_passes_cut_elsewhere(steps):
    whole = UniformBatches(50, 8)
    passes = torch.cat([whole.epoch(2, number) for number in range(20)])
    stretches = torch.cat([Stretches(whole, steps).epoch(2, number) for number in range(6)])
    assert torch.equal(stretches, passes[: 6 * steps])
