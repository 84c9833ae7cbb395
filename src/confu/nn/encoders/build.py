"""Encoders from their settings, and settings from encoders.

An encoder is a module with `out_dim` and `settings`: a JSON-able dict of its kind and its constructor's arguments, from
which `build_encoder` makes it again. It maps one modality's inputs, a tensor or a dict of tensors as keywords, to
features (batch, out_dim).

Pretrained ones have `frozen`, `feature_dim`, `features(inputs)`, which gives what comes before their last Linear
and of a frozen one may be computed once, `forward(features=...)`, which takes it, and `reader`: settings of the reader
that makes their inputs.
"""

import inspect
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from confu.checks import check_known
from confu.nn.encoders.registry import ENCODERS, encoder_row


def build_encoder(settings: Mapping[str, Any]) -> nn.Module:
    """An encoder from its settings, with new weights unless they name pretrained ones.

    The kind "custom" runs a function that the settings name: check settings from elsewhere with `custom_functions`.

    >>> build_encoder({"kind": "mlp", "in_dim": 5, "hidden_dims": [128], "out_dim": 64}).out_dim
    64

    Args:
        settings: "kind", a name in `ENCODERS` or of another distribution's encoder, and the arguments of that class.

    Raises:
        ValueError: for no kind, an unknown one, or arguments that it lacks or does not know.
    """
    arguments = dict(settings)
    if "kind" not in arguments:
        kinds = ", ".join(repr(name) for name, row in ENCODERS.items() if row.path)
        raise ValueError(f"an encoder's settings must name its kind, one of {kinds}; got {dict(settings)}")
    kind = arguments.pop("kind")
    family = encoder_row(kind).load()
    parameters = inspect.signature(family).parameters
    for name in arguments:
        check_known(f"setting of the {kind!r} encoder", name, parameters)
    required = [name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]
    if missing := [name for name in required if name not in arguments]:
        raise ValueError(
            f"the {kind!r} encoder needs the setting {', '.join(map(repr, missing))}; got {dict(settings)}"
        )
    if kind in ("frames", "list"):
        arguments["encoder"] = build_encoder(arguments["encoder"])
    return family(**arguments)


def settings_from(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an encoder from the `locals()` at the start of its constructor."""
    named = {name: value for name, value in arguments.items() if name not in ("self", "__class__")}
    return {"kind": kind, **{name: list(v) if isinstance(v, list | tuple) else v for name, v in named.items()}}


def settings_of(encoder: nn.Module) -> dict[str, Any] | None:
    """An encoder's settings if they rebuild it; None for those of a subclass or of a module in no registry.

    >>> settings_of(nn.Linear(2, 3)) is None
    True
    """
    settings = getattr(encoder, "settings", None)
    if not isinstance(settings, dict) or not isinstance(settings.get("kind"), str):
        return None
    try:
        family = encoder_row(settings["kind"]).load()
    except ValueError:
        return None
    inner = getattr(encoder, "encoder", None) if settings["kind"] in ("frames", "list") else None
    if family is not type(encoder) or (inner is not None and settings_of(inner) is None):
        return None
    return settings


def input_sizes(
    settings: Mapping[str, Any], inputs: Tensor | Mapping[str, Tensor], vocabulary_size: int | None = None
) -> dict[str, Any]:
    """The settings of an encoder that its inputs decide, by the `sized_by` of its row.

    Args:
        settings: of the encoder.
        inputs: of one row or more, as the encoder gets them.
        vocabulary_size: of the reader of texts, if it has a vocabulary.

    Raises:
        ValueError: if nothing says how large the vocabulary is.
    """
    values = inputs if isinstance(inputs, Tensor) else inputs.get("values", inputs.get("input_ids"))
    sized_by = encoder_row(settings["kind"]).sized_by
    if sized_by == "vocabulary":
        if vocabulary_size is None and "vocab_size" not in settings:
            raise ValueError("the encoder needs its vocab_size beside a reader without a vocabulary; add it")
        return {} if "vocab_size" in settings else {"vocab_size": vocabulary_size}
    if values is None or sized_by is None:
        return {}
    if sized_by != "image":
        return {"in_dim": math.prod(values.shape[1:]) if sized_by == "vector" else values.shape[-1]}
    sizes = {"in_channels": values.shape[1] if values.ndim == 4 else 1}
    return sizes | ({"height": values.shape[-2]} if settings.get("pooling") == "max-time" else {})
