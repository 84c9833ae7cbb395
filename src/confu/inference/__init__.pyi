from .embedder import Embedder, load
from .embedding import embed
from .encoded import Encoded
from .shards import load_shards

__all__ = [
    "Embedder",
    "Encoded",
    "embed",
    "load",
    "load_shards",
]
