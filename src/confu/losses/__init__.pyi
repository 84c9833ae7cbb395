from .base import LossOutput
from .clip import CLIPLoss
from .contrastive_fusion import ConFuLoss
from .gram import GRAMLoss
from .symile import SymileLoss
from .triangle import TRIANGLELoss

__all__ = [
    "CLIPLoss",
    "ConFuLoss",
    "GRAMLoss",
    "LossOutput",
    "SymileLoss",
    "TRIANGLELoss",
]
