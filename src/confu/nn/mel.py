"""Mel spectrograms: the power of a sound in bands that grow with frequency as hearing's do."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_POWER = 1e-10  # of the loudest point; below it a sound counts as silence
RANGE_DB = 80.0

_LINEAR_STEP = 200 / 3  # Hz a mel, up to 1000 Hz
_BREAK_HZ, _BREAK_MEL = 1000.0, 15.0
_LOG_STEP = 27 / torch.log(torch.tensor(6.4, dtype=torch.float64)).item()  # mels a factor of e, above


def hz_to_mel(frequency: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Slaney's scale: linear up to 1000 Hz (15 mel), logarithmic above."""
    above = _BREAK_MEL + _LOG_STEP * (frequency.clamp_min(_BREAK_HZ) / _BREAK_HZ).log()
    return torch.where(frequency < _BREAK_HZ, frequency / _LINEAR_STEP, above)


def mel_to_hz(mel: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """The inverse of `hz_to_mel`."""
    above = _BREAK_HZ * ((mel.clamp_min(_BREAK_MEL) - _BREAK_MEL) / _LOG_STEP).exp()
    return torch.where(mel < _BREAK_MEL, mel * _LINEAR_STEP, above)


@cache
def mel_filters(rate: int, window: int, mels: int, low: float, high: float) -> Float[Tensor, "mels bins"]:
    """Triangles over the frequencies of a short-time Fourier transform, each of area one over Hz (Slaney's norm).

    Args:
        rate: of the sound, in Hz.
        window: samples of a transform; it has window // 2 + 1 frequencies.
        mels: number of bands.
        low: where the lowest band begins, in Hz.
        high: where the highest ends, in Hz, at most rate / 2.

    Raises:
        ValueError: no such range, or a band so narrow that no frequency of the transform falls into it.
    """
    if not 0 <= low < high <= rate / 2:
        raise ValueError(f"low and high: expected 0 <= low < high <= {rate / 2} Hz (half the rate); got {low}, {high}")
    ends = hz_to_mel(torch.tensor([low, high], dtype=torch.float64))
    edges = mel_to_hz(torch.linspace(float(ends[0]), float(ends[1]), mels + 2, dtype=torch.float64))
    bins = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64)
    widths = edges.diff()[:, None]
    rising = (bins - edges[:-2, None]) / widths[:-1]
    falling = (edges[2:, None] - bins) / widths[1:]
    filters = torch.minimum(rising, falling).clamp_min(0) * (2 / (edges[2:] - edges[:-2]))[:, None]
    empty = int((filters.amax(1) == 0).sum())
    if empty:
        raise ValueError(
            f"mels: {empty} of {mels} bands hold no frequency of a window of {window} samples at {rate} Hz; "
            "take fewer mels or a longer window"
        )
    return filters.float()


def mel_power(
    waveforms: Float[Tensor, "*n samples"], rate: int, window: int, hop: int, mels: int, low: float, high: float
) -> Float[Tensor, "*n mels frames"]:
    """The power in each mel band and frame, as `librosa.feature.melspectrogram` has it.

        P[m, t] = sum_f filter[m, f] |STFT[f, t]|^2

    with a Hann window, frames centred at multiples of `hop`, and zeros beyond both ends.

    Args:
        waveforms: full scale at 1.
        hop: samples from frame to frame; there are samples // hop + 1 frames.
        rate: as for `mel_filters`, like the others.
    """
    hann = torch.hann_window(window)
    spectrum = torch.stft(waveforms, window, hop, window=hann, center=True, pad_mode="constant", return_complex=True)
    return mel_filters(rate, window, mels, low, high) @ (spectrum.real.square() + spectrum.imag.square())


def scaled_decibels(power: Float[Tensor, "*n mels frames"]) -> Float[Tensor, "*n mels frames"]:
    """Power in decibels below the loudest point of each sound, 80 dB of it, from -1 (80 dB below) to 1 (the loudest).

        value = 1 + max(10 log10(P / max P), -80) / 40

    Digital silence is -1 everywhere.
    """
    loudest = power.amax(dim=(-2, -1), keepdim=True).clamp_min(LEAST_POWER)
    decibels = 10 * torch.log10((power / loudest).clamp_min(10 ** (-RANGE_DB / 10)))
    return 1 + decibels / (RANGE_DB / 2)
