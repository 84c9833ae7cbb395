"""Which modalities each item has, and which subset of them a model shall embed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from confu.checks import check_known
from confu.plan import Subset

_SHOWN = 8  # positions in an error


def check_columns(columns: Mapping[str, Sequence[Any]], modalities: Sequence[str]) -> dict[str, list[Any]]:
    """The sources as lists, one a modality, all of one length.

    Args:
        columns: modality -> one source an item, None where it has none.
        modalities: those that are known.

    Raises:
        ValueError: if there is no list, a modality is unknown, or the lengths differ.

    >>> check_columns({"text": ["a dog", None]}, ["image", "text"])
    {'text': ['a dog', None]}
    """
    if not columns:
        raise ValueError(f"there is nothing to encode; give a list for one or more of {', '.join(modalities)}")
    for name, column in columns.items():
        check_known("modality", name, modalities)
        if isinstance(column, str | bytes) or not hasattr(column, "__len__"):
            raise ValueError(
                f"{name} must be a list with one source an item, None where it has none; got {type(column).__name__}. "
                f"For one item write {name}=[...]"
            )
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(
            f"the lists must be of one length, an entry an item; {told}. Put None where an item lacks a modality"
        )
    return {name: list(column) for name, column in columns.items()}


def present_sets(columns: Mapping[str, Sequence[Any]], modalities: Sequence[str]) -> list[Subset | None]:
    """The modalities that each item has, in the order of `modalities`; None for an item with nothing.

    >>> present_sets({"image": [1, None, None], "text": ["a", "b", None]}, ["text", "image"])
    [Subset('text+image'), Subset('text'), None]
    """
    there = [name for name in modalities if name in columns]
    number = len(next(iter(columns.values())))
    names = ([name for name in there if columns[name][position] is not None] for position in range(number))
    return [Subset(*found) if found else None for found in names]


def choose_subsets(
    present: Sequence[Subset | None],
    supported: Sequence[Subset],
    use: Subset | str | Sequence[Subset | str] | None = None,
    score: str = "cosine",
) -> list[Subset]:
    """The subset that shall be embedded of each item: all that it has, or what `use` says.

    Args:
        present: the modalities of each item.
        supported: the subsets that the model embeds.
        use: one subset for all items, or several, of which each item gets the first that it has in full.
        score: how the model's method compares embeddings, for the error.

    Raises:
        ValueError: if an item has nothing, if it has a set that the model does not embed, or if it has none of `use`.

    >>> image, both = Subset("image"), Subset("image", "audio")
    >>> choose_subsets([both, image], [image, both])
    [Subset('image+audio'), Subset('image')]
    >>> choose_subsets([both, image], [image, both], use="image")
    [Subset('image'), Subset('image')]
    """
    can = f"this model embeds {', '.join(map(str, supported))}"
    if nothing := [position for position, found in enumerate(present) if found is None]:
        raise ValueError(f"{_items(nothing)} no modality at all; give each item at least one source. Note that {can}")
    sets = [found for found in present if found is not None]
    if use is None:
        lacking: dict[Subset, list[int]] = {}
        for position, found in enumerate(sets):
            if found not in supported:
                lacking.setdefault(found, []).append(position)
        if lacking:
            told = "; ".join(f"{_items(positions)} {subset}" for subset, positions in lacking.items())
            raise ValueError(f"{told}, but {can}. {_advice(next(iter(lacking)), supported, score)}")
        return sets
    wanted = [Subset.parse(use)] if isinstance(use, str | Subset) else [Subset.parse(one) for one in use]
    if not wanted:
        raise ValueError(f"use must name a subset or several; got none. Leave it out, or choose: {can}")
    for subset in wanted:
        if subset not in supported:
            raise ValueError(f"use names {subset}, but {can}")
    wanted = [next(one for one in supported if one == subset) for subset in wanted]  # printed in the plan's order
    chosen = [next((subset for subset in wanted if subset <= found), None) for found in sets]
    if short := [position for position, subset in enumerate(chosen) if subset is None]:
        told = " or ".join(map(str, wanted))
        raise ValueError(
            f"{_items(short)} not all of {told}, which use asks for; item {short[0]} has {sets[short[0]]}. Add a "
            "subset that it has, e.g. use=['image+audio', 'image'], or leave the item out"
        )
    return [subset for subset in chosen if subset is not None]


def batches_by_subset(chosen: Sequence[Subset], size: int) -> Iterator[tuple[Subset, list[int]]]:
    """The positions of the items of each subset, at most `size` at once.

    >>> image, both = Subset("image"), Subset("image", "audio")
    >>> [positions for _, positions in batches_by_subset([both, image, both, both], 2)]
    [[0, 2], [3], [1]]
    """
    groups: dict[Subset, list[int]] = {}
    for position, subset in enumerate(chosen):
        groups.setdefault(subset, []).append(position)
    for subset, positions in groups.items():
        for start in range(0, len(positions), size):
            yield subset, positions[start : start + size]


def _advice(subset: Subset, supported: Iterable[Subset], score: str) -> str:
    if score != "cosine":
        return (
            f"Its method compares the embeddings of single modalities (by {score}) and fuses none: encode each "
            "modality by itself"
        )
    inside = [str(one) for one in supported if one < subset]
    if not inside:
        return f"No part of it can be embedded; train with a term of {subset}"
    return f"Pass use={inside[-1]!r} to embed that part of it, or train with a term of {subset}"


def _items(positions: Sequence[int]) -> str:
    more = f" and {len(positions) - _SHOWN} more" if len(positions) > _SHOWN else ""
    item, has = ("items", "have") if len(positions) > 1 else ("item", "has")
    return f"{item} {', '.join(map(str, positions[:_SHOWN]))}{more} {has}"
