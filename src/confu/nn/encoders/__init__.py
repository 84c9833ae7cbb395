"""Encoders by kind: each maps one modality's inputs to features (batch, out_dim).

An encoder is a module with `out_dim` and `settings`: a JSON-able dict of its kind and its constructor's arguments, from
which `build_encoder` makes it again. It takes a tensor, or a dict of tensors as keywords.

Pretrained ones have also `frozen`, `feature_dim`, `features(inputs)`, which gives what comes before their last Linear
and of a frozen one may be computed once, `forward(features=...)`, which takes it, and `reader`: how inputs are read.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from confu.checks import check_known
from confu.nn.encoders.conv import ConvEncoder
from confu.nn.encoders.custom import CustomEncoder
from confu.nn.encoders.efficientnet_lite import EfficientNetLite0Encoder
from confu.nn.encoders.frames import FramesEncoder
from confu.nn.encoders.hub import TransformersEncoder
from confu.nn.encoders.huggingface import BertEncoder, ResNetEncoder
from confu.nn.encoders.mlp import MLPEncoder
from confu.nn.encoders.names import NAMES, encoder_for
from confu.nn.encoders.sequence import SequenceEncoder
from confu.nn.encoders.speech import SpeechEncoder
from confu.nn.encoders.tokens import TokenEncoder

__all__ = [
    "ENCODERS",
    "NAMES",
    "BertEncoder",
    "ConvEncoder",
    "CustomEncoder",
    "EfficientNetLite0Encoder",
    "FramesEncoder",
    "MLPEncoder",
    "ResNetEncoder",
    "SequenceEncoder",
    "SpeechEncoder",
    "TokenEncoder",
    "TransformersEncoder",
    "build_encoder",
    "custom_functions",
    "encoder_for",
    "settings_of",
]

ENCODERS: dict[str, type[nn.Module]] = {
    "mlp": MLPEncoder,
    "conv": ConvEncoder,
    "sequence": SequenceEncoder,
    "tokens": TokenEncoder,
    "resnet": ResNetEncoder,
    "bert": BertEncoder,
    "transformers": TransformersEncoder,
    "efficientnet-lite0": EfficientNetLite0Encoder,
    "speech": SpeechEncoder,
    "frames": FramesEncoder,
    "custom": CustomEncoder,
}


def build_encoder(settings: Mapping[str, Any]) -> nn.Module:
    """An encoder from its settings, with new weights unless they name pretrained ones.

    The kind "custom" runs a function that the settings name; settings from elsewhere are checked with
    `custom_functions` first.

    >>> build_encoder({"kind": "mlp", "in_dim": 5, "hidden_dims": [128], "out_dim": 64}).out_dim
    64

    Args:
        settings: "kind", a name in `ENCODERS`, and the arguments of that class.

    Returns:
        A module that maps inputs to (batch, out_dim).

    Raises:
        ValueError: for no kind, an unknown one, or arguments that it lacks or does not know.
    """
    arguments = dict(settings)
    if "kind" not in arguments:
        raise ValueError(
            f"an encoder's settings must name its kind, one of {', '.join(map(repr, ENCODERS))}; got {dict(settings)}"
        )
    kind = arguments.pop("kind")
    check_known("encoder kind", kind, ENCODERS)
    signature = inspect.signature(ENCODERS[kind])
    for name in arguments:
        check_known(f"setting of the {kind!r} encoder", name, signature.parameters)
    lacking = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is inspect.Parameter.empty and name not in arguments
    ]
    if lacking:
        raise ValueError(
            f"the {kind!r} encoder needs the setting {', '.join(map(repr, lacking))}; got {dict(settings)}"
        )
    if kind == "frames":
        arguments["encoder"] = build_encoder(arguments["encoder"])
    return ENCODERS[kind](**arguments)


def settings_of(encoder: nn.Module) -> dict[str, Any] | None:
    """An encoder's settings if they rebuild it; None for those of a subclass of ours, or of a stranger.

    >>> settings_of(nn.Linear(2, 3)) is None
    True
    """
    settings = getattr(encoder, "settings", None)
    if not isinstance(settings, dict) or ENCODERS.get(settings.get("kind", "")) is not type(encoder):
        return None
    if isinstance(encoder, FramesEncoder) and settings_of(encoder.encoder) is None:
        return None
    return settings


def custom_functions(settings: Mapping[str, Any] | None) -> list[str]:
    """The functions that building an encoder from these settings would import and run.

    >>> custom_functions({"kind": "frames", "encoder": {"kind": "custom", "function": "birds.nets:wing"}})
    ['birds.nets:wing']
    """
    if settings is None:
        return []
    own = [str(settings.get("function"))] if settings.get("kind") == "custom" else []
    return own + (custom_functions(settings["encoder"]) if isinstance(settings.get("encoder"), Mapping) else [])
