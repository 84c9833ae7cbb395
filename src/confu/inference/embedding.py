"""The embedding loop: batches of inputs to unit vectors, whatever each row has."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from confu.data.dataset import Dataset
from confu.embeddings import EmbeddingTable
from confu.plan import Plan, Subset
from confu.types import Batch, Embeddings, Inputs


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    changed = any(training for _, training in modes)
    if changed:  # to set it for every module costs more than the forward pass of a small model
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes if changed else ():
            module.training = training


def embed_batch(model: nn.Module, batch: Batch, subsets: Sequence[Subset]) -> dict[Subset, tuple[Tensor, Tensor]]:
    """Embed one batch: what all embedding goes through.

    Args:
        model: as for `embed`.
        batch: on any device; a row that lacks a modality has the row index -1 in its `Inputs`.
        subsets: each modality of them is encoded once.

    Returns:
        subset -> (rows, dim) float32 vectors on the CPU, and the (rows,) mask of the rows that have all of it.
    """
    first = next(model.parameters(), None)
    batch = batch if first is None else _as_weights(batch.to(first.device), model)
    with evaluating(model):
        embeddings = cast(Embeddings, model(batch, subsets))
        rows = {}
        for subset in subsets:
            mask = embeddings.complete(subset)
            complete = torch.ones(len(batch), dtype=torch.bool) if mask is None else mask.cpu()
            rows[subset] = embeddings[subset].float().cpu(), complete
    # Copies made outside of inference mode are tensors that may be changed, and that autograd accepts.
    return {subset: (vectors.clone(), complete.clone()) for subset, (vectors, complete) in rows.items()}


def _as_weights(batch: Batch, model: nn.Module) -> Batch:
    """The batch with inputs as precise as the weights of a model that is of one precision as a whole."""
    (dtype, *others) = {parameter.dtype for parameter in model.parameters()}
    if others or dtype == torch.float32 or not dtype.is_floating_point:
        return batch

    def converted(values: Tensor) -> Tensor:
        return values.to(dtype) if values.is_floating_point() else values

    inputs = {
        name: Inputs(
            {key: converted(part) for key, part in one.values.items()}
            if isinstance(one.values, dict)
            else converted(one.values),
            one.rows,
        )
        for name, one in batch.inputs.items()
    }
    return replace(batch, inputs=inputs)


def embed(
    model: nn.Module,
    data: Dataset | Iterable[Batch],
    subsets: Iterable[Subset | str] | None = None,
    batch_size: int = 1024,
    progress: bool = False,
    model_name: str = "",
    advance: Callable[[int], None] | None = None,
) -> EmbeddingTable:
    """Embed every row of a data set, or of batches, on the model's device, without gradients and in evaluation mode.

    Args:
        model: as `MultimodalModel`: it has a `plan`, and called with a batch and subsets it returns `Embeddings`. How
            its embeddings are to be compared, its `score`, goes into the table; `"cosine"` if it has none.
        data: rows are taken in their order. Of sources (files, texts, arrays) `confu.inference.reading.read_batches`
            makes batches.
        subsets: what to embed; by default every subset of the plan whose modalities the data set has. Batches need
            them given.
        batch_size: rows of a data set at once; the embeddings do not depend on it beyond rounding.
        progress: show a progress bar.
        model_name: kept in the table.
        advance: called after each batch with its number of rows.

    Returns:
        a table of float32 vectors on the CPU; a row that lacks a modality of a subset is not complete there. The plan
        is kept as JSON.

    Raises:
        ValueError: if the data set is empty, or a subset is not in the plan or not in the data set.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    plan = cast(Plan, model.plan)
    if hasattr(data, "batch"):
        dataset = cast(Dataset, data)
        if len(dataset) == 0:
            raise ValueError("the data set has no rows to embed")
        chosen, batches = _subsets_of(plan, dataset.modalities, subsets), _batches(dataset, batch_size, progress)
    elif subsets is None:
        raise ValueError("subsets must be given for batches: the first one does not say what the others will have")
    else:
        chosen, batches = [plan.subset(subset) for subset in subsets], cast(Iterable[Batch], data)
    dim = getattr(model, "dim", 1)  # of a table without rows
    ids: list[str] = []
    labels: list[Tensor] = []
    vectors = {subset: [] for subset in chosen}
    complete = {subset: [] for subset in chosen}
    for batch in batches:
        ids += batch.ids
        if batch.labels is not None:
            labels.append(batch.labels.cpu())
        for subset, (rows, mask) in embed_batch(model, batch, chosen).items():
            vectors[subset].append(rows)
            complete[subset].append(mask)
        if advance is not None:
            advance(len(batch))
    return EmbeddingTable(
        tuple(ids),
        {subset: torch.cat(parts) if parts else torch.zeros(0, dim) for subset, parts in vectors.items()},
        {subset: torch.cat(parts) for subset, parts in complete.items() if parts},
        torch.cat(labels) if labels else None,
        model_name,
        json.dumps(plan.to_dict()),
        getattr(model, "score", "cosine"),
    )


def _batches(dataset: Dataset, batch_size: int, progress: bool) -> Iterator[Batch]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    shown = progress and console.is_terminal  # in a file or a pipe a bar is a line of nothing
    indices = torch.arange(len(dataset)).split(batch_size)
    for rows in track(indices, description="embedding", console=console, transient=True, disable=not shown):
        yield dataset.batch(rows)


def _subsets_of(plan: Plan, modalities: Iterable[str], subsets: Iterable[Subset | str] | None) -> list[Subset]:
    """The subsets to embed of a data set with these modalities."""
    modalities = tuple(modalities)
    if subsets is None:
        chosen = [subset for subset in plan.subsets if subset <= set(modalities)]
    else:
        chosen = [plan.subset(subset) for subset in subsets]
        for subset in chosen:
            if subset not in plan.subsets:
                raise ValueError(
                    f"the model was not trained to embed {subset}; it embeds {', '.join(map(str, plan.subsets))}"
                )
            if missing := subset - set(modalities):
                raise ValueError(
                    f"the data set has no {', '.join(sorted(missing))}, which {subset} needs; "
                    f"it has {', '.join(modalities)}"
                )
    if not chosen:
        raise ValueError(
            f"nothing to embed: the model knows {', '.join(plan.modalities)}, the data set has {', '.join(modalities)}"
        )
    return chosen
