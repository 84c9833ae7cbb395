"""Ready data sets, each a function that returns its `Splits`."""

from confu.data.datasets.xor import all_codes, xor, xor_candidates, xor_ceiling

__all__ = ["all_codes", "xor", "xor_candidates", "xor_ceiling"]
