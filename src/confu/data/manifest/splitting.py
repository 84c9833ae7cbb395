"""Which rows train, which choose, which are reported: drawn by group, so that no group straddles."""

from collections.abc import Sequence

import numpy as np

_SPLITS = ("train", "validation", "test")


def split_rows(
    groups: Sequence[str | None] | None, n: int, seed: int = 0, shares: Sequence[float] = (0.8, 0.1, 0.1)
) -> list[str]:
    """A split for every row, near the shares; rows of one group share theirs.

    Groups are drawn in random order, larger ones first, each into the split that lacks most rows of its share. A
    split whose share is not 0 gets at least one group.

    Args:
        groups: (n,) the group of each row, None for a row of its own; None if there are no groups.
        n: rows.
        seed: 0 or more. The same arguments give the same splits on any machine.
        shares: of train, validation and test, in that order; they sum to 1.

    Returns:
        (n,) "train", "validation" or "test".

    Raises:
        ValueError: shares that are no shares; fewer groups than splits.

    Example:
        >>> split_rows(["a", "a", "b", "c", "a", "c"], 6)
        ['train', 'train', 'test', 'validation', 'train', 'validation']
    """
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(
            f"shares: expected three that sum to 1, of train, validation and test, e.g. (0.8, 0.1, 0.1); got {shares}"
        )
    if groups is not None and len(groups) != n:
        raise ValueError(f"groups: expected {n}, one a row; got {len(groups)}")
    members: dict[tuple[str, str | int], list[int]] = {}
    for row in range(n):
        group = None if groups is None else groups[row]
        members.setdefault(("row", row) if group is None else ("group", group), []).append(row)
    empty = [split for split, share in enumerate(shares) if share > 0]
    if len(members) < len(empty):
        what = "rows" if groups is None else "groups"
        raise ValueError(
            f"{n} rows make {len(members)} {what}, too few for {len(empty)} splits; give more rows, a column 'split', "
            "or shares with a 0 in them"
        )
    units = list(members.values())
    order = np.random.default_rng(seed).permutation(len(units))
    units = sorted((units[position] for position in order), key=len, reverse=True)  # stable: equal ones stay shuffled
    lacking = [share * n for share in shares]
    splits = [""] * n
    for position, rows in enumerate(units):
        # As many groups left as splits without one: each of these gets one.
        choice = empty if len(units) - position <= len(empty) else [s for s in range(3) if shares[s] > 0]
        split = max(choice, key=lambda one: lacking[one])
        lacking[split] -= len(rows)
        empty = [one for one in empty if one != split]
        for row in rows:
            splits[row] = _SPLITS[split]
    return splits
