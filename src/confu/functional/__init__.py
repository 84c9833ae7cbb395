"""Pure functions of tensors: the mathematics, without state."""

from confu.functional.info_nce import info_nce, info_nce_of_scores
from confu.functional.scores import (
    gram_volumes,
    multilinear_scores,
    squared_areas,
    squared_volumes,
    triangle_areas,
)
from confu.functional.symile import symile_contrast
from confu.functional.total_correlation import total_correlation_bound
from confu.functional.volume_area import gram_contrast, triangle_contrast

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
