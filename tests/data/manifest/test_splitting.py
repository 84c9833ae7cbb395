from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confu.data.manifest import Manifest, assign_splits, split_rows

GROUPS = st.lists(st.one_of(st.none(), st.sampled_from("abcdefghij")), min_size=3, max_size=60)


@settings(max_examples=100)
@given(GROUPS, st.integers(0, 5))
def test_no_group_straddles_and_every_split_has_rows(groups, seed):
    units = sum(group is None for group in groups) + len({group for group in groups if group is not None})
    if units < 3:
        with pytest.raises(ValueError, match="too few for 3 splits"):
            split_rows(groups, len(groups), seed)
        return
    splits = split_rows(groups, len(groups), seed)
    assert set(splits) == {"train", "validation", "test"}
    assert splits == split_rows(list(groups), len(groups), seed)
    for group in set(groups) - {None}:
        assert len({split for split, own in zip(splits, groups) if own == group}) == 1


@pytest.mark.parametrize(("n", "counts"), [(1000, (800, 100, 100)), (10, (8, 1, 1)), (3, (1, 1, 1))])
def test_rows_without_groups_get_the_shares_exactly(n, counts):
    found = Counter(split_rows(None, n))
    assert (found["train"], found["validation"], found["test"]) == counts


def test_shares_are_near_with_groups():
    groups = [f"g{row // 7}" for row in range(2000)]
    found = Counter(split_rows(groups, 2000, shares=(0.5, 0.3, 0.2)))
    assert abs(found["train"] - 1000) <= 7
    assert abs(found["validation"] - 600) <= 7


def test_a_seed_draws_other_rows():
    assert split_rows(None, 100, seed=0) != split_rows(None, 100, seed=1)


def test_a_share_of_nothing_gets_nothing():
    assert set(split_rows(None, 2, shares=(0.5, 0.5, 0.0))) == {"train", "validation"}
    assert split_rows(["a", "a"], 2, shares=(1.0, 0.0, 0.0)) == ["train", "train"]


@pytest.mark.parametrize("shares", [(0.8, 0.1), (0.8, 0.3, 0.1), (1.2, -0.1, -0.1)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="shares: expected three that sum to 1"):
        split_rows(None, 10, shares=shares)


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match="groups: expected 3, one a row; got 2"):
        split_rows(["a", "b"], 3)


def test_a_split_column_without_validation_gives_train_rows_to_it():
    columns = {"split": ["train"] * 18 + ["test", "other"], "group": [f"g{row // 2}" for row in range(20)]}
    clips = Manifest("/data/clips.csv", "/data", pa.table(columns))
    splits, comment = assign_splits(clips, shares=(0.6, 0.3, 0.1))
    assert Counter(splits) == {"train": 12, "validation": 6, "test": 1, None: 1}
    assert splits[0:18:2] == splits[1:18:2] and splits[18:] == ["test", None]
    assert comment == "the column split has no validation rows: 6 were taken from train, no group in two of them"
    with pytest.raises(ValueError, match=r"clips.csv: the column 'split' has no row of train; write 'train' into it"):
        assign_splits(clips.take([18, 19]))
