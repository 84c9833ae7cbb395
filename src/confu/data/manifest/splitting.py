"""Splitting the rows of a manifest into train, validation and test, no group in two of them."""

from collections.abc import Sequence

import numpy as np

from confu.data.manifest.manifest import SPLITS, Manifest


def assign_splits(
    manifest: Manifest, seed: int = 0, shares: Sequence[float] = (0.8, 0.1, 0.1)
) -> tuple[list[str | None], str]:
    """The split of each row: by the split column, else drawn; a missing validation split is drawn from train.

    Args:
        manifest: its splits and groups are read.
        seed: of what is drawn.
        shares: of train, validation and test.

    Returns:
        "train", "validation", "test" or, where the split column holds none of them, None; and how they were assigned,
        "" if the column says all of it.

    Raises:
        ValueError: as `split_rows`; or a split column without a row of train.
    """
    groups = manifest.groups
    together = "" if groups is None else ", no group in two of them"
    if manifest.splits is None:
        drawn = split_rows(groups, len(manifest), seed, shares)
        return list(drawn), f"rows were split at random{together}"
    splits = [split if split in SPLITS else None for split in manifest.splits]
    if "validation" in splits:
        return splits, ""
    training = [row for row, split in enumerate(splits) if split == "train"]
    name = manifest.role_column("split")
    if not training:
        raise ValueError(
            f"{manifest.address}: the column {name!r} has no row of train; write 'train' into it, or have the rows "
            "drawn without it: --split '' of confu init, data.roles of the run file"
        )
    whole = shares[0] + shares[1]
    own = None if groups is None else [groups[row] for row in training]
    drawn = split_rows(own, len(training), seed, (shares[0] / whole, shares[1] / whole, 0.0))
    for row, split in zip(training, drawn):
        splits[row] = split
    taken = drawn.count("validation")
    return splits, f"the column {name} has no validation rows: {taken} were taken from train{together}"


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
        split = max(choice, key=lambda candidate: lacking[candidate])
        lacking[split] -= len(rows)
        empty = [other for other in empty if other != split]
        for row in rows:
            splits[row] = SPLITS[split]
    return splits
