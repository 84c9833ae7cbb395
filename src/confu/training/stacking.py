"""Stacking: after training, each fused embedding is weighed with those of its modalities, by validation rows.

A fused vector that was trained to find a partner can lose what one of its modalities tells alone, or be worse than that
one where the other tells nothing. The weighted sum

    z_S = unit(w_0 g_S + w_1 z_1 + w_2 z_2 + ...)

of the fused vector and those of the modalities alone, with w > 0, is the fused vector, their mean or a single one as w
has it. Three or four numbers a subset, fitted on rows that no weight was trained on, choose among them.

Reference: Wolpert 1992, stacked generalization.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from confu.embeddings import EmbeddingTable
from confu.evaluation.retrieval import equal_targets
from confu.models import MultimodalModel
from confu.plan import Subset
from confu.training.selection import plan_queries

FEWEST = 20
"""Rows that weights are fitted on, at least."""
MOST = 1000
"""Rows that weights are fitted on, at most."""
_SHRINKAGE = 1e-3  # of the weights' logarithms towards 0, equal weights


def fit_stacking(
    model: MultimodalModel, table: EmbeddingTable, contents: Mapping[str, Int[Tensor, " n"]] | None = None
) -> dict[str, list[float]]:
    """The weights of each fused subset that find the single targets of its terms best, by InfoNCE.

    Args:
        model: whose plan says what each subset is trained to find; it is not changed.
        table: its embeddings of validation rows, without weights (`stacking`).
        contents: by modality, equal numbers for rows with equal inputs, which are no negatives of one another.

    Returns:
        fused subset -> the weights of its vector and of those of its modalities, with sum 1. A subset without a single
        target, without a single embedding of each modality, or of fewer than `FEWEST` complete rows has none.
    """
    if model.score != "cosine":
        return {}
    targets: dict[Subset, list[Subset]] = {}
    for query, target in plan_queries(model.plan):
        if query.is_fused and not target.is_fused:
            targets.setdefault(query, []).append(target)
    weights = {}
    for subset, sought in targets.items():
        parts = [subset, *(Subset(name) for name in subset)]
        if any(part not in table for part in parts):
            continue
        galleries = [_gallery(table, parts, target, contents) for target in sought]
        if fitted := [gallery for gallery in galleries if len(gallery[0]) >= FEWEST]:
            weights[str(subset)] = _fit(fitted, len(parts))
    return weights


def _gallery(
    table: EmbeddingTable, parts: Sequence[Subset], target: Subset, contents: Mapping[str, Tensor] | None
) -> tuple[Float[Tensor, "n k k"], Float[Tensor, "k n n"], Bool[Tensor, "n n"]]:
    """Products of the k parts of each query, their scores in a gallery, and which of these are no negatives."""
    rows = table.rows_with(parts[0], target)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:MOST]]
    vectors = torch.stack([table[part][rows] for part in parts])
    equal, _ = equal_targets(contents, target, rows)
    excluded = (equal[:, None] == equal) & ~torch.eye(len(rows), dtype=torch.bool)
    return torch.einsum("ind,jnd->nij", vectors, vectors), vectors @ table[target][rows].T, excluded


def _fit(galleries: Sequence[tuple[Tensor, Tensor, Tensor]], parts: int) -> list[float]:
    """The weights of the least InfoNCE, with a temperature that is fitted too; the scores are linear in the weights."""
    logs = torch.zeros(parts, requires_grad=True)
    log_scale = torch.tensor(2.66, requires_grad=True)  # of a temperature of 0.07
    optimizer = torch.optim.LBFGS([logs, log_scale], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        weights = logs.exp()
        loss = _SHRINKAGE * (logs**2).sum()
        for products, scores, excluded in galleries:
            lengths = (products @ weights @ weights).clamp_min(1e-12).sqrt()
            logits = torch.einsum("k,knm->nm", weights, scores) * (log_scale.exp() / lengths)[:, None]
            loss = loss + cross_entropy(logits.masked_fill(excluded, -torch.inf), torch.arange(len(logits)))
        loss.backward()
        return loss

    optimizer.step(closure)
    return torch.softmax(logs.detach(), dim=0).tolist()
