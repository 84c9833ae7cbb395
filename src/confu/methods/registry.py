"""The table of methods: one row each; importable without torch.

Encoders, projections, optimizer, number of epochs and the choice of the epoch are the same for all of them and belong
to the experiment, not to the method. A name that ends in `-released` is the method as the released code of ConFu
trains it (`as_released`), with that code's choices and without its errors in evaluation; without the ending it is the
fair one.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import Any

from confu.plan import Plan, pairwise_plan

ENTRY_POINTS = "confu.methods"


@dataclass(frozen=True)
class Method:
    """What is a method's own.

    Attributes:
        loss: makes the loss module from the plan and a `confu.nn.Temperature`; imports its class itself.
        about: what distinguishes it, for tables and `--help`.
        score: how embeddings are compared (`confu.types.SCORES`).
        fused: whether it has fused terms, and so a λ and fusion networks.
        fusion: kind of fusion network.
        temperature: where it begins.
        learned: whether it is learned; None leaves it to the experiment.
        temperature_lr: learning rate of a learned temperature.
        lowest: bound of a learned temperature.
        train_projections: False leaves them as they were initialised.
    """

    loss: Callable[[Plan, Any], Any]
    about: str
    score: str = "cosine"
    fused: bool = False
    fusion: str = "mlp"
    temperature: float = 0.07
    learned: bool | None = None
    temperature_lr: float | None = None
    lowest: float = 0.01
    train_projections: bool = True


def _loss(name: str, first_is_anchor: bool = False, **options: Any) -> Callable[[Plan, Any], Any]:
    """A loss by the name of its class in `confu.losses`, of a plan (ConFu) or of all its modalities at once."""

    def make(plan: Plan, temperature: Any) -> Any:
        import confu.losses

        anchors = {"anchors": plan.modalities[:1]} if first_is_anchor else {}
        subject = plan if name == "ConFuLoss" else plan.modalities
        return getattr(confu.losses, name)(subject, temperature, **anchors, **options)

    return make


def _clip(plan: Plan, temperature: Any) -> Any:
    # A plan that leaves pairs out (every modality with one pivot) is not CLIPLoss's, but the same sum.
    whole = plan == pairwise_plan(plan.modalities)
    return _loss("CLIPLoss" if whole else "ConFuLoss")(plan, temperature)


_LEARNED: dict[str, Any] = {"learned": True, "temperature_lr": 1e-2}
_SYMILE = Method(
    _loss("SymileLoss"),
    "multilinear product, every anchor, shuffled negatives, learned temperature",
    score="multilinear",
    temperature=math.exp(-2.5),
    learned=True,
    temperature_lr=0.1,
    lowest=1e-3,
)
_CONFU = Method(_loss("ConFuLoss"), "pairs and fused pairs (Eq. 7), MLP fusion with a linear output", fused=True)

_BUILT_IN: dict[str, Method] = {
    "clip": Method(_clip, "a model for each pair with the target"),
    "tri-clip": Method(_clip, "every pair of modalities"),
    "symile": _SYMILE,
    "symile-n2": replace(
        _SYMILE,
        loss=_loss("SymileLoss", negatives="n_squared"),
        about="Symile with every combination of the batch's rows as a negative",
    ),
    "gram": Method(
        _loss("GRAMLoss"), "Gramian volume, every modality an anchor, learned temperature", score="volume", **_LEARNED
    ),
    "triangle": Method(
        _loss("TRIANGLELoss"),
        "triangle area (published formula), every modality an anchor, learned temperature",
        score="area",
        **_LEARNED,
    ),
    "confu": _CONFU,
    "confu-bilinear": replace(
        _CONFU, about="ConFu with bilinear fusion and a learned temperature", fusion="bilinear", **_LEARNED
    ),
    "symile-released": replace(
        _SYMILE, about="as released: the projections are never trained", train_projections=False
    ),
    "gram-released": Method(
        _loss("GRAMLoss", first_is_anchor=True, label_smoothing=0.1),
        "as released: the first modality the only anchor, temperature 0.07, label smoothing 0.1",
        score="volume",
        learned=False,
    ),
    "triangle-released": Method(
        _loss("TRIANGLELoss", first_is_anchor=True, formula="released", label_smoothing=0.1),
        "as released: no root in the area, the first modality the only anchor, temperature 0.07, label smoothing 0.1",
        score="area",
        learned=False,
    ),
    "confu-released": replace(
        _CONFU,
        loss=_loss("ConFuLoss", weighting="released"),
        about="as released: activation and dropout at the fusion network's output",
        fusion="released",
        learned=False,
    ),
}


class _Methods(Mapping[str, Method]):
    """The built-in rows; rows of the entry-point group `confu.methods` are read only for other names."""

    def __getitem__(self, name: str) -> Method:
        if name in _BUILT_IN:
            return _BUILT_IN[name]
        for entry in entry_points(group=ENTRY_POINTS, name=name):
            method = entry.load()
            if not isinstance(method, Method):
                raise ValueError(f"the entry point {name!r} of {ENTRY_POINTS} must be a Method; got {method!r}")
            return method
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*_BUILT_IN, *sorted(entry_points(group=ENTRY_POINTS).names)]))

    def __len__(self) -> int:
        return len(list(iter(self)))


METHODS: Mapping[str, Method] = _Methods()
"""Every method by name, those of other packages too."""

FAIR = ("clip", "tri-clip", "symile", "gram", "triangle", "confu")
AS_RELEASED = ("clip", "tri-clip", "symile-released", "gram-released", "triangle-released", "confu-released")
VARIANTS: dict[str, tuple[str, ...]] = {
    "fair": FAIR,
    "as_released": AS_RELEASED,
    "both": (*FAIR, *(name for name in AS_RELEASED if name not in FAIR)),
}


def paper_name(method: str) -> str:
    """The paper's method that a variant is one of: `gram` for `gram-released`."""
    return next(name for name in sorted(FAIR, key=len, reverse=True) if method == name or method.startswith(name + "-"))
