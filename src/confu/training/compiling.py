"""Encoders that torch compiles."""

from collections.abc import Callable
from typing import Any

from torch import nn


def compile_encoders(objective: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Let torch compile every encoder of the objective's model at its first call, and for other shapes once more.

    In place: modules, the names of their weights and what is saved stay as they are, so that a run may go on with or
    without. Only encoders: a loss branches on numbers, and its large products gain nothing.

    >>> from confu.nn.encoders import MLPEncoder
    >>> model = nn.Module()
    >>> model.encoders = nn.ModuleDict({"x": MLPEncoder(2, [3], 4)})
    >>> objective = nn.Module()
    >>> objective.model = model
    >>> before = list(objective.state_dict())
    >>> compile_encoders(objective, backend="eager")
    >>> list(objective.state_dict()) == before
    True

    Args:
        objective: has a `model` with `encoders`; changed in place.
        backend: of `torch.compile`, by name or as a function of a graph and its inputs.

    Raises:
        ValueError: if it has none.
    """
    encoders = getattr(getattr(objective, "model", None), "encoders", None)
    if not isinstance(encoders, nn.ModuleDict) or not len(encoders):
        raise ValueError(
            f"compile is about the encoders of a model, and {type(objective).__name__} has no `model.encoders`; "
            "leave it out"
        )
    for encoder in encoders.values():
        encoder.compile(backend=backend)
