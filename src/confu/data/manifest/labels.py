"""What can be seen to be wrong with a manifest without opening a file."""

from collections.abc import Sequence
from difflib import get_close_matches

from confu.data.manifest.cells import filled
from confu.data.manifest.manifest import Manifest, split_name
from confu.data.manifest.problem import WHOLE_COLUMN, Problem

_SPLITS = ("train", "validation", "test")


def check_labels(manifest: Manifest, splits: Sequence[str | None] | None) -> list[Problem]:
    """List what is wrong with ids, labels, splits and groups, and which columns are empty.

    Of two rows that contradict each other the later one is listed, and names the earlier, so that the rows that are
    listed can be set aside. Found are: an id that stands twice or is missing; a
    split that is unknown or missing; a group in two splits (the rows that are not in the split of its first row); a
    class seen in test but not in train (its test rows); a column that is empty, or empty in train
    (`WHOLE_COLUMN`: setting rows aside does not help).

    Args:
        manifest: to check.
        splits: (n,) of each row, e.g. `manifest.splits` or from `split_rows`; None if there are none yet.

    Returns:
        problems of whole columns first, then in the order of the rows.

    Raises:
        ValueError: not one split a row.
    """
    if splits is not None and len(splits) != len(manifest):
        raise ValueError(f"splits: expected {len(manifest)}, one a row; got {len(splits)}")
    known = None if splits is None else [None if split is None else split_name(split) for split in splits]
    found = _empty_columns(manifest, known)
    rows = [*_ids(manifest)]
    if known is not None:
        rows += [*_splits(manifest, known), *_groups(manifest, known), *_classes(manifest, known)]
    return found + sorted(rows, key=lambda problem: problem.row)


def _problem(manifest: Manifest, row: int, column: str, source: str | None, what: str) -> Problem:
    return Problem(row, manifest.ids[row], column, source or "", what)


def _empty_columns(manifest: Manifest, splits: Sequence[str | None] | None) -> list[Problem]:
    found = []
    for name in manifest.columns:
        there = filled(manifest.column(name))
        if not there.any():
            what = "is empty in every row; remove it from the modalities, or fill it"
            found.append(Problem(WHOLE_COLUMN, "", name, "", what))
        elif splits is not None and "train" in splits and not any(there[[one == "train" for one in splits]]):
            what = "is empty in every row of train: it cannot be learned; move rows that have it into train"
            found.append(Problem(WHOLE_COLUMN, "", name, "", what))
    return found


def _ids(manifest: Manifest) -> list[Problem]:
    if "id" not in manifest.table.column_names:
        return []
    found = []
    first: dict[str, int] = {}
    there = filled(manifest.table["id"])
    for row, name in enumerate(manifest.ids):
        if not there[row]:
            found.append(_problem(manifest, row, "id", None, "has no id; give every row one, or remove the column"))
        elif name in first:
            what = f"the id {name!r} is that of row {first[name]} already; give every row its own"
            found.append(_problem(manifest, row, "id", name, what))
        else:
            first[name] = row
    return found


def _splits(manifest: Manifest, splits: Sequence[str | None]) -> list[Problem]:
    found = []
    for row, split in enumerate(splits):
        if split is None:
            found.append(_problem(manifest, row, "split", None, f"has no split; expected one of {', '.join(_SPLITS)}"))
        elif split not in _SPLITS:
            # Every name is nearest to one of the three; without a cutoff it would be said of nonsense as well.
            near = get_close_matches(split.lower(), _SPLITS, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            what = f"the split {split!r} is not known{hint} Known: {', '.join(_SPLITS)}"
            found.append(_problem(manifest, row, "split", split, what))
    return found


def _groups(manifest: Manifest, splits: Sequence[str | None]) -> list[Problem]:
    found = []
    first: dict[str, int] = {}
    for row, group in enumerate(manifest.groups or []):
        if group is None or splits[row] not in _SPLITS:
            continue
        start = first.setdefault(group, row)
        if splits[start] != splits[row]:
            what = (
                f"the group {group!r} is in {splits[start]} (row {start}) and here in {splits[row]}: what is learned "
                "there would be reported as new; give its rows one split"
            )
            found.append(_problem(manifest, row, "group", group, what))
    return found


def _classes(manifest: Manifest, splits: Sequence[str | None]) -> list[Problem]:
    labels = manifest.labels
    if labels is None:
        return []
    trained = {label for label, split in zip(labels, splits) if split == "train"}
    found = []
    for row, (label, split) in enumerate(zip(labels, splits)):
        if split == "test" and label is not None and label not in trained:
            what = f"the class {label!r} is in test, but in no row of train; move some of its rows there"
            found.append(_problem(manifest, row, "label", label, what))
    return found
