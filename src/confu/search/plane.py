"""A map of a collection: where its items lie in the plane in which they vary most."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from confu.evaluation.map2d import Projection, projection_of
from confu.index import Index
from confu.plan import Subset

MAP_ITEMS = 5000
LABEL = "label"


@dataclass(frozen=True, eq=False)
class Plane:
    """Items of a collection in the plane.

    Attributes:
        subset: whose vectors are shown.
        projection: puts other vectors of the space into the same plane.
        items: id, x, y, and the item's label as a text or None; a sample where there are many.
    """

    subset: Subset
    projection: Projection
    items: list[tuple[str, float, float, str | None]]

    @cached_property
    def places(self) -> dict[str, tuple[float, float]]:
        """Where the items that are shown lie, by id."""
        return {id: (x, y) for id, x, y, _ in self.items}


def plane_of(index: Index, subset: Subset, most: int = MAP_ITEMS, seed: int = 0) -> Plane:
    """The plane of the two directions in which an index's vectors of a subset vary most.

    Args:
        index: of items.
        subset: one that it stores.
        most: items that are shown; more are sampled.
        seed: of the sample.

    Raises:
        ValueError: if no item has the subset.
    """
    ids = list(index.ids())
    if len(ids) > most:
        drawn = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))[:most]
        ids = [ids[place] for place in drawn.sort().values.tolist()]
    found = index.fetch(ids) if ids else None
    rows = [] if found is None else found.table.rows_with(subset).tolist()
    if found is None or not rows:
        raise ValueError(f"no item of the index has {subset}, so that there is no map of it")
    vectors = found.table[subset][rows]
    projection = projection_of(vectors)
    labels: list[Any] = [None] * len(ids)
    if LABEL in found.metadata.column_names:
        labels = found.metadata[LABEL].to_pylist()
    points = projection.points(vectors).tolist()
    items = [
        (ids[row], round(x, 5), round(y, 5), None if labels[row] is None else str(labels[row]))
        for row, (x, y) in zip(rows, points)
    ]
    return Plane(subset, projection, items)


def places_of(
    index: Index, plane: Plane, ids: Sequence[str], query: Float[Tensor, " dim"]
) -> dict[str | None, tuple[float, float]]:
    """Where some items lie in a plane, by id, and under None the query.

    Args:
        index: of the items.
        plane: made of it.
        ids: of items that have the plane's subset; one that was deleted meanwhile is left out.
        query: a vector of the same space.
    """
    known = plane.places
    found: dict[str | None, tuple[float, float]] = {id: known[id] for id in ids if id in known}
    rows = [query]
    others = [id for id in dict.fromkeys(ids) if id not in known]
    try:
        rows += list(index.fetch(others).table[plane.subset]) if others else []
    except KeyError:
        others = []
    for id, (x, y) in zip([None, *others], plane.projection.points(torch.stack(rows)).tolist()):
        found[id] = (round(x, 5), round(y, 5))
    return found
