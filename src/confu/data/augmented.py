"""Random changes of a training batch, so that fewer rows are learned by heart; the stored inputs stay as they are.

Each distinct input of a batch is changed on its own, on the device where it lies. What is drawn follows from (seed,
step, process) and the modality's name alone, so that a step that is repeated after a crash draws the same again.

Shapes: n inputs, c channels, h and w height and width, t time steps, d features.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from confu.checks import check_known
from confu.data.augment import Form, augment_problems
from confu.data.corrupted import row_random, signal_power
from confu.data.dataset import Dataset
from confu.types import Batch, Inputs

_ROWS = 512  # of which means and spreads are taken
_PER_FEATURE: tuple[Form, ...] = ("vector", "sequence", "features")
Strengths = Mapping[str, float]


class Augment:
    """The augmentations of a training, by modality.

    Args:
        train: training rows; means and spreads of features are those of up to 512 of them, evenly over the whole.
        strengths: modality -> name of an augmentation -> strength; see `AUGMENTATIONS` in `confu.data.augment`.
        kinds: modality -> kind of data, one of `confu.runs`' kinds, e.g. "image".

    Raises:
        ValueError: naming the modality, for an augmentation that is not known for what its encoder gets, or one that is
            out of range.

    >>> from confu.data import ArrayDataset, TensorColumn
    >>> data = ArrayDataset({"sensor": TensorColumn(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))})
    >>> augment = Augment(data, {"sensor": {"noise": 0.1}}, {"sensor": "vector"})
    >>> augment(data.batch(torch.tensor([0])), 0, 0).inputs["sensor"].values[0, 1].item()  # all are 5: no spread
    5.0
    """

    def __init__(self, train: Dataset, strengths: Mapping[str, Strengths], kinds: Mapping[str, str]) -> None:
        self.strengths = {name: dict(each) for name, each in strengths.items() if any(each.values())}
        self.forms: dict[str, Form] = {}
        self.means: dict[str, Tensor] = {}
        self.spreads: dict[str, Tensor] = {}
        for name, each in self.strengths.items():
            check_known("modality", name, train.modalities)
            values = _sample(train, name, 2)
            form = self.forms[name] = form_of(kinds[name], values)
            if problems := augment_problems(kinds[name], each, form):
                raise ValueError(
                    "\n".join(f"modalities.{name}.augment.{key}: {what}" for key, what in problems.items())
                )
            if "saturation" in each and isinstance(values, Tensor) and values.shape[-3] != 3:
                raise ValueError(
                    f"modalities.{name}.augment.saturation: needs 3 channels of colour; got {values.shape[-3]}"
                )
            if form in _PER_FEATURE:
                values = _sample(train, name, _ROWS)
                rows = _real_steps(values) if isinstance(values, dict) else values
                self.means[name], self.spreads[name] = rows.mean(0), rows.std(0, correction=0)

    def __call__(self, batch: Batch, *seed: int) -> Batch:
        """The batch with its inputs changed; `seed` says what is drawn, e.g. the run's, the step and the process."""
        changed = {name: self._changed(name, batch.inputs[name], seed) for name in self.strengths}
        return replace(batch, inputs={**batch.inputs, **changed})

    def _changed(self, name: str, inputs: Inputs, seed: tuple[int, ...]) -> Inputs:
        values, strengths, form = inputs.values, self.strengths[name], self.forms[name]
        key = {"tokens": "input_ids", "features": "features"}.get(form, "values")
        numbers = values[key] if isinstance(values, dict) else values
        if not numbers.numel():
            return inputs
        draw = Draws(numbers.device, name, *seed)
        if form == "tokens":
            assert isinstance(values, dict)
            mask = values["attention_mask"]
            kept = tokens_kept(mask.bool(), strengths["drop"], draw)
            return Inputs({**values, "attention_mask": mask * kept.to(mask.dtype)}, inputs.rows)
        mask = values["mask"].bool() if isinstance(values, dict) and "mask" in values else None
        lists, listed = numbers, None
        if mask is not None and numbers.ndim > 3:  # each file of a list is changed in its own way
            numbers, listed, mask = numbers[mask], mask.view(*mask.shape, *[1] * (numbers.ndim - 2)), None
        with torch.no_grad():
            if form == "image":
                numbers = augmented_images(numbers, strengths, draw)
            elif form in _PER_FEATURE:
                mean, spread = (each[name].to(numbers.device) for each in (self.means, self.spreads))
                numbers = augmented_features(numbers, mask, strengths, mean, spread, draw)
            else:
                numbers = augmented_sounds(numbers, mask, strengths, draw)
        numbers = numbers if listed is None else lists.masked_scatter(listed, numbers)
        return Inputs({**values, key: numbers} if isinstance(values, dict) else numbers, inputs.rows)


