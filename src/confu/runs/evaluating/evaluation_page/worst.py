"""The page's section on the worst queries: what was asked, what was sought, and what was found first."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from confu.evaluation.html import Card, Examples, Group, Part
from confu.runs.evaluating.evaluation_page.media import Shown
from confu.runs.evaluating.retrieval_measures import RetrievalMeasures
from confu.runs.words import count

MOST = 6


def worst_section(
    measures: RetrievalMeasures,
    shown: Mapping[str, Shown],
    labels: Int[Tensor, " n"] | None = None,
    names: Sequence[str] = (),
    most: int = MOST,
) -> Group | None:
    """The queries whose own target stands furthest back.

    Args:
        measures: of the page's rows.
        shown: by modality.
        labels: the class of each row, -1 where it is not known.
        names: of the classes.
        most: cards.
    """
    if measures.main is None:
        return None
    query, target = measures.main
    ranked = measures.ranked[str(query), str(target)]
    ranks = ranked.ranks()
    order = torch.argsort(ranks, descending=True, stable=True)
    order = order[ranks[order] > 1][:most]
    if not len(order):
        return Group("The worst queries", [], f"None: each {query} finds its own {target} first.")
    ids = measures.table.ids
    cards = []
    for at in order.tolist():
        row, first = int(ranked.rows[at]), int(ranked.first[at])
        title = f"{ids[row]}: rank {ranks[at]:g} of {count(ranked.gallery)}"
        text = "" if labels is None else _classes(labels[row], labels[first], names)
        exhibits = [shown[name].show(ids[row], f"asked with: {name}") for name in query if name in shown]
        exhibits += [shown[name].show(ids[row], f"sought: its {name}") for name in target if name in shown]
        other = ids[first]
        exhibits += [shown[name].show(other, f"found first: {name} of {other}") for name in target if name in shown]
        cards.append(Card(title, text=text, exhibits=exhibits))
    parts: list[Part] = [Examples("", cards)]
    return Group("The worst queries", parts,
                 f"{query} → {target}: the rows whose own {target} stands furthest back, as the model sees them. Look "
                 "for wrong pairs and for targets that say the same: they are not the model's errors.")  # fmt: skip


def _classes(own: Tensor, first: Tensor, names: Sequence[str]) -> str:
    """The class of what was sought and of what was found, where both are known."""
    return f"class: {names[int(own)]}; found first: {names[int(first)]}" if int(own) >= 0 and int(first) >= 0 else ""
