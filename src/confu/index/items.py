"""Items of an index and hits of a search, and the unit vectors that an index accepts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_finite
from confu.embeddings import EmbeddingTable
from confu.index.catalog import About
from confu.index.columns import KEPT, flat_columns, stored_type
from confu.plan import Subset

_UNIT = 1e-5  # a length this near to 1 is left as it is, so that what was stored is bitwise what was given
UNIT = 1e-3  # how far from 1 the length of a stored vector may be


@dataclass(frozen=True, eq=False)
class Items:
    """Items to store: their vectors, metadata, and the addresses of their files.

    Attributes:
        table: ids, and the vectors of the subsets that each item has.
        metadata: one row an item, in the table's order: columns of texts, numbers, booleans, dates, times, durations,
            lists of texts or whole numbers, and records of these.
        media: modality -> one entry an item: the address of its file, the text itself where the modality is a text, and
            None where the item has none.

    Raises:
        ValueError: if the parts are not of one length, or a column holds something else.
    """

    table: EmbeddingTable
    metadata: pa.Table = field(default_factory=lambda: pa.table({}))
    media: Mapping[str, Sequence[str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.table)
        if self.metadata.num_columns and len(self.metadata) != n:
            raise ValueError(f"metadata must have a row an item; got {len(self.metadata)} rows for {n} items")
        for name, column in self.media.items():
            if len(column) != n:
                raise ValueError(f"media[{name!r}] must have an entry an item; got {len(column)} for {n} items")
        for column in flat_columns(self.metadata).schema:
            if stored_type(column.type) is None:
                raise ValueError(f"metadata column {column.name!r} must hold {KEPT}; got {column.type}. Leave it out")

    def __len__(self) -> int:
        return len(self.table)

    def media_of(self, row: int) -> dict[str, str]:
        """Modality -> address or text of one item, without those that it lacks."""
        return {name: value for name, column in self.media.items() if (value := column[row]) is not None}

    @classmethod
    def from_media(cls, table: EmbeddingTable, metadata: pa.Table, media: Sequence[Mapping[str, str]]) -> "Items":
        """Items whose media is given item by item."""
        names = dict.fromkeys(name for one in media for name in one)
        return cls(table, metadata, {name: [one.get(name) for one in media] for name in names})


@dataclass(frozen=True)
class Item:
    """A stored item without its vectors.

    Attributes:
        id: of the item.
        metadata: column -> value; None where it is not known.
        media: modality -> the address of its file, or its text; what it lacks is left out.
        subsets: those with a vector.
    """

    id: str
    metadata: dict[str, Any]
    media: dict[str, str]
    subsets: tuple[Subset, ...]


@dataclass(frozen=True)
class Hit:
    """A search hit.

    Attributes:
        id: of the item.
        score: cosine of the query with the item's vector of the target subset.
        metadata: column -> value; None where it is not known.
        media: modality -> the address of its file, or its text; what it lacks is left out.
        equal: number of items with this content, if a search folds them into one hit; else 1.
    """

    id: str
    score: float
    metadata: dict[str, Any] = field(default_factory=dict)
    media: dict[str, str] = field(default_factory=dict)
    equal: int = 1


def items_by_id(items: Items) -> dict[str, Item]:
    """id -> item, without vectors."""
    metadata = items.metadata.to_pylist() if items.metadata.num_columns else [{} for _ in range(len(items))]
    complete = {subset: mask.tolist() for subset, mask in items.table.complete.items()}
    return {
        id: Item(id, metadata[row], items.media_of(row), tuple(one for one, mask in complete.items() if mask[row]))
        for row, id in enumerate(items.table.ids)
    }


def stack_vectors(ids: Sequence[str], vectors: Mapping[Subset, Sequence[Tensor | None]], dim: int) -> EmbeddingTable:
    """A table of ids and of each item's vectors, None where it has none."""
    stacked, complete = {}, {}
    for subset, rows in vectors.items():
        complete[subset] = torch.tensor([row is not None for row in rows], dtype=torch.bool)
        stacked[subset] = torch.zeros(len(ids), dim)
        if held := [row for row in rows if row is not None]:
            stacked[subset][complete[subset]] = torch.stack(held)
    return EmbeddingTable(tuple(ids), stacked, complete)


def unit_queries(queries: Any, dim: int) -> Float[Tensor, "queries dim"]:
    """(n, dim) float32 unit vectors of a tensor of shape (n, dim) or (dim,), or of anything with `.vectors`.

    Raises:
        ValueError: for another shape, a number that is not finite, or a vector of zeros.
    """
    vectors = getattr(queries, "vectors", queries)
    if not isinstance(vectors, Tensor):
        raise ValueError(f"queries must be a tensor, or what Embedder.encode gives; got {type(queries).__name__}")
    vectors = vectors[None] if vectors.ndim == 1 else vectors
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ValueError(
            f"queries must be vectors of {dim} numbers, as the index holds; got shape {tuple(vectors.shape)}. Embed "
            "them with the model that the index was made with"
        )
    return _unit("queries", vectors.detach().cpu().float())


def unit_items(items: Items, about: About) -> Items:
    """The same items with unit vectors.

    Raises:
        ValueError: for a subset that the index does not store, another dim, or a zero or non-finite vector.
    """
    table = items.table
    if unknown := [str(subset) for subset in table.subsets if subset not in about.subsets]:
        raise ValueError(
            f"the index stores {', '.join(map(str, about.subsets))}; the items have vectors of {', '.join(unknown)} "
            "too. Leave them out"
        )
    if table.dim != about.dim:
        raise ValueError(f"the index stores vectors of {about.dim} numbers; the items have {table.dim}")
    if table.score != "cosine":
        raise ValueError(f"an index compares by the cosine; these items are of a method that compares by {table.score}")
    if "" in table.ids:
        raise ValueError("an id must not be empty; give each item a name of its own")
    vectors = {}
    for subset in table.subsets:
        mask, values = table.complete[subset].cpu(), table[subset].cpu()
        if bool(mask.all()):
            vectors[subset] = _unit(f"vectors of {subset}", values)
        else:
            unit = _unit(f"vectors of {subset}", values[mask], mask)
            vectors[subset] = torch.zeros_like(values).index_put((mask,), unit)
    return Items(EmbeddingTable(table.ids, vectors, dict(table.complete)), items.metadata, items.media)


def _unit(name: str, vectors: Tensor, mask: Tensor | None = None) -> Tensor:
    check_finite(name, vectors)
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True, dtype=torch.float64)
    if bool((lengths == 0).any()):
        row = int((lengths == 0).nonzero()[0, 0])
        row = row if mask is None else int(mask.nonzero()[row, 0])
        raise ValueError(f"{name} must not be zero, for they have no direction; row {row} is")
    off = (lengths - 1).abs() > _UNIT
    return torch.where(off, (vectors.double() / lengths).float(), vectors) if bool(off.any()) else vectors
