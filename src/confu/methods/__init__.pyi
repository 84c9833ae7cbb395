from .build import build_objective, make_objective
from .registry import AS_RELEASED, FAIR, METHODS, VARIANTS, Method, paper_name
from .tweaks import (
    DOMAINS,
    Domain,
    Tweaks,
    Value,
    check_method_tweaks,
    check_number,
    check_tweaks,
    suffix,
    tweaked,
)

__all__ = [
    "AS_RELEASED",
    "DOMAINS",
    "FAIR",
    "METHODS",
    "VARIANTS",
    "Domain",
    "Method",
    "Tweaks",
    "Value",
    "build_objective",
    "check_method_tweaks",
    "check_number",
    "check_tweaks",
    "make_objective",
    "paper_name",
    "suffix",
    "tweaked",
]
