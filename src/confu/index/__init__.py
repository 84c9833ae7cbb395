"""Vectors of items by subset of their modalities, with metadata, stored and searched behind one small protocol."""

from confu.index.about import About
from confu.index.backend import Backend, Change, Found
from confu.index.backends import BACKENDS
from confu.index.conditions import Condition, parse_condition
from confu.index.index import Index
from confu.index.item import Item
from confu.index.items import Hit, Items

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
