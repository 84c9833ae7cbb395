"""The settings of a method that a sweep or a search may change, by name; importable without torch."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confu.checks import check_known
from confu.methods.registry import METHODS
from confu.training.settings import TrainSettings

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
_COUNT = (True, "of at least 0", lambda value: value >= 0)
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
    "warmup_steps": Domain("steps of linear rise", *_COUNT),
}

MODEL_TWEAKS = ("dim", "fusion_depth", "fusion_dim", "mask_ratio")
TRAIN_TWEAKS = ("lr", "temperature_lr", "epochs", "batch_size", "weight_decay", "warmup_steps")
FUSION_TWEAKS = ("fused_weight", "fusion_depth", "fusion_dim", "mask_ratio")


def tweaked(train: TrainSettings, method: str, tweaks: Tweaks) -> TrainSettings:
    """The training settings of a method with the tweaks among them."""
    changed = {name: tweaks[name] for name in TRAIN_TWEAKS if name in tweaks}
    own = {"temperature_lr": METHODS[method].temperature_lr} if METHODS[method].temperature_lr else {}
    return TrainSettings(**{**train.model_dump(), **own, **changed})


def suffix(tweaks: Tweaks) -> str:
    """What is added to a run's name: `-fused_weight0.1-mask_ratio0.3`; nothing without tweaks."""
    return "".join(
        f"-{name}{value:g}" if isinstance(value, float) else f"-{name}{value}" for name, value in sorted(tweaks.items())
    )


def check_method_tweaks(method: str, tweaks: Tweaks) -> None:
    """Refuse a tweak that is unknown, out of its range, or that the method does not have.

    Raises:
        ValueError: naming it.
    """
    check_tweaks(tweaks)
    for name in tweaks:
        if name in FUSION_TWEAKS and not METHODS[method].fused:
            raise ValueError(f"{method} has no fusion networks, so {name} changes nothing; sweep it on confu")


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
