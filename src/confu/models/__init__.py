"""Models: encoders, projections and fusion networks of a plan, and how they are saved."""

from confu.models.checkpoint import load_model, load_weights, save_model
from confu.models.classifier import LateFusionClassifier
from confu.models.multimodal import MultimodalModel

__all__ = ["LateFusionClassifier", "MultimodalModel", "load_model", "load_weights", "save_model"]
