"""Encoders that hold another module: one that a user's function builds, one over frames, one over lists of files."""

import importlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from confu.nn.encoders.pretrained import check_features


class CustomEncoder(nn.Module):
    """A module that a function of the user's makes, e.g. `{"kind": "custom", "function": "birds.nets:wing"}`.

    The module is called with the modality's inputs, a tensor or a dict of tensors as keywords, and returns (batch,
    out_dim). If it has `features`, `feature_dim` and `frozen` (see the pretrained encoders), its features may be
    computed once; if it has `reader`, that is the reader that fits.

    **Building one imports the module that is named and runs its function.** Build one from settings of your own only;
    `load_model` therefore refuses to do it unless it is allowed.

    Args:
        function: "package.module:name".
        arguments: that it is called with; what JSON can hold.
        module: the result of the function, if it was already built; then nothing is imported.
    """

    def __init__(self, function: str, arguments: Mapping[str, Any] | None = None, module: Any = None):
        super().__init__()
        arguments = {} if arguments is None else dict(arguments)
        try:
            kept = json.loads(json.dumps(arguments))
        except TypeError as error:
            raise ValueError(f"arguments of {function!r} must be what JSON can hold; {error}") from error
        if module is None:
            module = _call(function, arguments)
        if not isinstance(module, nn.Module):
            raise ValueError(f"{function!r} must give a torch.nn.Module; got {type(module).__name__}")
        out_dim = getattr(module, "out_dim", None)
        if isinstance(out_dim, bool) or not isinstance(out_dim, int):
            raise ValueError(
                f"the module that {function!r} gives ({type(module).__name__}) must say the size of its features in an "
                f"attribute `out_dim` (an int); got {out_dim!r}"
            )
        self.settings: dict[str, Any] = {"kind": "custom", "function": function, "arguments": kept}
        self.module: Any = module
        self.out_dim = out_dim
        self.frozen = bool(getattr(module, "frozen", False))
        self.feature_dim: int | None = getattr(module, "feature_dim", None)
        self.reader: dict[str, Any] | None = getattr(module, "reader", None)

    def features(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """The module's own features before what is trained of it, (batch, feature_dim)."""
        if not hasattr(self.module, "features"):
            raise ValueError(f"the module of {self.settings['function']!r} has no `features` to compute once")
        return self.module.features(*inputs, **named)

    def forward(self, *inputs: Tensor, features: Tensor | None = None, **named: Tensor) -> Tensor:
        """The module's output for its inputs, or for `features` computed before."""
        if features is None:
            return self.module(*inputs, **named)
        return self.module(features=check_features(self, features))


def _call(function: str, arguments: Mapping[str, Any]) -> Any:
    path, _, name = function.partition(":")
    if not name.isidentifier() or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"function must be written 'package.module:name'; got {function!r}")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        # An error of what the user's module itself imports is passed on as it is.
        if error.name is None or not (path == error.name or path.startswith(f"{error.name}.")):
            raise
        raise ValueError(
            f"function {function!r}: no module named {error.name!r}; install the package, or set PYTHONPATH to the "
            "folder that holds it"
        ) from error
    build = getattr(module, name, None)
    if not callable(build):
        problem = "has nothing of that name" if build is None else f"holds a {type(build).__name__} there"
        raise ValueError(f"function {function!r} must be a function or a class; the module {problem}")
    try:
        inspect.signature(build).bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"function {function!r} cannot be called with the arguments {sorted(arguments)}: {error}"
        ) from error
    return build(**arguments)


class FramesEncoder(nn.Module):
    """The mean of an image encoder's output over the frames of a video.

        h = 1/F sum_f encoder(x_f)

    Args:
        encoder: of an image, (n, channels, height, width) to (n, out_dim).
        frames: that its reader takes from a video; the encoder itself takes any number.
    """

    def __init__(self, encoder: Any, frames: int = 8):
        super().__init__()
        self.encoder, self.frames = encoder, frames
        self.out_dim: int = encoder.out_dim
        inner = getattr(encoder, "settings", None)
        self.settings: dict[str, Any] = {"kind": "frames", "encoder": inner, "frames": frames}
        self.frozen: bool = getattr(encoder, "frozen", False)
        self.feature_dim: int | None = getattr(encoder, "feature_dim", None)
        image: Mapping[str, Any] | None = getattr(encoder, "reader", None)
        self.reader = None if image is None else {**image, "kind": "video", "frames": frames}

    def features(
        self, values: Float[Tensor, "batch frames channels height width"]
    ) -> Float[Tensor, "batch feature_dim"]:
        """The mean of the frames' features."""
        return self._mean(self.encoder.features, values)

    def forward(
        self,
        values: Float[Tensor, "batch ..."] | None = None,
        features: Float[Tensor, "batch feature_dim"] | None = None,
    ) -> Float[Tensor, "batch out_dim"]:
        """The features of each video, or the encoder's output for `features` computed before."""
        if values is None:  # what follows the features is a Linear, which may as well come after the mean
            return self.encoder(features=check_features(self, features))
        return self._mean(self.encoder, values)

    def _mean(self, encode: Any, values: Tensor) -> Tensor:
        if values.ndim != 5 or not values.shape[1]:
            raise ValueError(
                f"values must be (batch, frames, channels, height, width) with at least one frame; got shape "
                f"{tuple(values.shape)}"
            )
        return encode(values.flatten(0, 1)).unflatten(0, values.shape[:2]).mean(dim=1)


class ListEncoder(nn.Module):
    r"""The mean of an encoder's output over the files of an item, which may be of different number.

    $$h = \frac{1}{K} \sum_{k=1}^{K} f(x_k)$$

    Args:
        encoder: of one file.
    """

    def __init__(self, encoder: Any):
        super().__init__()
        self.encoder = encoder
        self.out_dim: int = encoder.out_dim
        self.settings: dict[str, Any] = {"kind": "list", "encoder": getattr(encoder, "settings", None)}
        self.frozen: bool = getattr(encoder, "frozen", False)
        self.feature_dim: int | None = getattr(encoder, "feature_dim", None)

    def features(
        self, values: Float[Tensor, "batch files ..."], mask: Bool[Tensor, "batch files"]
    ) -> Float[Tensor, "batch feature_dim"]:
        """The mean of the files' features."""
        return self._mean(self.encoder.features, values, mask)

    def forward(
        self,
        values: Float[Tensor, "batch files ..."] | None = None,
        mask: Bool[Tensor, "batch files"] | None = None,
        features: Float[Tensor, "batch feature_dim"] | None = None,
    ) -> Float[Tensor, "batch out_dim"]:
        """The mean of the outputs for the files where `mask` is True, or the output for `features` computed before."""
        if values is None or mask is None:  # what follows the features is a Linear, which may come after the mean
            return self.encoder(features=check_features(self, features))
        return self._mean(self.encoder, values, mask)

    def _mean(self, encode: Any, values: Tensor, mask: Tensor) -> Tensor:
        mask = mask.bool()
        if torch.compiler.is_exporting():  # no graph can have as many inputs as a mask says: padding is encoded too
            encoded = encode(values.flatten(0, 1)).unflatten(0, mask.shape)
            return (encoded * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        encoded = encode(values[mask])
        sums = encoded.new_zeros(len(mask), encoded.shape[1]).index_add(0, mask.nonzero()[:, 0], encoded)
        return sums / mask.sum(1, keepdim=True)
