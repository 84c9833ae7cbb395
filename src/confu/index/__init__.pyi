from .about import About
from .backend import Backend, Change, Found
from .backends import BACKENDS
from .conditions import Condition, parse_condition
from .index import Index
from .item import Item
from .items import Hit, Items

__all__ = [
    "BACKENDS",
    "About",
    "Backend",
    "Change",
    "Condition",
    "Found",
    "Hit",
    "Index",
    "Item",
    "Items",
    "parse_condition",
]