class Draws:
    """Random numbers on a device that follow from a name and whole numbers alone."""

    def __init__(self, device: torch.device, name: str, seed: int = 0, *more: int) -> None:
        number = int(row_random(seed, name, "augment", *more).integers(2**63))
        self.device, self.generator = device, torch.Generator(device).manual_seed(number)

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers from `low` to `high`."""
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.device)


def form_of(kind: str, values: Tensor | dict[str, Tensor]) -> Form:
    """What an encoder gets of a modality of a kind.

    >>> form_of("audio", torch.zeros(2, 1, 64, 30)), form_of("audio", torch.zeros(2, 8000))
    ('spectrogram', 'waveform')
    """
    if isinstance(values, dict) and "mask" in values and values["values"].ndim > 3:  # lists of files
        values = values["values"].flatten(0, 1)
    if isinstance(values, dict):
        if "features" in values or "input_ids" in values:
            return "features" if "features" in values else "tokens"
        return "sequence" if values["values"].ndim == 3 else "waveform"
    if kind in ("image", "video"):
        return "image"
    if kind == "audio":
        return "waveform" if values.ndim == 2 else "spectrogram"
    return "vector"


def augmented_images(values: Float[Tensor, "n *frames c h w"], strengths: Strengths, draw: Draws) -> Tensor:
    """Images, or videos whose frames are all changed alike, after augmentation."""
    n, *frames, _, h, w = values.shape
    stacked = values.reshape(n, -1, h, w)
    geometric = {"rotate", "shift", "scale", "crop", "flip"}
    if any(strengths.get(name) for name in geometric):
        theta = random_affine(n, h / w, strengths, draw).to(stacked.dtype)
        grid = F.affine_grid(theta, [n, 1, h, w], align_corners=False)
        stacked = F.grid_sample(stacked, grid, padding_mode="border", align_corners=False)
    values = stacked.view(values.shape)
    ones = (n, *(1 for _ in frames), 1, 1, 1)
    if strength := strengths.get("saturation"):
        grey = values.mean(-3, keepdim=True)
        values = grey + (values - grey) * draw.uniform(ones, 1 - strength, 1 + strength)
    if strength := strengths.get("contrast"):
        mean = values.flatten(1).mean(1).view(ones)
        values = mean + (values - mean) * draw.uniform(ones, 1 - strength, 1 + strength)
    if strength := strengths.get("brightness"):
        values = values + _own_spread(values) * draw.uniform(ones, -strength, strength)
    if strength := strengths.get("erase"):
        # Random erasing (Zhong et al. 2017): a rectangle of a random area and shape.
        area, shape = draw.uniform((n,), 0, strength), draw.uniform((n,), -math.log(3), math.log(3)).exp()
        down = block((area * shape).sqrt().clamp(max=1), h, draw)
        across = block((area / shape).sqrt().clamp(max=1), w, draw)
        inside = (down[:, :, None] & across[:, None, :]).view(n, *(1 for _ in frames), 1, h, w)
        values = torch.where(inside, values.mean((-2, -1), keepdim=True), values)
    return _with_own_noise(values, strengths, draw)


def random_affine(n: int, aspect: float, strengths: Strengths, draw: Draws) -> Float[Tensor, "n 2 3"]:
    r"""Where each place of the result comes from: $x = A x' + b$, both axes from -1 to 1.

    $$A = \frac{k f}{z} \begin{pmatrix} \cos\alpha & -a \sin\alpha \\ \sin\alpha / a & \cos\alpha \end{pmatrix}$$

    with an angle α, a zoom z, the side k of a crop, f = -1 across where it is flipped, and a = height / width, without
    which a picture that is not square would be sheared; b is the shift and the place of the crop.
    """
    angle = draw.uniform((n,), -1, 1) * math.radians(strengths.get("rotate", 0.0))
    zoom = (draw.uniform((n,), -1, 1) * math.log1p(strengths.get("scale", 0.0))).exp()
    side = 1 - draw.uniform((n,)) * strengths.get("crop", 0.0)
    flip = 1 - 2 * (draw.uniform((n,)) < strengths.get("flip", 0.0)).float()
    cos, sin = angle.cos() * side / zoom, angle.sin() * side / zoom
    # A shift of s of the width is 2 s on an axis from -1 to 1; a crop has 1 - side of it to either way.
    move = 2 * strengths.get("shift", 0.0) * draw.uniform((n, 2), -1, 1) + (1 - side)[:, None] * draw.uniform(
        (n, 2), -1, 1
    )
    return torch.stack(
        [
            torch.stack([cos * flip, -aspect * sin, move[:, 0]], 1),
            torch.stack([sin / aspect * flip, cos, move[:, 1]], 1),
        ],
        1,
    )


def augmented_sounds(
    values: Float[Tensor, "n *bands t"], mask: Bool[Tensor, "n t"] | None, strengths: Strengths, draw: Draws
) -> Tensor:
    """Waveforms (n, t) or spectrograms (n, 1, bands, t) after augmentation; padding stays as it is."""
    n, t = len(values), values.shape[-1]
    lengths = torch.full((n,), t, device=values.device) if mask is None else mask.sum(1)
    middle = (1,) * (values.ndim - 2)
    before = values
    if strength := strengths.get("time_shift"):
        step = torch.arange(t, device=values.device)
        shifts = (draw.uniform((n,), -strength, strength) * lengths).round().long()
        source = torch.where(step < lengths[:, None], (step - shifts[:, None]) % lengths[:, None], step)
        values = values.gather(-1, source.view(n, *middle, t).expand_as(values))
    if strength := strengths.get("gain"):
        values = values * 10 ** (draw.uniform((n, *middle, 1), -strength, strength) / 20)
    values = _with_own_noise(values, strengths, draw, lengths / t)
    # SpecAugment (Park et al. 2019): a stretch of time and one of the bands.
    for name, axis in (("time_mask", -1), ("frequency_mask", -2)):
        if strength := strengths.get(name):
            steps = mask if axis == -1 else None
            inside = block(draw.uniform((n,), 0, strength), values.shape[axis], draw, steps)
            shape = (n, *middle, t) if axis == -1 else (n, *middle[1:], values.shape[axis], 1)
            mean = values.flatten(1).mean(1).view(n, *middle, 1)
            values = torch.where(inside.view(shape), mean, values)
    return values if mask is None else torch.where(mask, values, before)


def augmented_features(
    values: Float[Tensor, "n *t d"],
    mask: Bool[Tensor, "n t"] | None,
    strengths: Strengths,
    mean: Float[Tensor, " d"],
    spread: Float[Tensor, " d"],
    draw: Draws,
) -> Tensor:
    """Vectors (n, d), or sequences (n, t, d) with a mask of real steps, after augmentation; padding stays as it is."""
    n, *steps, d = values.shape
    before = values
    if mask is not None and (strengths.get("time_shift") or strengths.get("time_warp")):
        values = _warped(values, mask, strengths, draw)
    if strength := strengths.get("noise"):
        values = values + strength * spread * draw.normal(tuple(values.shape))
    if strength := strengths.get("drop"):
        dropped = draw.uniform((n, *(1 for _ in steps), d)) < strength
        values = torch.where(dropped, mean.to(values.dtype), values)
    if mask is not None and (strength := strengths.get("time_mask")):
        inside = block(draw.uniform((n,), 0, strength), values.shape[1], draw, mask)
        values = torch.where(inside[..., None], mean.to(values.dtype), values)
    return values if mask is None else torch.where(mask[..., None], values, before)


def _warped(values: Tensor, mask: Tensor, strengths: Strengths, draw: Draws) -> Tensor:
    """Sequences moved and warped in time within their real steps, numbers between two steps interpolated.

    The warp maps [0, a] and [a, 1] of the length linearly onto [0, b] and [b, 1] (SpecAugment, Park et al. 2019); what
    would come from beyond an end is the step at that end.
    """
    n, t, d = values.shape
    first, last = mask.int().argmax(1, keepdim=True), mask.sum(1, keepdim=True) - 1
    place = (torch.arange(t, device=values.device) - first) / last.clamp(min=1)
    if strength := strengths.get("time_warp"):
        a = draw.uniform((n, 1), 0.5 - strength / 2, 0.5 + strength / 2)
        b = (a + draw.uniform((n, 1), -strength, strength)).clamp(0.05, 0.95)
        place = torch.where(place < b, place * a / b, 1 - (1 - place) * (1 - a) / (1 - b))
    source = place * last
    if strength := strengths.get("time_shift"):
        source = source - (draw.uniform((n, 1), -strength, strength) * (last + 1)).round()
    source = source.clamp(min=0).minimum(last.to(source.dtype)) + first
    low = source.floor().long().clamp(0, t - 1)
    high = (low + 1).clamp(max=t - 1)
    share = (source - low).to(values.dtype)[..., None]
    at = [values.gather(1, index[..., None].expand(n, t, d)) for index in (low, high)]
    return torch.where(share > 0, at[0] + share * (at[1] - at[0]), at[0])


def tokens_kept(mask: Bool[Tensor, "n t"], share: float, draw: Draws) -> Bool[Tensor, "n t"]:
    """Which tokens stay: a share of 1 - `share`, each text's first, as [CLS] stands for all of it, and one more."""
    first = torch.zeros_like(mask).scatter(1, mask.int().argmax(1, keepdim=True), True)
    chance = draw.uniform(tuple(mask.shape)).masked_fill(~mask | first, -1)
    kept = (chance >= share) | first
    return kept.scatter(1, chance.argmax(1, keepdim=True), True)


