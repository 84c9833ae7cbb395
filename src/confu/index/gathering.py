"""Items put together, and chosen in an order."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from confu.embeddings import EmbeddingTable
from confu.index.items import Items
from confu.plan import Subset


def no_items(subsets: Sequence[Subset], dim: int, schema: pa.Schema) -> Items:
    """No item, of these subsets and columns."""
    return Items(EmbeddingTable((), {subset: torch.zeros(0, dim) for subset in subsets}), schema.empty_table())


def joined(parts: Sequence[Items]) -> Items:
    """The items of several parts that hold the same subsets and columns, one part after the other."""
    tables = [part.table for part in parts]
    names = dict.fromkeys(name for part in parts for name in part.media)
    return Items(
        EmbeddingTable(
            tuple(id for table in tables for id in table.ids),
            {subset: torch.cat([table[subset] for table in tables]) for subset in tables[0].subsets},
            {subset: torch.cat([table.complete[subset] for table in tables]) for subset in tables[0].subsets},
        ),
        pa.concat_tables([part.metadata for part in parts]),
        {name: [one for part in parts for one in part.media.get(name, [None] * len(part))] for name in names},
    )


def selected(items: Items, rows: Sequence[int] | np.ndarray) -> Items:
    """The items of these rows, in their order."""
    order = np.asarray(rows, dtype=np.int64)
    return Items(
        items.table.select(torch.from_numpy(order)),
        items.metadata.take(pa.array(order)) if items.metadata.num_columns else items.metadata,
        {name: [column[row] for row in order] for name, column in items.media.items()},
    )
