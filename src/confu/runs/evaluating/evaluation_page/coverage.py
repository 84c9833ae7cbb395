"""The page's section on the data: how complete it is, what was set aside, and the numbers by what a row has."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from confu.data.manifest import Problem
from confu.evaluation.html import Group, Part, Table, Text
from confu.plan import Subset
from confu.runs.words import count, listed, points

Presence = Mapping[str, Bool[Tensor, " _"]]
MOST_PROBLEMS = 200


def coverage_section(
    splits: Mapping[str, Presence],
    subsets: Sequence[Subset],
    skipped: Sequence[Problem] = (),
    by_availability: Sequence[Part] = (),
    notes: Sequence[str] = (),
) -> Group:
    """Which rows have what, by part of the data.

    Args:
        splits: "train", ... -> modality -> which rows have it.
        subsets: whose complete rows are counted.
        skipped: why rows were set aside.
        by_availability: tables and figures of numbers by what rows have.
        notes: what a reader must know.
    """
    parts: list[Part] = [_complete(splits, subsets), _patterns(splits), *by_availability]
    if skipped:
        parts.append(_skipped(skipped))
    words = "Every row has every modality." if _whole(splits) else (
        "Rows lack modalities. A row that is complete for two subsets is a pair of theirs; one with a modality alone "
        "is a wrong answer for others.")  # fmt: skip
    aside = len({one.row for one in skipped})
    words += f" {count(aside)} rows were set aside." if aside else " No row was set aside."
    return Group("The data", parts, "\n\n".join([words, *notes]))


def _whole(splits: Mapping[str, Presence]) -> bool:
    return all(bool(mask.all()) for presence in splits.values() for mask in presence.values())


def rows_of(presence: Presence) -> int:
    """How many rows a part has."""
    return len(next(iter(presence.values()), ()))


def complete_rows(presence: Presence, subset: Subset) -> int:
    """How many rows have every modality of a subset.

    >>> complete_rows({"x": torch.tensor([True, True]), "y": torch.tensor([True, False])}, Subset("x", "y"))
    1
    """
    return int(torch.stack([presence[name] for name in subset]).all(0).sum())


def _complete(splits: Mapping[str, Presence], subsets: Sequence[Subset]) -> Table:
    rows = [["all rows", *(count(rows_of(presence)) for presence in splits.values())]]
    for subset in subsets:
        cells = []
        for presence in splits.values():
            found, of = complete_rows(presence, subset), rows_of(presence)
            cells.append(f"{count(found)} ({points(found / of)})" if of else "0")
        rows.append([str(subset), *cells])
    folded = f"All {len(subsets)} subsets" if len(subsets) > 16 else ""
    return Table("Complete rows of each subset", ["", *splits], rows, "", (0,), folded)


def patterns(presence: Presence) -> Counter[str]:
    """What rows have, and how many have just that; "nothing" for rows without a modality.

    >>> patterns({"x": torch.tensor([True, False]), "y": torch.tensor([True, False])})
    Counter({'x+y': 1, 'nothing': 1})
    """
    masks = [mask.tolist() for mask in presence.values()]
    return Counter("+".join(name for name, there in zip(presence, row) if there) or "nothing" for row in zip(*masks))


def _patterns(splits: Mapping[str, Presence]) -> Table:
    found = {name: patterns(presence) for name, presence in splits.items()}
    total = sum(found.values(), Counter())
    rows = [[pattern, *(count(one[pattern]) for one in found.values())] for pattern, _ in total.most_common()]
    return Table("What rows have", ["exactly", *splits], rows, "How many rows have these modalities and no others.")


def _skipped(skipped: Sequence[Problem]) -> Part:
    if not skipped:
        return Text("", "")
    rows = [[one.id, str(one.row), one.column, one.what] for one in skipped[:MOST_PROBLEMS]]
    more = f" The first {MOST_PROBLEMS} of {len(skipped)}." if len(skipped) > MOST_PROBLEMS else ""
    kinds = Counter(one.column for one in skipped)
    columns = listed(f"{number} in {column or 'the table'}" for column, number in kinds.most_common())
    return Table("Rows set aside, and why", ["id", "row", "column", "what is wrong"], rows, f"{columns}.{more}", (),
                 f"All {len(skipped)} problems" if len(skipped) > 12 else "")  # fmt: skip
