"""Embed a data set with a trained model."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from confu.data.dataset import Dataset
from confu.embeddings import EmbeddingTable
from confu.plan import Plan, Subset
from confu.types import Embeddings


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _chosen(plan: Plan, dataset: Dataset, subsets: Iterable[Subset | str] | None) -> list[Subset]:
    there = set(dataset.modalities)
    if subsets is None:
        chosen = [subset for subset in plan.subsets if subset <= there]
    else:
        chosen = [plan.subset(subset) for subset in subsets]
        for subset in chosen:
            if subset not in plan.subsets:
                raise ValueError(
                    f"the model was not trained to embed {subset}; it embeds {', '.join(map(str, plan.subsets))}"
                )
            if missing := subset - there:
                raise ValueError(
                    f"the data set has no {', '.join(sorted(missing))}, which {subset} needs; "
                    f"it has {', '.join(dataset.modalities)}"
                )
    if not chosen:
        raise ValueError(
            f"nothing to embed: the model knows {', '.join(plan.modalities)}, "
            f"the data set has {', '.join(dataset.modalities)}"
        )
    return chosen


def embed(
    model: nn.Module,
    dataset: Dataset,
    subsets: Iterable[Subset | str] | None = None,
    batch_size: int = 1024,
    progress: bool = False,
    model_name: str = "",
) -> EmbeddingTable:
    """Embed every row of a data set, on the model's device, without gradients and in evaluation mode.

    Args:
        model: as `MultimodalModel`: it has a `plan`, and called with a batch and subsets it returns `Embeddings`. How
            its embeddings are to be compared, its `score`, goes into the table; `"cosine"` if it has none.
        dataset: its rows are taken in their order.
        subsets: what to embed; by default every subset of the plan whose modalities the data set has.
        batch_size: rows at once; the embeddings do not depend on it beyond rounding.
        progress: show a progress bar.
        model_name: kept in the table.

    Returns:
        a table of float32 vectors on the CPU; the plan is kept as JSON.

    Raises:
        ValueError: if the data set is empty, or a subset is not in the plan or not in the data set.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    if len(dataset) == 0:
        raise ValueError("the data set has no rows to embed")
    plan = cast(Plan, model.plan)
    chosen = _chosen(plan, dataset, subsets)
    first = next(model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    vectors: dict[Subset, list[Tensor]] = {subset: [] for subset in chosen}
    complete: dict[Subset, list[Tensor]] = {subset: [] for subset in chosen}
    labels: list[Tensor] = []
    ids: list[str] = []
    batches = torch.arange(len(dataset)).split(batch_size)
    with evaluating(model):
        console = Console(stderr=True)  # in a file or a pipe a bar is a line of nothing
        shown = progress and console.is_terminal
        for indices in track(batches, description="embedding", console=console, transient=True, disable=not shown):
            batch = dataset.batch(indices)
            embeddings = cast(Embeddings, model(batch.to(device), chosen))
            ids += batch.ids
            if batch.labels is not None:
                labels.append(batch.labels.cpu())
            for subset in chosen:
                vectors[subset].append(embeddings[subset].float().cpu())
                mask = embeddings.complete(subset)
                everyone = torch.ones(len(indices), dtype=torch.bool)
                complete[subset].append(everyone if mask is None else mask.cpu())
    return EmbeddingTable(
        tuple(ids),
        {subset: torch.cat(parts) for subset, parts in vectors.items()},
        {subset: torch.cat(parts) for subset, parts in complete.items()},
        torch.cat(labels) if labels else None,
        model_name,
        json.dumps(plan.to_dict()),
        getattr(model, "score", "cosine"),
    )
