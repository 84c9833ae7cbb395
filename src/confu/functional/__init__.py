"""Pure functions of tensors: the mathematics, without state."""

from confu.functional.info_nce import info_nce
from confu.functional.total_correlation import total_correlation_bound

__all__ = ["info_nce", "total_correlation_bound"]
