from collections import Counter
from itertools import product

import pytest
import torch

from confu_paper.datasets.xor_task import all_codes, xor, xor_candidates, xor_ceiling


def rows(split):
    batch = split.batch(torch.arange(len(split)))
    return [batch.inputs[name].values for name in ("x1", "x2", "x3")], batch


def enumerated_ceiling(p, bits):
    """Sum over what can be seen, (x1, x3), of the chance of the x2 that is likeliest then."""
    joint = {}
    for x1, x2 in product(range(2**bits), repeat=2):
        for holds, chance in ((True, p), (False, 1 - p)):
            seen = (x1, x1 ^ x2 if holds else x1)
            joint.setdefault(seen, Counter())[x2] += chance / 4**bits
    return sum(max(counts.values()) for counts in joint.values())


@pytest.mark.parametrize("bits", [1, 2, 3, 5])
@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
def test_ceiling_is_the_enumerated_one(p, bits):
    assert xor_ceiling(p, bits) == pytest.approx(enumerated_ceiling(p, bits), abs=1e-12)


def test_each_row_holds_the_xor_as_a_whole_or_not_at_all():
    (x1, x2, x3), _ = rows(xor(0.4, num_train=20_000).train)
    xored = (x3 == (x1 + x2) % 2).all(1)
    copied = (x3 == x1).all(1)
    assert (xored | copied).all()
    assert xored.float().mean().item() == pytest.approx(0.4 + 0.6 / 32, abs=0.015)
    assert set(x1.unique().tolist()) == {0.0, 1.0}


def test_label_is_the_candidate_that_x2_spells():
    (_, x2, _), batch = rows(xor(0.5, num_train=200).train)
    assert batch.labels is not None
    assert torch.equal(all_codes(5)[batch.labels], x2)
    candidates = xor_candidates(5)
    assert candidates.class_names is not None
    assert candidates.class_names[3] == "00011"


def test_splits_are_separate_draws_and_repeat_with_the_seed():
    a, b, c = xor(1.0, 50, 50, 50, seed=3), xor(1.0, 50, 50, 50, seed=3), xor(1.0, 50, 50, 50, seed=4)
    for one, two, other in zip(
        (a.train, a.validation, a.test), (b.train, b.validation, b.test), (a.test, a.train, c.test), strict=True
    ):
        assert torch.equal(rows(one)[0][0], rows(two)[0][0])
        assert not torch.equal(rows(one)[0][0], rows(other)[0][0])
    assert a.train.ids[0] == "train-0"


def test_more_rows_do_not_change_the_other_splits():
    assert torch.equal(rows(xor(0.5, 10, 20, 30).test)[0][1], rows(xor(0.5, 99, 20, 30).test)[0][1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": 1.1}, "p: expected a probability"),
        ({"p": 0.5, "bits": 0}, "bits:"),
        ({"p": 0.5, "num_test": 0}, "num_test:"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        xor(**arguments)
