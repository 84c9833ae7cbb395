"""A trained model and an index of what it embedded, asked together."""

from confu.search.collection import Collection
from confu.search.question import Answer, BadQuestion, Question, Wish

__all__ = ["Answer", "BadQuestion", "Collection", "Question", "Wish"]
