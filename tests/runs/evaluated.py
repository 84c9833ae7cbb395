"""Synthetic tables and what an evaluation makes of them, for the tests of the page."""

import json

import torch
from torch.nn.functional import normalize

from confu.embeddings import EmbeddingTable
from confu.plan import Subset, confu_plan, disjoint_plan, pairwise_plan
from confu.runs.measures import Prompts, measure_centroids, measure_retrieval, measure_zero_shot
from confu.runs.page import Evaluated
from confu.runs.summary import summarise

NAMES = ("image", "audio", "text", "depth", "sensor")
CLASSES = ("cat", "dog", "cow")
PROMPTS = Prompts(CLASSES, torch.arange(3), torch.eye(8)[:3], Subset("text"))


def make_plan(modalities, score="cosine", fused=True):
    if score != "cosine" or not fused or modalities == 2:
        return pairwise_plan(NAMES[:modalities])
    return confu_plan(NAMES[:3]) if modalities == 3 else disjoint_plan(NAMES[:modalities])


def make_table(n=40, modalities=3, score="cosine", gaps=0.0, labels=True, fused=True):
    """Embeddings that agree with one another a little; with gaps, every fourth row or so lacks a modality."""
    generator = torch.Generator().manual_seed(0)
    plan = make_plan(modalities, score, fused)
    content = torch.randn(n, 8, generator=generator)
    present = {name: torch.rand(n, generator=generator) >= gaps for name in plan.modalities}
    subsets = [one for one in plan.subsets if score == "cosine" or not one.is_fused]
    vectors = {one: normalize(content + torch.randn(n, 8, generator=generator) / len(one), dim=-1) for one in subsets}
    complete = {one: torch.stack([present[name] for name in one]).all(0) for one in subsets}
    ids, classes = [f"r{i}" for i in range(n)], torch.arange(n) % 3 if labels else None
    return EmbeddingTable(ids, vectors, complete, classes, "synthetic", json.dumps(plan.to_dict()), score)


def make_evaluated(folder, table, groups=None, how="zero-shot", **more):
    """The page's input for a table, without a run behind it."""
    modalities = len([one for one in table.subsets if not one.is_fused])
    classes = None
    if table.labels is not None and how == "zero-shot" and Subset("text") in table:
        classes = measure_zero_shot(table, table.labels, CLASSES, PROMPTS)
    elif table.labels is not None:
        classes = measure_centroids(table, table, table.labels, CLASSES)
    retrieval = measure_retrieval(table, groups, ("text",))
    presence = {str(one): table.complete[one] for one in table.subsets if not one.is_fused}
    return Evaluated(
        folder=folder,
        title="synthetic",
        plan=make_plan(modalities, table.score),
        table=table,
        retrieval=retrieval,
        summary=summarise(table, retrieval.ranked),
        classes=classes,
        splits={"train": presence, "test": presence},
        labels=table.labels,
        names=CLASSES,
        group_words="" if groups is None else "rows of the same group",
        seconds={"measuring": 1.0},
        **more,
    )
