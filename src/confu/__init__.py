"""confu: align three or more kinds of data in one embedding space by contrastive fusion (arXiv 2511.21331)."""

from confu._typing import Batch, Embeddings, Inputs, Subset
from confu.embeddings import EmbeddingTable
from confu.evaluation import evaluate_retrieval, evaluate_zero_shot, versions, why_not
from confu.index import Index
from confu.inference import Embedder, embed, load, load_shards
from confu.losses import CLIPLoss, ConFuLoss, GRAMLoss, LossOutput, SymileLoss, TRIANGLELoss
from confu.models import MultimodalModel, load_model
from confu.nn import Temperature, build_encoder
from confu.plan import Plan, Term, confu_plan, disjoint_plan, pairwise_plan, target_plan
from confu.training import ContrastiveObjective, TrainSettings, fit

__all__ = [
    "Batch",
    "CLIPLoss",
    "ConFuLoss",
    "ContrastiveObjective",
    "Embedder",
    "EmbeddingTable",
    "Embeddings",
    "GRAMLoss",
    "Index",
    "Inputs",
    "LossOutput",
    "MultimodalModel",
    "Plan",
    "Subset",
    "SymileLoss",
    "TRIANGLELoss",
    "Temperature",
    "Term",
    "TrainSettings",
    "build_encoder",
    "confu_plan",
    "disjoint_plan",
    "embed",
    "evaluate_retrieval",
    "evaluate_zero_shot",
    "fit",
    "load",
    "load_model",
    "load_shards",
    "pairwise_plan",
    "target_plan",
    "versions",
    "why_not",
]
