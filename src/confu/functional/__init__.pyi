from .info_nce import info_nce, info_nce_of_scores
from .scores import gram_volumes, multilinear_scores, squared_areas, squared_volumes, triangle_areas
from .symile import symile_contrast
from .total_correlation import total_correlation_bound
from .volume_area import gram_contrast, triangle_contrast

__all__ = [
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
