from .collection import Collection
from .query import Query, QueryError, SearchOptions, SearchResult

__all__ = [
    "Collection",
    "Query",
    "QueryError",
    "SearchOptions",
    "SearchResult",
]
