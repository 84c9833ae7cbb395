from .about import About
from .backend import BACKENDS, Backend, Change
from .conditions import Condition, parse_condition
from .index import Index
from .items import Hit, Item, Items

__all__ = [
    "BACKENDS",
    "About",
    "Backend",
    "Change",
    "Condition",
    "Hit",
    "Index",
    "Item",
    "Items",
    "parse_condition",
]
