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
    >>> found = coverage(present)
    >>> found.complete("image+text"), found.complete("text"), found.rows
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
        wanted = Subset.parse(subset)
        unknown = wanted - set(self.modalities)
        if unknown:
            raise ValueError(f"subset {wanted}: expected modalities of {', '.join(self.modalities)}; got {wanted}")
        return sum(count for pattern, count in self.patterns.items() if wanted <= pattern)

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """Every subset, small ones first; with more than 6 modalities only singles, pairs and all of them."""
        n = len(self.modalities)
        sizes = range(1, n + 1) if n <= _LISTED else (1, 2, n)
        return tuple(Subset(*names) for size in sizes for names in combinations(self.modalities, size))

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: subsets and patterns by their printed names, "" for rows that have nothing."""
        return {
            "modalities": list(self.modalities),
            "rows": self.rows,
            "complete": {str(subset): self.complete(subset) for subset in self.subsets},
            "patterns": {"+".join(pattern): count for pattern, count in self.patterns.items()},
        }

    def to_rich(self) -> "rich.table.Table":
        """Two tables side by side: the complete rows of every subset, and the patterns with their rows."""
        from rich.table import Table
        from rich.text import Text

        complete = Table("subset", box=None, pad_edge=False, title="rows that have at least", title_justify="left")
        patterns = Table("pattern", box=None, pad_edge=False, title="rows that have exactly", title_justify="left")
        for table in (complete, patterns):
            table.add_column("rows", justify="right")
            table.add_column("%", justify="right")
        if all(self.complete(subset) == self.rows for subset in self.subsets):
            complete.add_row("every subset", *self._share(self.rows))  # 31 lines of 100 % would say no more
            return complete
        for subset in self.subsets:
            complete.add_row(Text(str(subset)), *self._share(self.complete(subset)))
        for pattern, count in self.patterns.items():
            patterns.add_row(Text("+".join(pattern) or "nothing"), *self._share(count))
        both = Table.grid(padding=(0, 4))
        both.add_row(complete, patterns)
        return both

    def _share(self, count: int) -> tuple[str, str]:
        return f"{count:,}", f"{100 * count / self.rows:.1f}" if self.rows else "-"


def coverage(present: Mapping[str, Any]) -> Coverage:
    """Count which rows have which modalities.

    Args:
        present: modality -> (n,) bool, an array, tensor or list; True where a row has it.

    Raises:
        ValueError: no modality, or masks of differing lengths.
    """
    found = pattern_of_rows(present)
    modalities = tuple(present)
    counts = Counter(frozenset() if pattern is None else pattern for pattern in found)
    # Of equal counts the one with more modalities first, so that the order does not depend on that of the rows.
    order = sorted(counts, key=lambda one: (-counts[one], -len(one), [modalities.index(name) for name in one]))
    return Coverage(modalities, {pattern: counts[pattern] for pattern in order}, len(found))


def pattern_of_rows(present: Mapping[str, Any]) -> list[Subset | None]:
    """The modalities that each row has, in the order of `present`; None for a row that has none.

    Args:
        present: modality -> (n,) bool.

    Raises:
        ValueError: no modality, or masks of differing lengths.

    Example:
        >>> pattern_of_rows({"image": [True, False], "text": [True, False]})
        [Subset('image+text'), None]
    """
    lengths = {name: len(mask) for name, mask in present.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"present: expected a mask for at least one modality, all of one length; got {lengths}")
    names = tuple(present)
    masks = np.stack([_as_array(present[name]) for name in names], axis=1)
    # Few patterns, many rows: each pattern is named once.
    patterns, numbers = np.unique(masks, axis=0, return_inverse=True)
    subsets = [Subset(*np.array(names)[mask].tolist()) if mask.any() else None for mask in patterns]
    return [subsets[number] for number in numbers.reshape(-1).tolist()]


def _as_array(mask: Any) -> np.ndarray:
    return np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask, dtype=bool)
