from .base import LossOutput
from .clip import CLIPLoss
from .contrastive_fusion import ConFuLoss
from .gram import GRAMLoss
from .infonce import info_nce, info_nce_of_scores
from .scores import gram_volumes, multilinear_scores, squared_areas, squared_volumes, triangle_areas
from .symile import SymileLoss, symile_contrast
from .total_correlation import total_correlation_bound
from .triangle import TRIANGLELoss
from .volume_area import gram_contrast, triangle_contrast

__all__ = [
    "CLIPLoss",
    "ConFuLoss",
    "GRAMLoss",
    "LossOutput",
    "SymileLoss",
    "TRIANGLELoss",
    "gram_contrast",
    "gram_volumes",
    "info_nce",
    "info_nce_of_scores",
    "multilinear_scores",
    "squared_areas",
    "squared_volumes",
    "symile_contrast",
    "total_correlation_bound",
    "triangle_areas",
    "triangle_contrast",
]
