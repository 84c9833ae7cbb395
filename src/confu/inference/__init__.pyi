from .embedder import Embedder, Encoded, load
from .embedding import embed
from .shards import load_shards

__all__ = [
    "Embedder",
    "Encoded",
    "embed",
    "load",
    "load_shards",
]
