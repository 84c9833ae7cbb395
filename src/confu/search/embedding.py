"""Embed differing items together, in one pass through the model."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from confu.inference import Embedder
from confu.inference.embedding import evaluating
from confu.inference.reading import Item, collate
from confu.plan import Subset
from confu.types import Batch


def embed_together(
    embedder: Embedder, rows: Sequence[tuple[Mapping[str, Item], Sequence[Subset]]]
) -> list[dict[Subset, Tensor]]:
    """The embeddings of some items, whatever each one has and is asked for.

    Each modality is encoded once for all that have it; of an item that is wanted alone and fused, too.

    Args:
        embedder: a model with its readers.
        rows: an item, as modality -> what its reader made of it, and the subsets that are wanted of it.

    Returns:
        one dict an item, subset -> (dim,) float32 on the CPU.

    Raises:
        ValueError: if a subset cannot be embedded, or an item cannot become numbers.
    """
    names = [name for name in embedder.modalities if any(name in subset for _, wanted in rows for subset in wanted)]
    wanted = list(dict.fromkeys(subset for _, subsets in rows for subset in subsets))
    if not wanted:
        return [{} for _ in rows]
    inputs = {name: collate(embedder.readers[name], [items.get(name) for items, _ in rows]) for name in names}
    batch = Batch(inputs, [str(row) for row in range(len(rows))])
    # An embedder's model is in evaluation mode; to set it for every module again costs more than a small model does.
    with evaluating(embedder.model) if embedder.model.training else torch.inference_mode():
        made = embedder.model(batch.to(next(embedder.model.parameters()).device), wanted)
        vectors = {subset: made[subset].float().cpu() for subset in wanted}
    return [{subset: vectors[subset][row].clone() for subset in subsets} for row, (_, subsets) in enumerate(rows)]
