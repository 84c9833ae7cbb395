"""An encoder of the user's own: a function that builds it, named in the settings."""

import importlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from confu.nn.encoders.features import check_features


class CustomEncoder(nn.Module):
    """A module that a function of the user's makes, e.g. `{"kind": "custom", "function": "birds.nets:wing"}`.

    The module is called with the modality's inputs, a tensor or a dict of tensors as keywords, and returns (batch,
    out_dim). If it has `features`, `feature_dim` and `frozen` (see the pretrained encoders), its features may be
    computed once; if it has `reader`, that is the reader that fits.

    **Building one imports the module that is named and runs its function.** Build one from settings of your own only;
    `load_model` therefore refuses to do it unless it is allowed.

    >>> import torch
    >>> class Doubled(nn.Module):
    ...     out_dim = 3
    ...     def forward(self, values):
    ...         return 2 * values
    >>> CustomEncoder("birds.nets:doubled", module=Doubled())(torch.ones(1, 3))
    tensor([[2., 2., 2.]])

    Args:
        function: "package.module:name".
        arguments: that it is called with; what JSON can hold.
        module: what the function would give, if it was already built; then nothing is imported.

    Raises:
        ValueError: if there is no such module or function, if it cannot be called with the arguments, or if what it
            gives is no module with an `out_dim`.
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
        """What the module makes of its inputs, or of `features` computed before."""
        if features is None:
            return self.module(*inputs, **named)
        return self.module(features=check_features(self, features))


def _call(function: str, arguments: Mapping[str, Any]) -> Any:
    path, _, name = function.partition(":")
    if not name.isidentifier() or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"function must be written 'package.module:name'; got {function!r}")
    try:
        found = importlib.import_module(path)
    except ModuleNotFoundError as error:
        # What is missing may also be something that the user's module imports: that error is theirs to read.
        if error.name is None or not (path == error.name or path.startswith(f"{error.name}.")):
            raise
        raise ValueError(
            f"function {function!r}: no module named {error.name!r}; install the package, or set PYTHONPATH to the "
            "folder that holds it"
        ) from error
    made_by = getattr(found, name, None)
    if not callable(made_by):
        what = "has nothing of that name" if made_by is None else f"holds a {type(made_by).__name__} there"
        raise ValueError(f"function {function!r} must be a function or a class; the module {what}")
    try:
        inspect.signature(made_by).bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"function {function!r} cannot be called with the arguments {sorted(arguments)}: {error}"
        ) from error
    return made_by(**arguments)
