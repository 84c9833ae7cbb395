"""Encoders by kind: each maps one modality's inputs to features (batch, out_dim).

An encoder is a module with `out_dim` and `settings`: a JSON-able dict of its kind and its constructor's arguments, from
which `build_encoder` makes it again. It takes a tensor, or a dict of tensors as keywords.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from confu.checks import check_known
from confu.nn.encoders.conv import ConvEncoder
from confu.nn.encoders.huggingface import BertEncoder, ResNetEncoder
from confu.nn.encoders.mlp import MLPEncoder
from confu.nn.encoders.sequence import SequenceEncoder
from confu.nn.encoders.tokens import TokenEncoder

__all__ = [
    "ENCODERS",
    "BertEncoder",
    "ConvEncoder",
    "MLPEncoder",
    "ResNetEncoder",
    "SequenceEncoder",
    "TokenEncoder",
    "build_encoder",
]

ENCODERS: dict[str, type[nn.Module]] = {
    "mlp": MLPEncoder,
    "conv": ConvEncoder,
    "sequence": SequenceEncoder,
    "tokens": TokenEncoder,
    "resnet": ResNetEncoder,
    "bert": BertEncoder,
}


def build_encoder(settings: Mapping[str, Any]) -> nn.Module:
    """An encoder from its settings, with new weights.

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
    return ENCODERS[kind](**arguments)
