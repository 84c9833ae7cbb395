"""How complete data with gaps are: which rows have which modalities, counted by subset and by pattern."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from confu.plan import Subset

if TYPE_CHECKING:
    import rich.table

_LISTED = 6  # with more modalities than this their subsets are too many to list


@dataclass(frozen=True)
class Coverage:
    """How many rows have which modalities.

    Attributes:
        modalities: in their order.
        patterns: exactly these modalities -> rows that have them, the most frequent first. An empty set stands for
            the rows that have none.
        rows: all of them.

    >>> present = {"image": [True, True, False], "text": [True, False, True]}
    >>> counts = coverage(present)
    >>> counts.complete("image+text"), counts.complete("text"), counts.rows
    (1, 2, 3)
    """

    modalities: tuple[str, ...]
    patterns: dict[frozenset[str], int]
    rows: int

    def complete(self, subset: Subset | str) -> int:
        """How many rows have every modality of a subset, and maybe others.

        Raises:
            ValueError: a modality that there is none of.
        """
        subset = Subset.parse(subset)
        if subset - set(self.modalities):
            raise ValueError(f"subset {subset}: expected modalities of {', '.join(self.modalities)}; got {subset}")
        return sum(count for pattern, count in self.patterns.items() if subset <= pattern)

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """Every subset, small ones first; with more than 6 modalities only singles, pairs and all of them."""
        n = len(self.modalities)
        sizes = range(1, n + 1) if n <= _LISTED else (1, 2, n)
        return tuple(Subset(*names) for size in sizes for names in combinations(self.modalities, size))

    def to_rich(self) -> "rich.table.Table":
        """Two tables side by side: the complete rows of every subset, and the patterns with their rows."""
        from rich.table import Table
        from rich.text import Text

        complete = Table("subset", box=None, pad_edge=False, title="rows that have at least", title_justify="left")
        patterns = Table("pattern", box=None, pad_edge=False, title="rows that have exactly", title_justify="left")
        for table in (complete, patterns):
            table.add_column("rows", justify="right")
            table.add_column("%", justify="right")

        def add(table: Table, name: str, count: int) -> None:
            table.add_row(Text(name), f"{count:,}", f"{100 * count / self.rows:.1f}" if self.rows else "-")

        if all(self.complete(subset) == self.rows for subset in self.subsets):
            add(complete, "every subset", self.rows)  # 31 lines of 100 % would say no more
            return complete
        for subset in self.subsets:
            add(complete, str(subset), self.complete(subset))
        for pattern, count in self.patterns.items():
            add(patterns, "+".join(pattern) or "nothing", count)
        both = Table.grid(padding=(0, 4))
        both.add_row(complete, patterns)
        return both


def coverage(present: Mapping[str, Any]) -> Coverage:
    """Count which rows have which modalities.

    Args:
        present: modality -> (n,) bool, an array, tensor or list; True where a row has it.

    Raises:
        ValueError: no modality, or masks of differing lengths.
    """
    patterns = pattern_of_rows(present)
    modalities = tuple(present)
    counts = Counter(frozenset() if pattern is None else pattern for pattern in patterns)
    # Of equal counts the one with more modalities first, so that the order does not depend on that of the rows.
    order = sorted(counts, key=lambda key: (-counts[key], -len(key), [modalities.index(name) for name in key]))
    return Coverage(modalities, {pattern: counts[pattern] for pattern in order}, len(patterns))


def pattern_of_rows(present: Mapping[str, Any]) -> list[Subset | None]:
    """The modalities that each row has, in the order of `present`, as for `coverage`; None for a row without any.

    Example:
        >>> pattern_of_rows({"image": [True, False], "text": [True, False]})
        [Subset('image+text'), None]
    """
    lengths = {name: len(mask) for name, mask in present.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"present: expected a mask for at least one modality, all of one length; got {lengths}")
    names = np.array(list(present))
    arrays = [np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask, dtype=bool) for mask in present.values()]
    # Few patterns, many rows: each pattern is named once.
    patterns, numbers = np.unique(np.stack(arrays, axis=1), axis=0, return_inverse=True)
    subsets = [Subset(*names[mask].tolist()) if mask.any() else None for mask in patterns]
    return [subsets[number] for number in numbers.reshape(-1).tolist()]
