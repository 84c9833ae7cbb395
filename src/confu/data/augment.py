"""The augmentations that a run file can name: what each does, to which kinds of data, and how strong it may be.

No torch, so that run files are written and checked without it; `confu.data.augmented` applies them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

Form = Literal["image", "spectrogram", "waveform", "sequence", "vector", "tokens", "features"]
"""What an encoder gets of a batch; `features` are those that a frozen encoder has computed before."""

_FORMS: dict[str, tuple[Form, ...]] = {
    "image": ("image", "features"),
    "video": ("image", "features"),
    "audio": ("spectrogram", "waveform", "sequence", "features"),
    "text": ("tokens", "features"),
    "vector": ("vector",),
    "number": ("vector",),
    "table": ("vector",),
    "sequence": ("sequence",),
}


@dataclass(frozen=True)
class Augmentation:
    """One augmentation; its strength runs from 0, which is none.

    Attributes:
        forms: that it changes.
        highest: the greatest strength.
        what: what a strength x does, for messages.
    """

    forms: tuple[Form, ...]
    highest: float
    what: str


_IMAGE: tuple[Form, ...] = ("image",)
_NUMBERS: tuple[Form, ...] = ("image", "spectrogram", "waveform", "sequence", "vector", "features")
_TIME: tuple[Form, ...] = ("spectrogram", "waveform", "sequence")
_DROPPED: tuple[Form, ...] = ("sequence", "vector", "tokens", "features")
AUGMENTATIONS: dict[str, Augmentation] = {
    "rotate": Augmentation(_IMAGE, 180, "degrees: turned by -x to x"),
    "shift": Augmentation(_IMAGE, 0.9, "of the width and of the height: moved by -x to x"),
    "scale": Augmentation(_IMAGE, 1, "enlarged or made smaller by a factor of up to 1 + x"),
    "crop": Augmentation(_IMAGE, 0.9, "of the side: a square of 1 - x to 1 of it is taken, and enlarged"),
    "flip": Augmentation(_IMAGE, 1, "probability of left and right changing places"),
    "erase": Augmentation(_IMAGE, 0.9, "of the area: a rectangle of 0 to x gets the mean colour"),
    "brightness": Augmentation(_IMAGE, 5, "of the image's spread: -x to x is added"),
    "contrast": Augmentation(_IMAGE, 1, "differences from the mean are multiplied by 1 - x to 1 + x"),
    "saturation": Augmentation(_IMAGE, 1, "differences from grey are multiplied by 1 - x to 1 + x"),
    "time_shift": Augmentation(_TIME, 1, "of the length: moved by -x to x; sounds go on at the other end"),
    "time_warp": Augmentation(("sequence",), 0.4, "of the length: an inner step is moved by -x to x"),
    "time_mask": Augmentation(_TIME, 0.9, "of the length: a stretch of 0 to x gets the mean"),
    "frequency_mask": Augmentation(("spectrogram",), 0.9, "of the bands: a stretch of 0 to x gets the mean"),
    "gain": Augmentation(("waveform",), 60, "dB: louder or softer by up to x"),
    # Of features the spread over the training rows, of images and sounds each one's own.
    "noise": Augmentation(_NUMBERS, 5, "of the spread: Gaussian noise of this standard deviation"),
    "drop": Augmentation(_DROPPED, 0.9, "probability that a feature gets its mean, or that a token is masked"),
}

# Weak: strong ones cost more in a short training than they win. None of texts: a caption of three words that loses one
# may say something else.
_DEFAULTS: dict[str, dict[str, float]] = {
    "image": {"rotate": 5, "shift": 0.05},
    "video": {"shift": 0.05},
    "audio": {"time_shift": 0.05, "time_mask": 0.05, "frequency_mask": 0.05},
    "vector": {"noise": 0.1},
    "number": {"noise": 0.1},
    "table": {"noise": 0.1},
    "sequence": {"noise": 0.1},
}
_FROZEN = {"noise": 0.1, "drop": 0.1}


def default_augment(kind: str, frozen: bool = False) -> dict[str, float] | None:
    """What `confu init` writes for a kind of data, or for the features of a frozen encoder; None is nothing.

    >>> default_augment("image"), default_augment("text"), default_augment("text", frozen=True)
    ({'rotate': 5, 'shift': 0.05}, None, {'noise': 0.1, 'drop': 0.1})
    """
    strengths = _FROZEN if frozen else _DEFAULTS.get(kind)
    return None if strengths is None else dict(strengths)


def augment_problems(kind: str, strengths: Mapping[str, float], form: Form | None = None) -> dict[str, str]:
    """What is wrong with the augmentations of a modality, by name.

    Args:
        kind: of the modality.
        strengths: by name.
        form: what its encoder gets, as far as it is known.

    >>> augment_problems("text", {"rotate": 10})
    {'rotate': 'not known for text; known: noise 0 to 5, drop 0 to 0.9'}
    """
    forms = _FORMS[kind] if form is None else (form,)
    known = {name: row for name, row in AUGMENTATIONS.items() if set(row.forms) & set(forms)}
    whom = kind if form in (None, kind, "tokens") else f"{kind}, of which the encoder gets {_named(form)}"
    problems = {}
    for name, strength in strengths.items():
        if name not in known:
            close = get_close_matches(name, known, n=1)
            ranges = ", ".join(f"{other} 0 to {row.highest:g}" for other, row in known.items())
            problems[name] = (
                f"not known for {whom}; " + (f"did you mean {close[0]!r}? " if close else "") + f"known: {ranges}"
            )
        elif not 0 <= strength <= known[name].highest:
            problems[name] = f"expected 0 to {known[name].highest:g} ({known[name].what}); got {strength:g}"
    return problems


def _named(form: Form | None) -> str:
    if form == "features":
        return "features of a frozen network that are computed once (data.cache: false computes them at each step)"
    return f"a {form}"
