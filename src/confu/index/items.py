"""What an index holds of each item, and what a search finds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from confu.embeddings import EmbeddingTable

Media = Mapping[str, Sequence[str | None]]


@dataclass(frozen=True, eq=False)
class Items:
    """Items to be stored: their vectors, what is known of them, and where their files lie.

    Attributes:
        table: ids, and the vectors of the subsets that each item has.
        metadata: one row an item, in the table's order: columns of texts, whole numbers, floats, booleans or times.
        media: modality -> one entry an item: the address of its file, the text itself where the modality is a text, and
            None where the item has none.

    Raises:
        ValueError: if the parts are not of one length, or a column holds something else than one value a row.
    """

    table: EmbeddingTable
    metadata: pa.Table = field(default_factory=lambda: pa.table({}))
    media: Media = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.table)
        if self.metadata.num_columns and len(self.metadata) != n:
            raise ValueError(f"metadata must have a row an item; got {len(self.metadata)} rows for {n} items")
        for name, column in self.media.items():
            if len(column) != n:
                raise ValueError(f"media[{name!r}] must have an entry an item; got {len(column)} for {n} items")
        for column in self.metadata.schema:
            if not is_scalar(column.type):
                raise ValueError(
                    f"metadata column {column.name!r} must hold one text, number, boolean or time a row; got "
                    f"{column.type}. Leave it out"
                )

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True)
class Hit:
    """An item that a search found.

    Attributes:
        id: of the item.
        score: the cosine of the query with the item's vector of the target subset.
        metadata: column -> value; None where it is not known.
        media: modality -> the address of its file, or its text; what it lacks is left out.
    """

    id: str
    score: float
    metadata: dict[str, Any] = field(default_factory=dict)
    media: dict[str, str] = field(default_factory=dict)


def is_scalar(kind: pa.DataType) -> bool:
    """Whether a column of this type can be metadata: one text, number, boolean or time a row."""
    kinds = pa.types
    return any(
        fits(kind)
        for fits in (
            kinds.is_string, kinds.is_large_string, kinds.is_integer, kinds.is_floating, kinds.is_boolean,
            kinds.is_timestamp, kinds.is_date,
        )
    )  # fmt: skip
