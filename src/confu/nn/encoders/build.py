"""Encoders from their settings, and settings from encoders.

An encoder is a module with `out_dim` and `settings`: a JSON-able dict of its kind and its constructor's arguments, from
which `build_encoder` makes it again. It maps one modality's inputs, a tensor or a dict of tensors as keywords, to
features (batch, out_dim).

One that is made for the sizes of its inputs has a static method `input_sizes(settings, values, vocabulary_size)`, which
gives the settings that they decide. Pretrained ones have `frozen`, `feature_dim`, `features(inputs)`, which gives what
comes before their last Linear and of a frozen one may be computed once, `forward(features=...)`, which takes it, and
`reader`: settings of the reader that makes their inputs.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from confu.checks import check_known
from confu.nn.encoders.registry import ENCODERS, encoder_row


def build_encoder(settings: Mapping[str, Any]) -> nn.Module:
    """An encoder from its settings, with new weights unless they name pretrained ones.

    The kind "custom" runs a function that the settings name; settings from elsewhere are checked with
    `custom_functions` first.

    >>> build_encoder({"kind": "mlp", "in_dim": 5, "hidden_dims": [128], "out_dim": 64}).out_dim
    64

    Args:
        settings: "kind", a name in `ENCODERS` or of another distribution's encoder, and the arguments of that class.

    Returns:
        A module that maps inputs to (batch, out_dim).

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
    if kind == "frames":
        arguments["encoder"] = build_encoder(arguments["encoder"])
    return family(**arguments)


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
    inner = getattr(encoder, "encoder", None) if settings["kind"] == "frames" else None
    if family is not type(encoder) or (inner is not None and settings_of(inner) is None):
        return None
    return settings


def sized_by_inputs(settings: Mapping[str, Any]) -> bool:
    """Whether an encoder is made for the sizes of its inputs; any other says in `reader` how its inputs are read."""
    return hasattr(encoder_row(settings["kind"]).load(), "input_sizes")


def input_sizes(
    settings: Mapping[str, Any], inputs: Tensor | Mapping[str, Tensor], vocabulary_size: int | None = None
) -> dict[str, Any]:
    """The settings of an encoder that its inputs decide, such as `in_dim`, `in_channels` or `vocab_size`.

    Args:
        settings: of an encoder that is `sized_by_inputs`.
        inputs: of one row or more, as the encoder gets them.
        vocabulary_size: of the reader of texts, if it has a vocabulary.

    Raises:
        ValueError: if nothing says how large the vocabulary is.
    """
    values = inputs if isinstance(inputs, Tensor) else inputs.get("values", inputs.get("input_ids"))
    family: Any = encoder_row(settings["kind"]).load()
    sizes: dict[str, Any] = family.input_sizes(settings, values, vocabulary_size)
    if "vocab_size" in sizes and "vocab_size" in settings:
        del sizes["vocab_size"]
    elif sizes.get("vocab_size", 1) is None:
        raise ValueError("the encoder needs its vocab_size beside a reader without a vocabulary; add it")
    return sizes
