"""Use a trained model: embed a data set, or single items of whatever modalities they have."""

from confu.inference.embedding import embed

__all__ = ["embed"]
