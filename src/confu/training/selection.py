"""Validation retrieval: the mean reciprocal rank of the plan's queries in one gallery of validation rows.

Unlike the loss it does not depend on the batch size or the temperature, and it goes on rising where the loss of a model
that grows too sure of itself rises again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from confu.data import Dataset
from confu.data.sampling import Order
from confu.distributed import every_rank, gather_rows, my_part, rank
from confu.evaluation.ranking import count_ranks
from confu.evaluation.retrieval import Ranked, equal_targets
from confu.models import MultimodalModel
from confu.plan import Plan, Subset
from confu.training.cached_gradients import Autocast
from confu.types import Batch, Embeddings

GALLERY = 2000
"""Validation rows that are ranked, at most."""


def plan_queries(plan: Plan, score: str = "cosine") -> list[tuple[Subset, Subset]]:
    """The (query, target) pairs that are ranked.

    For cosines both directions of every term, those with a single target where there are any; for other scores, which
    compare all modalities at once, each modality sought with all others.

    >>> from confu.plan import confu_plan
    >>> [f"{query} -> {target}" for query, target in plan_queries(confu_plan(("x", "y", "z")))][4:]
    ['y -> z', 'z -> y', 'y+z -> x', 'x+z -> y', 'x+y -> z']
    """
    if score != "cosine":
        names = plan.modalities
        return [(Subset(*(other for other in names if other != name)), Subset(name)) for name in names]
    sides = [(plan.subset(term.left), plan.subset(term.right)) for term in plan.terms]
    directions = list(dict.fromkeys(pair for left, right in sides for pair in ((left, right), (right, left))))
    return [pair for pair in directions if not pair[1].is_fused] or directions


class ValidationRetrieval:
    """Ranks in a gallery of validation rows, of the embeddings that the validation loss is computed of.

    The gallery is all rows, or `GALLERY` of them drawn by the seed: the same at every epoch and after a restart. Rows
    whose inputs of the target are equal are right for one another; a row that lacks a modality of a query or of its
    target is left out of that query.

    Args:
        objective: whose `model` is ranked; not wrapped.
        validation: the rows.
        order: the batches of the validation loss, in which not every row need stand.
        seed: of the gallery.

    Raises:
        ValueError: if the objective has no multimodal model.
    """

    def __init__(self, objective: nn.Module, validation: Dataset, order: Order, seed: int) -> None:
        model = getattr(objective, "model", None)
        if not isinstance(model, MultimodalModel):
            raise ValueError(
                f"select 'retrieval' ranks the embeddings of a MultimodalModel, and {type(objective).__name__} has "
                "none as its `model`; use select 'loss'"
            )
        self._model, self._validation, size = model, validation, len(validation)
        drawn = torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:GALLERY].sort().values
        self._place = torch.full((size,), -1).index_copy_(0, drawn, torch.arange(len(drawn)))
        self._size = len(drawn)
        self._outside = drawn[~torch.isin(drawn, order)]
        # A row of an incomplete set may stand in two batches: it is taken from the first.
        first = torch.zeros(order.numel(), dtype=torch.bool)
        first[torch.from_numpy(np.unique(order.numpy(), return_index=True)[1])] = True
        self._taken = first.reshape(order.shape) & (self._place[order] >= 0)
        self._keys: dict[str, Tensor] = {}
        self._parts: list[dict[str, Tensor]] = []

    @contextmanager
    def batch(self, step: int, rows: Int[Tensor, " batch"], batch: Batch) -> Iterator[None]:
        """Keep what the model makes of this process's part of a batch inside the block, whole or chunk by chunk."""
        outputs: list[Embeddings] = []
        hook = self._model.register_forward_hook(
            lambda _module, _inputs, output: outputs.append(cast(Embeddings, output))
        )
        try:
            yield
        finally:
            hook.remove()
        self._parts.append(self._part(outputs, rows, batch, my_part(self._taken[step])))

    def measure(self, device: torch.device, autocast: Autocast, piece: int) -> dict[str, Any]:
        """The mean reciprocal rank, `mrr`, and that of each query, `mrr_by_query`; to be called by all processes.

        Args:
            device: of the model.
            autocast: makes the context in which it runs.
            piece: rows encoded at once of those that stand in no batch.

        Raises:
            ValueError: if no two rows of the gallery have what some query and its target need.
        """
        own = {name: gather_rows(torch.cat([part[name] for part in self._parts])) for name in self._parts[0]}
        parts, self._parts = [own], []
        for rows in self._outside.split(piece) if len(self._outside) else ():  # all on each: weights may be sharded
            batch = self._validation.batch(rows)
            with torch.no_grad(), autocast():
                embeddings = self._model(batch.to(device))
            parts.append(self._part([embeddings], rows, batch, torch.ones(len(rows), dtype=torch.bool)))
        gathered = {name: torch.cat([part[name] for part in parts]) for name in own}
        order = gathered.pop("place").argsort()
        gathered = {name: values[order] for name, values in gathered.items()}
        if not self._keys:
            self._keys = {name: gathered[f"key {name}"].cpu() for name in self._model.plan.modalities}
        numbers = every_rank(self._numbers(gathered) if rank() == 0 else None)[0]
        if not numbers["mrr_by_query"]:
            raise ValueError(
                f"select 'retrieval' has no query: no two of {self._size} validation rows have all that a query and "
                "its target need. Add validation rows, or use select 'loss'"
            )
        return numbers

    def _part(self, outputs: list[Embeddings], rows: Tensor, batch: Batch, taken: Tensor) -> dict[str, Tensor]:
        """Of the rows that are taken: places in the gallery, vectors, masks, and keys unless they are known."""
        device = next(iter(outputs[0].vectors.values())).device
        chosen = taken.to(device)
        part = {"place": self._place[rows][taken].to(device)}
        for subset in self._model.subsets:
            vectors = torch.cat([one[subset] for one in outputs])
            masks = [one.complete(subset) for one in outputs]
            whole = [torch.ones(len(one[subset]), dtype=torch.bool, device=device) for one in outputs]
            mask = torch.cat([full if mask is None else mask for full, mask in zip(whole, masks)])
            part[f"vectors {subset}"], part[f"mask {subset}"] = vectors.detach()[chosen].float(), mask[chosen]
        if not self._keys:
            contents = batch.with_contents().contents
            for name in self._model.plan.modalities:
                part[f"key {name}"] = contents[name].to(device)[chosen]
        return part

    def _numbers(self, gathered: dict[str, Tensor]) -> dict[str, Any]:
        score = self._model.score
        by_query: dict[str, float] = {}
        for query, target in plan_queries(self._model.plan, score):
            sides = [[side] if score == "cosine" else [Subset(name) for name in side] for side in (query, target)]
            masks = [gathered[f"mask {subset}"] for side in sides for subset in side]
            rows = torch.stack(masks).all(dim=0).nonzero()[:, 0].cpu()
            if len(rows) < 2:
                continue
            first, right = equal_targets(self._keys, target, rows)
            queries = [gathered[f"vectors {subset}"][rows] for subset in sides[0]]
            targets = [gathered[f"vectors {subset}"][rows[first]] for subset in sides[1]]
            better, tied, best, _ = count_ranks(queries, targets, torch.arange(len(rows)), score)
            ranked = Ranked(rows, better, tied, best, len(rows), right=right)
            by_query[f"{query} -> {target}"] = float(ranked.reciprocal().mean())
        return {"mrr": sum(by_query.values()) / max(1, len(by_query)), "mrr_by_query": by_query}
