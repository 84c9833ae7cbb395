"""The page's map of embeddings: by subset, and by class."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from confu.embeddings import EmbeddingTable
from confu.evaluation.html import Figure, Group, Part
from confu.evaluation.map2d import Map2D, map_2d
from confu.evaluation.map_plots import point_map
from confu.evaluation.plots import to_svg
from confu.plan import Subset
from confu.runs.words import count, percent

MOST_POINTS = 1000  # of a figure: each is an element of the page
MOST_SUBSETS = 8


def map_section(
    table: EmbeddingTable,
    labels: Int[Tensor, " n"] | None = None,
    names: Sequence[str] = (),
    main: Subset | None = None,
    method: str = "pca",
) -> Group:
    """Points by subset, and those of the main subset by class.

    Args:
        table: of embeddings.
        labels: the class of each row, -1 where it is not known.
        names: of the classes.
        main: the subset whose points are coloured by class; the largest one by default.
        method: see `map_2d`.
    """
    parts = [_by_subset(table, main, method)]
    if labels is not None and names and bool((labels >= 0).any()):
        largest = max(table.subsets, key=len)
        drawn = largest if main is None or main not in table.vectors else main
        parts.append(_by_class(table, labels, names, drawn, method))
    words = (
        "Vectors of many numbers, drawn in the two directions in which they differ most. What is far apart here is far "
        "apart; what is close here need not be."
        if method == "pca"
        else "t-SNE: neighbours are kept, distances and sizes are not."
    )
    return Group("A map of the embeddings", [part for part in parts if part is not None], words)


def _by_subset(table: EmbeddingTable, main: Subset | None, method: str) -> Part | None:
    singles = [one for one in table.subsets if not one.is_fused]
    fused = sorted((one for one in table.subsets if one.is_fused), key=lambda one: (one != main, -len(one)))
    chosen = [*singles, *fused][:MOST_SUBSETS]
    each = MOST_POINTS // len(chosen)
    vectors, colours, few = [], [], False
    for subset in chosen:
        complete = table.rows_with(subset)
        rows = _sample(complete, each)
        vectors.append(table[subset][rows])
        colours += [str(subset)] * len(rows)
        few |= len(rows) < len(complete)
    if not colours:
        return None
    drawn = f" Of each, {count(each)} rows at most, drawn at random." if few else ""
    more = len(table.subsets) - len(chosen)
    left = f" {more} further subsets are not drawn." if more else ""
    words = "Subsets that lie apart are a modality gap: each side is still ranked by its neighbours on the other side."
    placed = map_2d(torch.cat(vectors), method)
    return _figure("By subset", placed, colours, list(map(str, chosen)), words + drawn + left)


def _by_class(table: EmbeddingTable, labels: Tensor, names: Sequence[str], subset: Subset, method: str) -> Part | None:
    known = table.rows_with(subset)
    complete = known[labels[known] >= 0]
    rows = _sample(complete, MOST_POINTS)
    if not len(rows):
        return None
    few = f" {count(len(rows))} of {count(len(complete))} rows, drawn at random." if len(rows) < len(complete) else ""
    colours = [str(names[label]) for label in labels[rows].tolist()]
    placed = map_2d(table[subset][rows], method)
    return _figure(f"{subset}, by class", placed, colours, list(names), f"The embeddings of {subset}.{few}")


def _figure(heading: str, placed: Map2D, colours: Sequence[str], order: Sequence[str], words: str) -> Figure:
    across, up = [f"{percent(share)} % of the variance" for share in placed.shares or ()] or ["", ""]
    svg = to_svg(point_map(placed.points.tolist(), colours, across, up, order))
    return Figure(heading, svg, f"{len(colours)} points in {len(set(colours))} colours.", words)


def _sample(rows: Tensor, most: int) -> Tensor:
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:most].sort().values]
