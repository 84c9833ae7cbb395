from .backend import BACKENDS, Backend, Change
from .catalog import About
from .conditions import And, Condition, Not, Or, parse_condition
from .index import Index
from .items import Hit, Item, Items

__all__ = [
    "BACKENDS",
    "About",
    "And",
    "Backend",
    "Change",
    "Condition",
    "Hit",
    "Index",
    "Item",
    "Items",
    "Not",
    "Or",
    "parse_condition",
]
