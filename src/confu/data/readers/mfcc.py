"""Sound as mel-frequency cepstral coefficients (MFCC), a few numbers a frame."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from confu.data.readers.audio import read_sound
from confu.data.readers.source import Source, name_of, padded

_LEAST_POWER = 1e-10
_RANGE_DB = 80.0


@dataclass(frozen=True)
class MfccReader:
    """Sounds as sequences of cepstral coefficients, standardised.

    The defaults are those of torchaudio's `MFCC` for a rate of 8 kHz; the numbers agree with it.

    Args:
        rate: in Hz, to which sounds are resampled.
        coefficients: of each frame.
        window: samples of a frame.
        hop: samples from frame to frame.
        mels: bands of the spectrum behind the coefficients.
        mean: of each coefficient, or of all; subtracted.
        std: likewise; divided by.
        max_steps: longer sounds are cut to so many frames; None keeps all.
        trim: leave out the start and the end as far as they are this much softer than the loudest frame, in dB, as
            what comes from a microphone begins and ends with silence; None leaves them.
        peak: scale each sound so that its largest sample is this, as microphones differ in loudness; None leaves it.

    Raises:
        ValueError: sizes below one, more coefficients than bands, a `mean` or `std` of another length, no positive
            `std`, `trim` or `peak`.

    >>> reader = MfccReader(max_steps=28)
    >>> reader.read((torch.sin(torch.arange(4000) / 3), 8000)).shape
    torch.Size([21, 13])
    """

    rate: int = 8000
    coefficients: int = 13
    window: int = 400
    hop: int = 200
    mels: int = 128
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0
    max_steps: int | None = None
    trim: float | None = None
    peak: float | None = None

    stackable: ClassVar[bool] = False
    modality_kind: ClassVar[str] = "audio"

    def __post_init__(self) -> None:
        for name in ("rate", "coefficients", "window", "hop", "mels", "max_steps", "trim", "peak"):
            size = getattr(self, name)
            if size is not None and not 0 < size < math.inf:
                optional = ", or None to do without" if name in ("max_steps", "trim", "peak") else ""
                raise ValueError(f"{name}: expected a positive number{optional}; got {size}")
        if self.coefficients > self.mels:
            raise ValueError(f"coefficients: expected at most mels ({self.mels}); got {self.coefficients}")
        self._per_coefficient("mean")
        if (self._per_coefficient("std") <= 0).any():
            raise ValueError(f"std: expected positive numbers; got {self.std}")

    @property
    def settings(self) -> dict[str, Any]:
        """See `Reader`."""
        scaling = {name: getattr(self, name) for name in ("mean", "std")}
        plain = {
            name: [float(number) for number in value] if isinstance(value, Sequence) else float(value)
            for name, value in scaling.items()
        }
        return {"kind": "mfcc", **asdict(self), **plain}

    def read(self, source: Source) -> Float[Tensor, "steps coefficients"]:
        """One sound's coefficients, frame by frame; sources and errors are those of `read_sound`."""
        sound = read_sound(source, self.rate)
        if len(sound) <= self.window // 2:
            raise ValueError(f"{name_of(source)}: {len(sound)} samples; expected more than {self.window // 2}")
        if self.trim is not None:
            sound = without_ends(sound, self.trim, self.window, self.hop)
        if self.peak is not None:
            sound = sound * (self.peak / sound.abs().max().clamp_min(1e-9))
        values = mfcc(sound, self.rate, self.coefficients, self.window, self.hop, self.mels)
        return (values[: self.max_steps] - self._per_coefficient("mean")) / self._per_coefficient("std")

    def collate(self, items: Sequence[Tensor]) -> dict[str, Tensor]:
        """What the encoder gets: `values` (n, longest, coefficients) with zeros at the ends, and a `mask`."""
        return padded(items, (self.coefficients,))

    def _per_coefficient(self, name: str) -> Float[Tensor, " count"]:
        numbers, count = getattr(self, name), self.coefficients
        values = torch.tensor(list(numbers) if isinstance(numbers, Sequence) else [numbers] * count).float()
        if values.shape != (count,) or not values.isfinite().all():
            raise ValueError(f"{name}: expected a number, or one for each of {count} coefficients; got {numbers}")
        return values


def mfcc(
    waveform: Float[Tensor, " samples"], rate: int, coefficients: int, window: int, hop: int, mels: int
) -> Float[Tensor, "steps coefficients"]:
    """Cepstral coefficients: the discrete cosine transform of the power in mel bands, in decibels.

        c[t, k] = s_k sqrt(2 / M) sum_m cos(pi k (m + 1/2) / M) 10 log10(P[m, t]),    s_0 = 1 / sqrt(2), else 1

    with a Hann window, frames centred at multiples of `hop`, the sound mirrored beyond both ends, HTK's mel bands, and
    no band further than 80 dB below the loudest. `torchaudio.transforms.MFCC` gives the same numbers.

    The waveform has more than half a window of samples; M is the number of bands, k = 0, 1, ... the coefficients.
    """
    power = _spectrum(waveform, window, hop).T @ htk_filters(rate, window, mels)
    decibels = 10 * torch.log10(power.clamp_min(_LEAST_POWER))
    return torch.maximum(decibels, decibels.max() - _RANGE_DB) @ cosines(coefficients, mels)


def without_ends(waveform: Float[Tensor, " samples"], softer: float, window: int, hop: int) -> Float[Tensor, " kept"]:
    """Cut off the start and the end where frames are more than `softer` dB below the loudest; a window is left."""
    loudness = 10 * torch.log10(_spectrum(waveform, window, hop).sum(0).clamp_min(_LEAST_POWER))
    loud = (loudness >= loudness.max() - softer).nonzero()[:, 0] * hop
    begin, end = int(loud[0]) - hop // 2, int(loud[-1]) + hop // 2
    begin = max(0, min(begin, len(waveform) - window))
    return waveform[begin : max(end, begin + window)]


@cache
def htk_filters(rate: int, window: int, mels: int) -> Float[Tensor, "bins mels"]:
    """Triangles of height one, equally wide on HTK's scale, m = 2595 log10(1 + f / 700), from 0 Hz to rate / 2."""
    highest = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, mels + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64)[:, None]
    widths = edges.diff()
    rising, falling = (bins - edges[:-2]) / widths[:-1], (edges[2:] - bins) / widths[1:]
    return torch.minimum(rising, falling).clamp_min(0).float()


@cache
def cosines(coefficients: int, mels: int) -> Float[Tensor, "mels coefficients"]:
    """The first columns of the orthonormal discrete cosine transform (DCT-II)."""
    k = torch.arange(coefficients, dtype=torch.float64)
    table = torch.cos(math.pi / mels * (torch.arange(mels, dtype=torch.float64)[:, None] + 0.5) * k)
    table[:, 0] /= math.sqrt(2)
    return (table * math.sqrt(2 / mels)).float()


def _spectrum(waveform: Tensor, window: int, hop: int) -> Float[Tensor, "bins steps"]:
    hann = torch.hann_window(window)
    spectrum = torch.stft(waveform, window, hop, window=hann, center=True, pad_mode="reflect", return_complex=True)
    return spectrum.real.square() + spectrum.imag.square()
