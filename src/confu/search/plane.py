"""A 2-D map of a collection: its items in the plane in which their vectors vary most."""

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
        projection: of the space into the plane.
        items: id, x, y, and the item's label as a text or None; a sample where there are many.
    """

    subset: Subset
    projection: Projection
    items: list[tuple[str, float, float, str | None]]

    @cached_property
    def places(self) -> dict[str, tuple[float, float]]:
        """id -> x and y."""
        return {id: (x, y) for id, x, y, _ in self.items}


def plane_of(index: Index, subset: Subset, max_items: int = MAP_ITEMS, seed: int = 0) -> Plane:
    """The plane of the two principal directions of the index's vectors of a subset.

    Args:
        index: of items.
        subset: a stored one.
        max_items: of more, a sample is shown.
        seed: of the sample.

    Raises:
        ValueError: if no item has the subset.
    """
    ids = list(index.ids())
    if len(ids) > max_items:
        sample = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))[:max_items]
        ids = [ids[row] for row in sample.sort().values.tolist()]
    items = index.fetch(ids)
    rows = items.table.rows_with(subset).tolist()
    if not rows:
        raise ValueError(f"no item of the index has {subset}, so that there is no map of it")
    vectors = items.table[subset][rows]
    projection = projection_of(vectors)
    labels: list[Any] = [None] * len(ids)
    if LABEL in items.metadata.column_names:
        labels = items.metadata[LABEL].to_pylist()
    points = [
        (ids[row], round(x, 5), round(y, 5), None if labels[row] is None else str(labels[row]))
        for row, (x, y) in zip(rows, projection.points(vectors).tolist())
    ]
    return Plane(subset, projection, points)


def places_of(
    index: Index, plane: Plane, ids: Sequence[str], query: Float[Tensor, " dim"]
) -> dict[str | None, tuple[float, float]]:
    """The positions of items in a plane by id, and under None that of the query vector.

    An item that was deleted meanwhile is left out.
    """
    places: dict[str | None, tuple[float, float]] = {id: plane.places[id] for id in ids if id in plane.places}
    others = [id for id in dict.fromkeys(ids) if id not in places]
    vectors = [query]
    try:
        vectors += list(index.fetch(others).table[plane.subset]) if others else []
    except KeyError:
        others = []
    for id, (x, y) in zip([None, *others], plane.projection.points(torch.stack(vectors)).tolist()):
        places[id] = (round(x, 5), round(y, 5))
    return places