def block(
    width: Float[Tensor, " n"], size: int, draw: Draws, mask: Bool[Tensor, "n size"] | None = None
) -> Bool[Tensor, "n size"]:
    """A stretch at a random place of an axis; `width` is its share of the axis, or of the real steps of a mask."""
    place, length = torch.arange(size, device=width.device), size
    if mask is not None:
        place, length = mask.cumsum(1) - 1, mask.sum(1)
    cells = (width * length).round()
    start = (draw.uniform((len(width),)) * (length - cells + 1)).floor()
    return (place >= start[:, None]) & (place < (start + cells)[:, None])


def _own_spread(values: Tensor, real: Tensor | float = 1.0) -> Tensor:
    """The standard deviation of each input, shaped to be multiplied with it; `real` is the share that is no padding."""
    power = signal_power(values, "variance" if values.ndim > 2 else "mean_square") / real
    return power.sqrt().to(values.dtype).view(-1, *(1 for _ in values.shape[1:]))


def _with_own_noise(values: Tensor, strengths: Strengths, draw: Draws, real: Tensor | float = 1.0) -> Tensor:
    if not (strength := strengths.get("noise")):
        return values
    return values + strength * _own_spread(values, real) * draw.normal(tuple(values.shape))


def _sample(train: Dataset, name: str, count: int) -> Tensor | dict[str, Tensor]:
    """Inputs of up to so many training rows that have the modality, evenly over the whole."""
    present = getattr(train, "present", {}).get(name)
    rows = torch.arange(len(train)) if present is None else present.nonzero().squeeze(1)
    if not len(rows):
        raise ValueError(f"modalities.{name}.augment: no training row has {name!r}; remove the modality")
    chosen = torch.linspace(0, len(rows) - 1, min(count, len(rows))).round().long()
    return train.batch(rows[chosen]).inputs[name].values


def _real_steps(values: dict[str, Tensor]) -> Tensor:
    return values["values"][values["mask"].bool()] if "mask" in values else values["features"]
