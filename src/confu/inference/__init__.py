"""Use a trained model: embed a data set, or single items of whatever modalities they have."""

from confu.inference.embedder import Embedder, load
from confu.inference.embedding import embed
from confu.inference.encoded import Encoded
from confu.inference.shards import load_shards

__all__ = ["Embedder", "Encoded", "embed", "load", "load_shards"]
