"""The methods that are compared: which loss trains them, which plan they follow, and how they compare embeddings.

Encoders, projections, optimizer, number of epochs and the choice of the epoch are the same for all of them and belong
to the experiment, not to the method. A name that ends in `-released` is the method as the released code of ConFu
trains it (`as_released`), with that code's choices and without its errors in evaluation; without the ending it is the
fair one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from confu.checks import check_known
from confu.losses import CLIPLoss, ConFuLoss, GRAMLoss, SymileLoss, TRIANGLELoss
from confu.losses.terms import SAME_GROUP
from confu.models import MultimodalModel
from confu.nn import Temperature
from confu.plan import Plan, confu_plan, pairwise_plan
from confu.training import ContrastiveObjective, TrainSettings

Value = float | int | str
Tweaks = Mapping[str, Value]


@dataclass(frozen=True)
class Domain:
    """A setting, and which numbers it takes.

    Attributes:
        about: what the setting is.
        whole: whether it takes whole numbers only.
        words: the numbers that it takes, in words.
        accepts: whether a number is one of them.
    """

    about: str
    whole: bool
    words: str
    accepts: Callable[[float], bool]


_SIZE = (True, "of at least 1", lambda value: value >= 1)
_POSITIVE = (False, "above 0", lambda value: value > 0)
_WEIGHT = (False, "in [0, 1]", lambda value: 0 <= value <= 1)
_RATIO = (False, "in [0, 1)", lambda value: 0 <= value < 1)

DOMAINS: dict[str, Domain] = {
    "fused_weight": Domain("λ of Eq. 7, the weight of the fused terms (ConFu)", *_WEIGHT),
    "mask_ratio": Domain("share of the features dropped before fusion in training (ConFu)", *_RATIO),
    "dim": Domain("size of the common space", *_SIZE),
    "fusion_depth": Domain("hidden layers of the fusion networks (ConFu)", *_SIZE),
    "fusion_dim": Domain("width of the fusion networks (ConFu)", *_SIZE),
    "lr": Domain("peak learning rate", *_POSITIVE),
    "temperature": Domain("the temperature, or where a learned one begins", *_POSITIVE),
    "temperature_lr": Domain("learning rate of a learned temperature", *_POSITIVE),
    "epochs": Domain("passes over the training set", *_SIZE),
    "batch_size": Domain("rows a step", True, "of at least 2", lambda value: value >= 2),
    "weight_decay": Domain("of AdamW", False, "of at least 0", lambda value: value >= 0),
    "warmup_steps": Domain("steps of linear rise", True, "of at least 0", lambda value: value >= 0),
}
"""The settings that a sweep or a search may change, by name."""

MODEL_TWEAKS = ("dim", "fusion_depth", "fusion_dim", "mask_ratio")
TRAIN_TWEAKS = ("lr", "temperature_lr", "epochs", "batch_size", "weight_decay", "warmup_steps")
FUSION_TWEAKS = ("fused_weight", "fusion_depth", "fusion_dim", "mask_ratio")


@dataclass(frozen=True)
class Method:
    """What is a method's own.

    Attributes:
        loss: makes the loss from the plan and the temperature.
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

    loss: Callable[[Plan, Temperature], nn.Module]
    about: str
    score: str = "cosine"
    fused: bool = False
    fusion: str = "mlp"
    temperature: float = 0.07
    learned: bool | None = None
    temperature_lr: float | None = None
    lowest: float = 0.01
    train_projections: bool = True


def _clip(plan: Plan, temperature: Temperature) -> nn.Module:
    # A plan that leaves pairs out (every modality with one pivot) is not CLIPLoss's, but the same sum.
    whole = plan == pairwise_plan(plan.modalities)
    return CLIPLoss(plan.modalities, temperature) if whole else ConFuLoss(plan, temperature)


METHODS: dict[str, Method] = {
    "clip": Method(_clip, "a model for each pair with the target"),
    "tri-clip": Method(_clip, "every pair of modalities"),
    "symile": Method(
        lambda plan, temperature: SymileLoss(plan.modalities, temperature),
        "multilinear product, every anchor, shuffled negatives, learned temperature",
        score="multilinear", temperature=math.exp(-2.5), learned=True, temperature_lr=0.1, lowest=1e-3,
    ),
    "symile-n2": Method(
        lambda plan, temperature: SymileLoss(plan.modalities, temperature, negatives="n_squared"),
        "Symile with every combination of the batch's rows as a negative",
        score="multilinear", temperature=math.exp(-2.5), learned=True, temperature_lr=0.1, lowest=1e-3,
    ),
    "gram": Method(
        lambda plan, temperature: GRAMLoss(plan.modalities, temperature),
        "Gramian volume, every modality an anchor, learned temperature",
        score="volume", learned=True, temperature_lr=1e-2,
    ),
    "triangle": Method(
        lambda plan, temperature: TRIANGLELoss(plan.modalities, temperature),
        "triangle area (published formula), every modality an anchor, learned temperature",
        score="area", learned=True, temperature_lr=1e-2,
    ),
    "confu": Method(ConFuLoss, "pairs and fused pairs (Eq. 7), MLP fusion with a linear output", fused=True),
    "confu-bilinear": Method(
        ConFuLoss, "ConFu with bilinear fusion and a learned temperature", fused=True, fusion="bilinear", learned=True,
        temperature_lr=1e-2,
    ),
    "symile-released": Method(
        lambda plan, temperature: SymileLoss(plan.modalities, temperature),
        "as released: the projections are never trained",
        score="multilinear", temperature=math.exp(-2.5), learned=True, temperature_lr=0.1, lowest=1e-3,
        train_projections=False,
    ),
    "gram-released": Method(
        lambda plan, temperature: GRAMLoss(
            plan.modalities, temperature, anchors=plan.modalities[:1], label_smoothing=0.1
        ),
        "as released: the first modality the only anchor, temperature 0.07, label smoothing 0.1",
        score="volume", learned=False,
    ),
    "triangle-released": Method(
        lambda plan, temperature: TRIANGLELoss(
            plan.modalities, temperature, anchors=plan.modalities[:1], formula="released", label_smoothing=0.1
        ),
        "as released: no root in the area, the first modality the only anchor, temperature 0.07, label smoothing 0.1",
        score="area", learned=False,
    ),
    "confu-released": Method(
        lambda plan, temperature: ConFuLoss(plan, temperature, weighting="released"),
        "as released: activation and dropout at the fusion network's output",
        fused=True, fusion="released", learned=False,
    ),
}  # fmt: skip

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


