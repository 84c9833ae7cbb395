"""Encoders by a short name, as a run file gives it: our own, pretrained ones, any of transformers, and the user's."""

import re
from typing import Any

from confu.checks import check_known
from confu.nn.encoders.wheels import MINILM

OWN: dict[str, dict[str, dict[str, Any]]] = {
    "conv": {
        "image": {"in_channels": 3},
        # Spectrograms are wide: a first convolution with a large stride saves most of the time.
        "audio": {"in_channels": 1, "first_kernel": 7, "first_stride": 4},
    },
    "resnet": {"image": {"in_channels": 3, "depth": 18}, "audio": {"in_channels": 1, "depth": 18}},
    "mlp": {"vector": {"hidden_dims": [256]}, "number": {"in_dim": 1, "hidden_dims": [64]}},
    "sequence": {"sequence": {}},
    "tokens": {"text": {}},
    "bert": {"text": {}},
    "efficientnet-lite0": {"image": {"tune": "frozen", "pretrained": True}},
    "speech": {"audio": {"tune": "frozen", "pretrained": True}},
}
"""By name and what it reads, the settings that are not the default's."""

NAMES: dict[str, tuple[str, ...]] = {
    "image": ("conv", "resnet", "efficientnet-lite0"),
    "video": ("conv", "resnet", "efficientnet-lite0"),
    "audio": ("conv", "resnet", "speech"),
    "text": ("tokens", "bert", "minilm"),
    "vector": ("mlp",),
    "number": ("mlp",),
    "sequence": ("sequence",),
}
"""The short names that fit each kind of data; beside them a hub id, a folder, or a function of one's own."""

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_HUB = re.compile(r"[\w.-]+/[\w.-]+")


def encoder_for(name: str, kind: str, out_dim: int) -> dict[str, Any]:
    """The settings of an encoder from a short name.

    >>> encoder_for("conv", "image", 128)
    {'kind': 'conv', 'in_channels': 3, 'out_dim': 128}
    >>> encoder_for("org/model", "text", 64)
    {'kind': 'transformers', 'pretrained': 'org/model', 'modality': 'text', 'tune': 'frozen', 'out_dim': 64}

    Pretrained ones are frozen. What depends on the data is not in the settings and must be added: `in_dim` of "mlp"
    (for vectors) and "sequence", `vocab_size` of "tokens".

    Args:
        name: one of `NAMES[kind]`; "org/model" on the hub or a folder ("./folder", an absolute path) with a network of
            transformers; or "package.module:function", which builds an encoder and says its own `out_dim`.
        kind: of the data: "image", "audio", "video", "text", "vector", "sequence" or "number". Of a video each frame
            is encoded as an image.
        out_dim: size of the features.

    Raises:
        ValueError: for an unknown kind, or a name that is neither of these or does not fit the kind.
        ImportError: for "minilm", if its wheel is not installed.
    """
    check_known("kind of data", kind, NAMES)
    if _FUNCTION.fullmatch(name):
        return {"kind": "custom", "function": name, "arguments": {}}
    if kind == "video":
        return {"kind": "frames", "encoder": encoder_for(name, "image", out_dim)}
    if name == "minilm" and kind == "text":
        return _transformers(str(MINILM.locate()), kind, out_dim)
    if name.startswith((".", "/", "~")) or _HUB.fullmatch(name):
        if kind not in ("image", "audio", "text"):
            raise ValueError(
                f"encoder {name!r}: networks of transformers read image, audio, video and text, not {kind}"
            )
        return _transformers(name, kind, out_dim)
    if name not in NAMES[kind]:
        fits = [data for data, names in NAMES.items() if name in names]
        if fits:
            raise ValueError(f"encoder {name!r} reads {', '.join(fits)}, not {kind}; take {_or(NAMES[kind])}")
        raise ValueError(
            f"encoder {name!r} is not known; for {kind} take {_or(NAMES[kind])}, 'org/model' of the hub, a folder "
            "'./folder', or 'package.module:function'"
        )
    return {"kind": name, **OWN[name][kind], "out_dim": out_dim}


def _transformers(source: str, modality: str, out_dim: int) -> dict[str, Any]:
    return {
        "kind": "transformers", "pretrained": source, "modality": modality, "tune": "frozen", "out_dim": out_dim,
    }  # fmt: skip


def _or(names: tuple[str, ...]) -> str:
    return " or ".join(map(repr, names))
