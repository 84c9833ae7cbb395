"""Labels and groups of a manifest as numbers."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


def class_names_of(labels: Sequence[str | None]) -> tuple[str, ...]:
    """The classes in sorted order; whole numbers by their value.

    >>> class_names_of(["dog", "cat", "dog"]), class_names_of(["10", "9"])
    (('cat', 'dog'), ('9', '10'))
    """
    found = {label for label in labels if label is not None}
    return tuple(sorted(found, key=lambda name: (int(name), name)) if all(map(_whole, found)) else sorted(found))


def class_numbers(labels: Sequence[str | None] | None, names: Sequence[str] | None) -> Int[Tensor, " n"] | None:
    """The class of each row; None if the classes are not known, or not of every row."""
    if labels is None or names is None or any(label is None for label in labels):
        return None
    number = {name: position for position, name in enumerate(names)}
    return torch.tensor([number[str(label)] for label in labels], dtype=torch.long)


def group_numbers(groups: Sequence[str | None]) -> Int[Tensor, " n"]:
    """A number for each group; -1 for a row of no group.

    >>> group_numbers(["b", None, "a", "b"]).tolist()
    [1, -1, 0, 1]
    """
    number = {name: position for position, name in enumerate(sorted({one for one in groups if one is not None}))}
    return torch.tensor([-1 if one is None else number[one] for one in groups], dtype=torch.long)


def _whole(name: str) -> bool:
    return name.removeprefix("-").isdecimal()