def build_objective(
    method: str,
    modalities: Sequence[str],
    encoders: Mapping[str, nn.Module],
    dim: int,
    learned_temperature: bool = False,
    tweaks: Tweaks | None = None,
    plan: Plan | None = None,
    same_group: str = "negatives",
) -> ContrastiveObjective:
    """The model and the loss of a method.

    Args:
        method: one of `METHODS`.
        modalities: of the plan, three for ConFu and TRIANGLE.
        encoders: by modality, newly initialised.
        dim: size of the common space.
        learned_temperature: of a method that leaves it to the experiment.
        tweaks: changed settings, by the names in `DOMAINS`.
        plan: instead of the method's own for these modalities.
        same_group: what rows of one group are to one another, for ConFu and CLIP (see `ConFuLoss`).

    Raises:
        ValueError: for an unknown method or tweak, or one that the method does not have.
    """
    check_known("method", method, METHODS)
    spec, tweaks = METHODS[method], dict(tweaks or {})
    check_method_tweaks(method, tweaks)
    if plan is None:
        weight = float(tweaks.get("fused_weight", 0.5))
        plan = confu_plan(modalities, weight) if spec.fused else pairwise_plan(modalities)
    settings = {"dim": dim, "fusion": spec.fusion, **{name: tweaks[name] for name in MODEL_TWEAKS if name in tweaks}}
    model = MultimodalModel(plan, encoders, score=spec.score, **settings)
    if not spec.train_projections:
        model.projections.requires_grad_(False)
    learned = learned_temperature if spec.learned is None else spec.learned
    temperature = Temperature(float(tweaks.get("temperature", spec.temperature)), learned, minimum=spec.lowest)
    loss = spec.loss(plan, temperature)
    if same_group != "negatives":
        if not isinstance(loss, ConFuLoss | CLIPLoss):
            raise ValueError(f"{method} compares all modalities at once and takes no same_group; got {same_group!r}")
        check_known("same_group", same_group, SAME_GROUP)
        loss.same_group = same_group
    return ContrastiveObjective(model, loss)


def tweaked(train: TrainSettings, method: str, tweaks: Tweaks) -> TrainSettings:
    """The training settings of a method with the tweaks among them."""
    changed = {name: tweaks[name] for name in TRAIN_TWEAKS if name in tweaks}
    own = {"temperature_lr": METHODS[method].temperature_lr} if METHODS[method].temperature_lr else {}
    return TrainSettings(**{**train.model_dump(), **own, **changed})


def check_method_tweaks(method: str, tweaks: Tweaks) -> None:
    """Refuse a tweak that is unknown, out of its range, or that the method does not have.

    Raises:
        ValueError: naming it.
    """
    check_tweaks(tweaks)
    for name in tweaks:
        if name in FUSION_TWEAKS and not METHODS[method].fused:
            raise ValueError(f"{method} has no fusion networks, so {name} changes nothing; sweep it on confu")


def suffix(tweaks: Tweaks) -> str:
    """What is added to a run's name: `-fused_weight0.1-mask_ratio0.3`; nothing without tweaks."""
    return "".join(f"-{name}{value:g}" if isinstance(value, float) else f"-{name}{value}"
                   for name, value in sorted(tweaks.items()))  # fmt: skip


def check_tweaks(tweaks: Tweaks) -> None:
    """Check that every name is known and every number is one that it takes.

    >>> check_tweaks({"mask_ratio": 1.0})
    Traceback (most recent call last):
    ValueError: mask_ratio must be a number in [0, 1); got 1.0

    Raises:
        ValueError: for the first that is not.
    """
    for name, value in tweaks.items():
        check_known("setting", name, DOMAINS)
        check_number(name, value)


def check_number(name: str, value: Value) -> float | int:
    """The value of a setting as a number.

    Raises:
        ValueError: if it is none that the setting takes.
    """
    domain = DOMAINS[name]
    try:
        # Not int(float(...)) of a fraction: 2.5 layers are an error, not 2.
        number = float(value)
        if domain.whole and math.isfinite(number):
            number = int(number) if number == int(number) else math.nan
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and domain.accepts(number)):
        raise ValueError(f"{name} must be a {'whole ' if domain.whole else ''}number {domain.words}; got {value}")
    return number
