"""What encoders with features that may be computed beforehand have in common."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


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


@contextmanager
def frozen_features(encoder: Any) -> Iterator[Callable[[Any], Tensor]]:
    """A frozen encoder's features, on a GPU if there is one; afterwards it is where and as it was."""
    training, before = encoder.training, next(encoder.parameters(), torch.zeros(0)).device
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder.to(device).eval()

    def features(values: Tensor | dict[str, Tensor]) -> Tensor:
        if isinstance(values, dict):
            return encoder.features(**{name: value.to(device) for name, value in values.items()})
        return encoder.features(values.to(device))

    try:
        yield features
    finally:
        encoder.to(before).train(training)


def features_fingerprint(encoder: nn.Module) -> str:
    """A hash of what a frozen encoder's features depend on: its settings, but for its output, and its fixed weights."""
    settings: dict[str, Any] = dict(getattr(encoder, "settings", {}))
    settings.pop("out_dim", None)
    found = hashlib.sha256(json.dumps([type(encoder).__name__, settings], sort_keys=True).encode())
    trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    for name, weight in sorted(encoder.state_dict().items()):
        if name not in trained:
            found.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            found.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
