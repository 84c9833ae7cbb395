from .checkpoint import load_model, load_weights, save_model
from .classifier import LateFusionClassifier
from .multimodal import MultimodalModel

__all__ = [
    "LateFusionClassifier",
    "MultimodalModel",
    "load_model",
    "load_weights",
    "save_model",
]
