from .collection import Collection
from .question import Answer, BadQuestion, Question, Wish

__all__ = [
    "Answer",
    "BadQuestion",
    "Collection",
    "Question",
    "Wish",
]
