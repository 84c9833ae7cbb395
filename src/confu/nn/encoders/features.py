"""What encoders with features that may be computed beforehand have in common."""

from typing import Any

from torch import Tensor


def check_features(encoder: Any, features: Tensor | None) -> Tensor:
    """Features that were computed before, if they fit an encoder.

    Args:
        encoder: with its `feature_dim`.
        features: (batch, feature_dim), as its `features` gave them.

    Returns:
        The features.

    Raises:
        ValueError: if there are none, or of another width.
    """
    name, width = type(encoder).__name__, encoder.feature_dim
    if features is None:
        raise ValueError(f"{name} needs its inputs, or `features` that were computed before; got neither")
    if features.ndim != 2 or features.shape[1] != width:
        raise ValueError(
            f"features must be (batch, {width}), as {name} makes them; got shape {tuple(features.shape)}: were they "
            "computed with another encoder?"
        )
    return features
