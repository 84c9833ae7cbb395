"""What an index knows of one item."""

from dataclasses import dataclass
from typing import Any

from confu.index.items import Items
from confu.plan import Subset


@dataclass(frozen=True)
class Item:
    """An item without its vectors.

    Attributes:
        id: of the item.
        metadata: column -> value; None where it is not known.
        media: modality -> the address of its file, or its text; what it lacks is left out.
        subsets: those that it has a vector of.
    """

    id: str
    metadata: dict[str, Any]
    media: dict[str, str]
    subsets: tuple[Subset, ...]


def items_by_id(items: Items) -> dict[str, Item]:
    """Each of the items by its id."""
    metadata = items.metadata.to_pylist() if items.metadata.num_columns else [{} for _ in range(len(items))]
    complete = {subset: mask.tolist() for subset, mask in items.table.complete.items()}
    return {
        id: Item(
            id,
            metadata[row],
            {name: one for name, column in items.media.items() if (one := column[row]) is not None},
            tuple(subset for subset, mask in complete.items() if mask[row]),
        )
        for row, id in enumerate(items.table.ids)
    }
