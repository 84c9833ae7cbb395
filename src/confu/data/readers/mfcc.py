"""Sound as mel-frequency cepstral coefficients (MFCC), a few numbers a frame."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from confu.data.readers.audio import read_sound
from confu.data.readers.source import Source, name_of
from confu.data.readers.stacking import padded

_LEAST_POWER = 1e-10
_RANGE_DB = 80.0


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

    stackable = False
    modality_kind = "audio"

    def __init__(
        self,
        rate: int = 8000,
        coefficients: int = 13,
        window: int = 400,
        hop: int = 200,
        mels: int = 128,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        max_steps: int | None = None,
        trim: float | None = None,
        peak: float | None = None,
    ) -> None:
        sizes = {"rate": rate, "coefficients": coefficients, "window": window, "hop": hop, "mels": mels}
        for name, size in {**sizes, "max_steps": max_steps or 1, "trim": trim or 1, "peak": peak or 1}.items():
            if not 0 < size < math.inf:
                raise ValueError(f"{name}: expected a positive number; got {size}")
        if max_steps == 0 or trim == 0 or peak == 0:
            raise ValueError("max_steps, trim and peak: expected a positive number, or None to do without; got 0")
        if coefficients > mels:
            raise ValueError(f"coefficients: expected at most mels ({mels}); got {coefficients}")
        self.mean, self.std = _each("mean", mean, coefficients), _each("std", std, coefficients)
        if (self.std <= 0).any():
            raise ValueError(f"std: expected positive numbers; got {std}")
        self.settings: dict[str, Any] = {
            "kind": "mfcc", **sizes, "mean": _plain(mean), "std": _plain(std), "max_steps": max_steps, "trim": trim,
            "peak": peak,
        }  # fmt: skip
        self.rate, self.coefficients, self.window, self.hop, self.mels = sizes.values()
        self.max_steps, self.trim, self.peak = max_steps, trim, peak

    def read(self, source: Source) -> Float[Tensor, "steps coefficients"]:
        """One sound's coefficients, frame by frame.

        Args:
            source: a file or its bytes, or (samples, rate); see `read_sound`.

        Raises:
            ValueError: no such file, no sound, cut short, shorter than 0.1 s or than half a window, with NaN.
        """
        sound = read_sound(source, self.rate)
        if len(sound) <= self.window // 2:
            raise ValueError(f"{name_of(source)}: {len(sound)} samples; expected more than {self.window // 2}")
        if self.trim is not None:
            sound = without_ends(sound, self.trim, self.window, self.hop)
        if self.peak is not None:
            sound = sound * (self.peak / sound.abs().max().clamp_min(1e-9))
        found = mfcc(sound, self.rate, self.coefficients, self.window, self.hop, self.mels)
        return (found[: self.max_steps] - self.mean) / self.std

    def collate(self, items: Sequence[Tensor]) -> dict[str, Tensor]:
        """What the encoder gets: `values` (n, longest, coefficients) with zeros at the ends, and a `mask`."""
        return padded(items, (self.coefficients,))


def mfcc(
    waveform: Float[Tensor, " samples"], rate: int, coefficients: int, window: int, hop: int, mels: int
) -> Float[Tensor, "steps coefficients"]:
    """Cepstral coefficients: the discrete cosine transform of the power in mel bands, in decibels.

        c[t, k] = s_k sqrt(2 / M) sum_m cos(pi k (m + 1/2) / M) 10 log10(P[m, t]),    s_0 = 1 / sqrt(2), else 1

    with a Hann window, frames centred at multiples of `hop`, the sound mirrored beyond both ends, HTK's mel bands, and
    no band further than 80 dB below the loudest. `torchaudio.transforms.MFCC` gives the same numbers.

    Args:
        waveform: more than half a window of samples, full scale at 1.
        rate: in Hz.
        coefficients: how many, k = 0, 1, ...
        window: samples of a frame.
        hop: samples from frame to frame.
        mels: M, the bands.
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


def _each(name: str, numbers: float | Sequence[float], count: int) -> Float[Tensor, " count"]:
    values = torch.tensor(list(numbers) if isinstance(numbers, Sequence) else [numbers] * count, dtype=torch.float32)
    if values.shape != (count,) or not values.isfinite().all():
        raise ValueError(f"{name}: expected a number, or one for each of {count} coefficients; got {numbers}")
    return values


def _plain(numbers: float | Sequence[float]) -> float | list[float]:
    return [float(one) for one in numbers] if isinstance(numbers, Sequence) else float(numbers)
