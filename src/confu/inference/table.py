"""Rows of sources, some of them broken, to a table of embeddings."""

import json
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from confu.embeddings import EmbeddingTable
from confu.inference.embedding import evaluating
from confu.inference.parts import ModelParts
from confu.inference.reading import Broken, SourceReading, Sources, collate
from confu.plan import Subset
from confu.types import Batch


def embed_rows(
    parts: ModelParts,
    sources: Sources,
    ids: Sequence[str],
    subsets: Sequence[Subset],
    on_broken: Callable[[Broken], None],
    labels: Int[Tensor, " n"] | None = None,
    batch_size: int = 256,
    workers: int = 1,
    name: str = "",
    advance: Callable[[int], None] = lambda rows: None,
) -> EmbeddingTable:
    """Embed rows of which some lack modalities; every row gets all subsets that it is complete for.

    Args:
        parts: the model and its readers.
        sources: modality -> one source a row, None where it is missing.
        ids: one a row, unique.
        subsets: what to embed; their modalities are all in `sources`.
        on_broken: called for each source that cannot be read; it raises, or its row is left out.
        labels: (n,) class indices.
        batch_size: rows at once. Broken rows do not move the others to another batch.
        workers: threads that read files.
        name: of the model, kept in the table.
        advance: called after each batch with its number of rows, for a progress bar.

    Returns:
        a table of the rows that could be read, in their order.
    """
    model, names = parts.model, list(dict.fromkeys(one for subset in subsets for one in subset))
    device = next(model.parameters()).device
    kept: list[int] = []
    vectors = {subset: [torch.zeros(0, model.dim)] for subset in subsets}
    complete = {subset: [torch.zeros(0, dtype=torch.bool)] for subset in subsets}
    starts = range(0, len(ids), batch_size)
    batches = ({one: sources[one][start : start + batch_size] for one in names} for start in starts)
    with SourceReading(parts.readers, workers) as reading, evaluating(model):
        for start, read in zip(starts, reading.ahead(batches)):
            for one in read.broken:
                on_broken(Broken(start + one.position, one.modality, one.what))
            size = len(next(iter(read.items.values())))
            bad = {one.position for one in read.broken}
            good = [position for position in range(size) if position not in bad]
            if good:
                inputs = {
                    one: collate(parts.readers[one], [items[position] for position in good])
                    for one, items in read.items.items()
                }
                batch = Batch(inputs, [ids[start + position] for position in good])
                made = model(batch.to(device), subsets)
                for subset in subsets:
                    vectors[subset].append(made[subset].float().cpu())
                    mask = made.complete(subset)
                    complete[subset].append(torch.ones(len(good), dtype=torch.bool) if mask is None else mask.cpu())
                kept += [start + position for position in good]
            advance(size)
    return EmbeddingTable(
        tuple(ids[row] for row in kept),
        {subset: torch.cat(parts) for subset, parts in vectors.items()},
        {subset: torch.cat(parts) for subset, parts in complete.items()},
        None if labels is None else labels[torch.tensor(kept, dtype=torch.long)],
        name,
        json.dumps(model.plan.to_dict()),
        model.score,
    )
