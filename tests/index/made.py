"""Small collections of items with gaps, and the slow way to search them."""

from pathlib import Path

import pyarrow as pa
import torch
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.index import About, Index, Items
from confu.plan import Subset

DIM = 8
IMAGE, TEXT, BOTH = Subset("image"), Subset("text"), Subset("image", "text")
ABOUT = About("runs/by-hand", "f00d", DIM, (IMAGE, TEXT, BOTH), {"image": "image", "text": "text"})


def items(n: int, seed: int = 0, start: int = 0, name: str = "id") -> Items:
    """n items, of which about a third have no image, with metadata that has gaps."""
    generator = torch.Generator().manual_seed(seed)
    vectors = {subset: normalize(torch.randn(n, DIM, generator=generator), dim=1) for subset in ABOUT.subsets}
    has = torch.rand(n, generator=generator) > 0.3
    numbers = range(start, start + n)
    metadata = pa.table({
        "year": pa.array([None if number % 10 == 9 else 2000 + number % 10 for number in numbers], pa.int64()),
        "site": pa.array(["abc"[number % 3] for number in numbers], pa.string()),
        "weight": pa.array([number / 4 for number in numbers], pa.float64()),
        "tame": pa.array([number % 2 == 0 for number in numbers], pa.bool_()),
    })  # fmt: skip
    media = {
        "image": [f"/photos/{number}.png" if has[row] else None for row, number in enumerate(numbers)],
        "text": [f"bird {number}" for number in numbers],
    }
    ids = tuple(f"{name}{number}" for number in numbers)
    return Items(EmbeddingTable(ids, vectors, {IMAGE: has, BOTH: has}), metadata, media)


def queries(n: int = 3, seed: int = 9) -> torch.Tensor:
    return normalize(torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


def made(folder: Path, *parts: Items) -> Index:
    index = Index.create(folder, ABOUT)
    for part in parts:
        index.add(part)
    return index


def same(a: Items, b: Items) -> bool:
    """Whether items are bitwise the same."""
    return (
        a.table.ids == b.table.ids
        and set(a.table.subsets) == set(b.table.subsets)
        and all(torch.equal(a.table[one], b.table[one]) for one in a.table.subsets)
        and all(torch.equal(a.table.complete[one], b.table.complete[one]) for one in a.table.subsets)
        and a.metadata.to_pylist() == b.metadata.to_pylist()
        and {name: list(column) for name, column in a.media.items() if any(column)}
        == {name: list(column) for name, column in b.media.items() if any(column)}
    )
