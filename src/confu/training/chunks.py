"""A batch in parts of consecutive rows, and the embeddings of the whole from those of its parts."""

from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor

from confu.plan import Subset
from confu.types import Batch, Embeddings, Inputs


def spans(rows: int, chunk: int) -> list[tuple[int, int]]:
    """Where each part begins and ends: as few parts of at most `chunk` rows as there can be, as equal as they can be.

    Equal, so that no part is left with a row or two: batch norm needs several.

    >>> spans(10, 4)
    [(0, 4), (4, 7), (7, 10)]

    Args:
        rows: of the batch.
        chunk: most rows of a part.

    Returns:
        (start, stop) of each part, in order; one part at least.

    Raises:
        ValueError: unless chunk is at least 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk is the number of rows that are encoded at once and must be at least 1; got {chunk}")
    parts = max(1, -(-rows // chunk))
    size, larger = divmod(rows, parts)
    starts = [part * size + min(part, larger) for part in range(parts + 1)]
    return list(pairwise(starts))


def part_of(batch: Batch, start: int, stop: int) -> Batch:
    """Rows `start` to `stop` of a batch, with only the inputs that they have.

    Args:
        batch: any; a row's inputs may be missing, or be those of other rows too.
        start: the first row.
        stop: the row after the last.

    Returns:
        A batch of its own, without a copy of the inputs where they lie one after another; the batch itself if these are
        all its rows.
    """
    if (start, stop) == (0, len(batch)):
        return batch
    return Batch(
        {name: _inputs_of(inputs, start, stop) for name, inputs in batch.inputs.items()},
        batch.ids[start:stop],
        None if batch.labels is None else batch.labels[start:stop],
        None if batch.groups is None else batch.groups[start:stop],
    )


def _inputs_of(inputs: Inputs, start: int, stop: int) -> Inputs:
    rows = inputs.rows[start:stop]
    present = rows >= 0
    used, own = torch.unique(rows[present], return_inverse=True)
    places = torch.full_like(rows, -1)
    places[present] = own.to(rows.dtype)
    values = inputs.values
    if isinstance(values, dict):
        return Inputs({name: _take(value, used) for name, value in values.items()}, places)
    return Inputs(_take(values, used), places)


def _take(values: Tensor, used: Int[Tensor, " used"]) -> Tensor:
    if len(used) and int(used[-1] - used[0]) + 1 == len(used):
        return values[int(used[0]) : int(used[-1]) + 1]
    return values[used.to(values.device)]


def joined(parts: list[Embeddings], groups: Int[Tensor, " batch"] | None) -> Embeddings:
    """The embeddings of a whole batch from those of its parts, in order, without their history.

    Args:
        parts: of the same subsets.
        groups: of the whole batch.

    Returns:
        Embeddings: subset -> (batch, dim), each a leaf.
    """
    vectors: dict[Subset, Tensor] = {
        subset: torch.cat([part.vectors[subset].detach() for part in parts]) for subset in parts[0].vectors
    }
    sizes = [len(next(iter(part.vectors.values()))) for part in parts]
    masks: dict[str, Tensor] = {}
    for name in dict.fromkeys(name for part in parts for name in part.present):
        # A part whose rows all have a modality has no mask of it.
        some = next(part.present[name] for part in parts if name in part.present)
        masks[name] = torch.cat(
            [part.present.get(name, some.new_ones(size)) for part, size in zip(parts, sizes, strict=True)]
        )
    return Embeddings(vectors, masks, groups)
