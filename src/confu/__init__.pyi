from .embeddings import EmbeddingTable
from .evaluation import evaluate_retrieval, evaluate_zero_shot, information, versions, why_not
from .index import Index
from .inference import Embedder, embed, load, load_shards
from .losses import CLIPLoss, ConFuLoss, GRAMLoss, LossOutput, SymileLoss, TRIANGLELoss
from .models import MultimodalModel, load_model
from .nn import Temperature, build_encoder
from .plan import Plan, Subset, Term, confu_plan, disjoint_plan, pairwise_plan, target_plan
from .training import ContrastiveObjective, TrainSettings, fit
from .types import Batch, Embeddings, Inputs

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
    "information",
    "load",
    "load_model",
    "load_shards",
    "pairwise_plan",
    "target_plan",
    "versions",
    "why_not",
]
