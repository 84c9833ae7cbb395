"""Vectors as an index takes them: of its dim, finite, of length one."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from confu.checks import check_finite
from confu.embeddings import EmbeddingTable
from confu.index.about import About
from confu.index.items import Items

_NEAR = 1e-5  # a length so near to 1 is left as it is, so that what was stored is bitwise what was given


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
        ValueError: for a subset that the index does not store, another dim, or a vector that has no direction.
    """
    table = items.table
    stored = set(about.subsets)
    if unknown := [str(subset) for subset in table.subsets if subset not in stored]:
        raise ValueError(
            f"the index stores {', '.join(map(str, about.subsets))}; the items have vectors of {', '.join(unknown)} "
            "too. Leave them out"
        )
    if table.dim != about.dim:
        raise ValueError(f"the index stores vectors of {about.dim} numbers; the items have {table.dim}")
    if table.score != "cosine":
        raise ValueError(f"an index compares by the cosine; these items are of a method that compares by {table.score}")
    vectors = {}
    for subset in table.subsets:
        mask, found = table.complete[subset].cpu(), table[subset].cpu()
        unit = _unit(f"vectors of {subset}", found[mask], mask)
        vectors[subset] = found if unit is None else torch.zeros_like(found).index_put((mask,), unit)
    return Items(EmbeddingTable(table.ids, vectors, dict(table.complete)), items.metadata, items.media)


def _unit(name: str, vectors: Tensor, mask: Tensor | None = None) -> Tensor:
    check_finite(name, vectors)
    lengths = vectors.double().norm(dim=1, keepdim=True)
    if bool((lengths == 0).any()):
        row = int((lengths == 0).nonzero()[0, 0])
        row = row if mask is None else int(mask.nonzero()[row, 0])
        raise ValueError(f"{name} must not be zero, for they have no direction; row {row} is")
    off = (lengths - 1).abs() > _NEAR
    return torch.where(off, (vectors.double() / lengths).float(), vectors)
