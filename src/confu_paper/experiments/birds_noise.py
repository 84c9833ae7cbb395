"""Noise on pictures and on sounds of birds (Tables 6 and 9), at the standard deviations of Appendix B.4."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.data import Column, Dataset
from confu.data.columns import Indices
from confu.data.corrupted import ModalityRows, samples, signal_power
from confu.data.corruptions import Corruption, GaussianNoise
from confu.data.readers import Reader
from confu.types import Inputs
from confu_paper.experiments.published import Value, published

STDS = {"image": (0.05, 0.1, 0.15), "audio": (0.1, 0.2, 0.3)}
LEVELS = (20, 15, 10)
"""What the paper calls these standard deviations, in dB."""
_SAMPLE = 256  # rows that a power is estimated on


@dataclass(frozen=True)
class PixelNoise:
    """Normal noise on pixels from 0 to 1, before they are normalised; nothing is clipped.

        (p + σ ε - mean) / std

    Args:
        std: σ.
        mean: of each channel, what the reader subtracts.
        scale: of each channel, what it divides by.

    >>> print(PixelNoise(0.05, (0.5,), (0.5,)))
    noise of std 0.05 on pixels from 0 to 1
    """

    std: float
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def __str__(self) -> str:
        return f"noise of std {self.std:g} on pixels from 0 to 1"

    def corrupt(self, inputs: Inputs, indices: Indices, source: ModalityRows) -> Inputs:
        """See `Corruption`."""
        noisy = GaussianNoise(std=self.std).corrupt(Inputs(self.pixels(inputs), inputs.rows), indices, source)
        assert isinstance(noisy.values, Tensor)
        mean, scale = self._channels
        return Inputs((noisy.values - mean) / scale, noisy.rows)

    def pixels(self, inputs: Inputs) -> Tensor:
        """The pixels from 0 to 1 of pictures that were normalised."""
        assert isinstance(inputs.values, Tensor)
        mean, scale = self._channels
        return inputs.values * scale + mean

    @property
    def _channels(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.mean)[:, None, None], torch.tensor(self.scale)[:, None, None]


@dataclass(frozen=True)
class Named:
    """Stands for a reader where rows are told apart by names, which are hashed as texts are.

    Attributes:
        settings: of the reader, and of the noise.
        modality_kind: "text".
    """

    settings: dict[str, Any]
    modality_kind: str = "text"


class NoisyColumn:
    """A column with noise on what it gives; rows of one item get the same noise.

    Args:
        column: from the cache.
        how: the noise.
        item_of: (n,) the number of the item that each row is, which its noise depends on.
        dataset: of the column.
        modality: of the column.
        seed: of the noise.
    """

    def __init__(
        self, column: Column, how: Corruption, item_of: Int[Tensor, " n"], dataset: Dataset, modality: str, seed: int
    ) -> None:
        self.column = column
        self.how = how
        self.item_of = item_of
        self.source = ModalityRows(dataset, modality, seed)
        reader: Reader = column.reader  # type: ignore[attr-defined]
        self.reader = Named({**reader.settings, "noise": str(how), "seed": seed})
        self.keys: list[str | None] = column.keys  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.column)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """(n,) the rows that have an item."""
        return self.column.present

    def check(self, modality: str) -> None:
        """See `Column`; the column was checked."""

    def take(self, indices: Indices, modality: str) -> Inputs:
        """See `Column`; rows of one item share one input."""
        items, position = self.item_of[indices].unique(return_inverse=True)
        first = torch.full((len(items),), len(indices)).scatter_reduce(0, position, torch.arange(len(indices)), "amin")
        inputs = self.column.take(indices[first], modality)
        changed = self.how.corrupt(inputs, items, self.source)
        return Inputs(changed.values, changed.rows[position])


def noise_conditions(name: str, data: str, image: Reader, modalities: Collection[str]) -> dict[str, Any]:
    """What `reproduce_noise` needs for Table 6 or 9: conditions, the paper's numbers, and where to keep ours.

    Args:
        name: one that begins with `"table6"`, one level on the picture; any other is Table 9, three levels on picture
            and sound.
        data: the evaluated data set; the paper's numbers are those of SSW60.
        image: how pictures are read.
        modalities: of the data set.
    """
    first = name.startswith("table6")
    mean, scale = image.settings["mean"], image.settings["std"]
    conditions: dict[str, tuple[str, Corruption]] = {}
    theirs: dict[str, Mapping[str, Mapping[str, Value]]] = {}
    for modality, stds in STDS.items():
        for std, level in zip(stds, LEVELS):
            if modality not in modalities or (first and (modality, level) != ("image", LEVELS[0])):
                continue
            how = PixelNoise(std, tuple(mean), tuple(scale)) if modality == "image" else GaussianNoise(std=std)
            label = f"{modality} noise {std:g}"
            conditions[label] = (modality, how)
            theirs[label] = _published("table6" if first else "table9", data, f"{modality} noise {level} dB")
    return {"conditions": conditions, "published": theirs, "stored": "noise-table6" if first else "noise"}


def _published(table: str, data: str, condition: str) -> dict[str, dict[str, Value]]:
    if data != "ssw60":
        return {}
    found: dict[str, dict[str, Value]] = {}
    for one in published(table, data, condition=condition):
        found.setdefault(one.method, {})[one.query] = one.value
    return found


def estimated_snr_db(dataset: Dataset, modality: str, how: Corruption) -> float | None:
    r"""The signal-to-noise ratio of noise of a given deviation, $10 \log_{10}(P / \sigma^2)$.

    P is the mean square of the numbers that the noise is added to: pixels from 0 to 1, or the spectrogram as the model
    receives it. It is estimated on 256 rows, evenly among all.

    Args:
        dataset: undisturbed.
        modality: that is disturbed.
        how: `PixelNoise`, or `GaussianNoise` by its `std`.

    Returns:
        decibels; None for another corruption.
    """
    if not isinstance(how, PixelNoise | GaussianNoise) or not how.std:
        return None
    rows = torch.linspace(0, len(dataset) - 1, min(_SAMPLE, len(dataset))).round().long()
    inputs = dataset.batch(rows).inputs[modality]
    if not bool(inputs.present.any()):
        return None
    if isinstance(how, PixelNoise):
        inputs = Inputs(how.pixels(inputs), inputs.rows)
    powers = torch.cat([signal_power(one) for one in samples(inputs, str(how), modality)])
    power = float(powers.mean())
    return 10 * math.log10(power / how.std**2) if power > 0 else None
