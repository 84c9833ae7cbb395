"""A column over a memory-mapped cache."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.data.columns import Indices
from confu.data.part_store import PartStore
from confu.data.readers import Reader
from confu.types import Inputs


class CachedColumn:
    """Rows whose items lie in a `PartStore`. Rows of equal content share one input.

    Args:
        store: holds the items.
        keys: one a row; None where a row lacks this modality.
        collate: what the encoder gets for some items: one tensor of them, or a list from a ragged store; it may be
            empty.
        reader: read the items, if a reader did.
    """

    def __init__(
        self,
        store: PartStore,
        keys: Sequence[str | None],
        collate: Callable[[Any], Tensor | dict[str, Tensor]],
        reader: Reader | None = None,
    ) -> None:
        self.store = store
        self.keys = list(keys)
        self.reader = reader
        self._collate = collate
        numbers = {key: number for number, key in enumerate(dict.fromkeys(key for key in self.keys if key is not None))}
        self._places: Int[Tensor, "items 3"] = store.places(list(numbers))
        self._item = torch.tensor([-1 if key is None else numbers[key] for key in self.keys], dtype=torch.long)

    def __len__(self) -> int:
        return len(self._item)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """(n,) the rows that have an item."""
        return self._item >= 0

    def check(self, modality: str) -> None:
        """See `Column`; items were checked before they were stored."""

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`."""
        wanted = self._item[indices]
        present = wanted >= 0
        distinct, positions = wanted[present].unique(return_inverse=True)
        rows = torch.full_like(wanted, -1)
        rows[present] = positions
        items = self.store.gather(self._places[distinct]) if len(distinct) else []
        return Inputs(self._collate(items), rows)
