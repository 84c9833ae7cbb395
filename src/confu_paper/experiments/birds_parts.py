"""Which rows of Bird-MML are learned from, and which are held out: the set itself has no parts."""

import hashlib
from collections.abc import Sequence

from confu_paper.datasets.birds import BirdRows

PARTS = ("train", "validation", "test")
MOST_LOST = 0.2


def bird_parts(
    rows: BirdRows, held_out: int, per_species: int | None = None, limit: int | None = None
) -> dict[str, BirdRows]:
    """The rows in three parts, decided by their ids alone.

    No photo of a held-out row is in another part. Neither is a sound, unless a fifth of a species' rows would be lost
    to training by it, where recordings are used again and again. If the file says itself which rows are for validation
    and test, that is kept.

    Args:
        rows: all.
        held_out: rows of each species for validation, and as many for test; at most a quarter of it each.
        per_species: training rows of each species at most.
        limit: training rows at most, as many of each species as there are.

    Returns:
        by "train", "validation" and "test".

    Raises:
        ValueError: if no row is left to learn from, or none to validate or test on.
    """
    chosen: dict[str, list[int]] = {part: [] for part in PARTS}
    if {"validation", "test"} <= set(rows.splits):
        for row, split in enumerate(rows.splits):
            if split in chosen:
                chosen[split].append(row)
    else:
        for of_class in _by_class(rows):
            for part, found in _divided(rows, of_class, held_out).items():
                chosen[part] += found
    for part in PARTS:
        if not chosen[part]:
            raise ValueError(
                f"{len(rows)} rows leave none for {part}: a species needs at least 4 rows with different photos"
            )
    ranked = [
        (rank, _draw(rows.ids[row]), row)
        for of_class in _by_class(rows, chosen["train"])
        for rank, row in enumerate(sorted(of_class, key=lambda row: _draw(rows.ids[row])))
        if per_species is None or rank < per_species
    ]
    chosen["train"] = sorted(row for *_, row in sorted(ranked)[:limit])
    return {part: rows.select(found) for part, found in chosen.items()}


def evenly(rows: BirdRows, per_class: int | None) -> BirdRows:
    """So many rows of each class at most, decided by their ids alone, in their order; all for None."""
    if per_class is None:
        return rows
    kept = [sorted(of_class, key=lambda row: _draw(rows.ids[row]))[:per_class] for of_class in _by_class(rows)]
    return rows.select(sorted(row for of_class in kept for row in of_class))


def digest(rows: BirdRows) -> str:
    """What tells one listing from another: ids, classes and texts, not where the files lie."""
    hashed = hashlib.sha256()
    texts = rows.sources.get("text", [None] * len(rows))
    for row, label, text in zip(rows.ids, rows.labels.tolist(), texts):
        hashed.update(f"{row}\0{label}\0{text}\n".encode())
    hashed.update("\n".join(rows.class_names).encode())
    return hashed.hexdigest()[:16]


def _by_class(rows: BirdRows, among: Sequence[int] | None = None) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    labels = rows.labels.tolist()
    for row in range(len(rows)) if among is None else among:
        found.setdefault(labels[row], []).append(row)
    return [found[label] for label in sorted(found)]


def _divided(rows: BirdRows, of_class: list[int], held_out: int) -> dict[str, list[int]]:
    """The rows of one species by part. Rows of one sound are together, so that few sounds are held out."""
    number = min(held_out, len(of_class) // 4)
    order = sorted(of_class, key=lambda row: (_draw(str(rows.sources["audio"][row])), _draw(rows.ids[row])))
    for apart in (("image", "audio"), ("image",)):
        files = {row: {rows.sources[name][row] for name in apart} - {None} for row in order}
        validation, used = order[:number], set().union(*(files[row] for row in order[:number]))
        test = [row for row in order[number:] if not files[row] & used][:number]
        used = used.union(*(files[row] for row in test))
        train = [row for row in order if not files[row] & used and row not in {*validation, *test}]
        if len(of_class) - len(train) - len(validation) - len(test) <= MOST_LOST * len(of_class):
            break
    return {"train": train, "validation": validation, "test": test}


def _draw(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
