from .base import LossOutput
from .clip import CLIPLoss
from .contrastive_fusion import ConFuLoss
from .gram import GRAMLoss, gram_contrast
from .infonce import ContrastOptions, info_nce, info_nce_of_scores, info_nce_terms
from .scores import gram_volumes, multilinear_scores, squared_areas, squared_volumes, triangle_areas
from .symile import SymileLoss, symile_contrast
from .total_correlation import total_correlation_bound
from .triangle import TRIANGLELoss, triangle_contrast

__all__ = [
    "CLIPLoss",
    "ConFuLoss",
    "ContrastOptions",
    "GRAMLoss",
    "LossOutput",
    "SymileLoss",
    "TRIANGLELoss",
    "gram_contrast",
    "gram_volumes",
    "info_nce",
    "info_nce_of_scores",
    "info_nce_terms",
    "multilinear_scores",
    "squared_areas",
    "squared_volumes",
    "symile_contrast",
    "total_correlation_bound",
    "triangle_areas",
    "triangle_contrast",
]
