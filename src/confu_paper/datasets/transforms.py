"""From waveforms to pictures of sound."""

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

RATE = 8000  # Hz
SAMPLES = 8000  # one second
SIZE = 112  # bins and frames
_FFT, _HOP, _FLOOR_DB = 256, 72, 80.0


def log_spectrogram(waveforms: Float[Tensor, "n samples"]) -> UInt8[Tensor, "n bins frames"]:
    """The log power spectrogram of one-second waveforms at 8 kHz, as 112 x 112 pixels.

        pixel = round(255 (1 + max(10 log10(P / max P), -80) / 80))

    P is the power of a short-time Fourier transform (Hann window of 256 samples, a step of 72, frames centred with
    reflected ends) in its lowest 112 of 129 bins, up to 3.5 kHz; the maximum is taken over each waveform, so loudness
    leaves no trace.

    Args:
        waveforms: 8000 samples each.

    Returns:
        (n, 112 bins, 112 frames), the lowest frequency first, 255 at the loudest point. All 0 for silence.

    Raises:
        ValueError: another number of samples.

    >>> log_spectrogram(torch.randn(2, 8000)).shape
    torch.Size([2, 112, 112])
    """
    if waveforms.shape[1] != SAMPLES:
        raise ValueError(f"waveforms: expected {SAMPLES} samples (1 s at 8 kHz) each, got {waveforms.shape[1]}")
    window = torch.hann_window(_FFT, dtype=waveforms.dtype, device=waveforms.device)
    spectrum = torch.stft(waveforms, _FFT, _HOP, window=window, center=True, return_complex=True)[:, :SIZE]
    power = spectrum.real.square() + spectrum.imag.square()
    loudest = power.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(power.dtype).tiny)
    decibels = 10 * torch.log10((power / loudest).clamp_min(10 ** (-_FLOOR_DB / 10)))
    return ((1 + decibels / _FLOOR_DB) * 255).round().clamp(0, 255).to(torch.uint8)


def shift_time(pictures: Shaped[Tensor, "n bins frames"], most: int = 16) -> Shaped[Tensor, "n bins frames"]:
    """Shift each spectrogram in time by up to `most` frames either way; what leaves at one end enters at the other.

    An augmentation: a recording that is heard at many moments is not learned by heart. The shifts come from torch's
    random state, so that a resumed training repeats them.

    Args:
        pictures: of any type, time last.
        most: frames, 0 or more.

    >>> shift_time(torch.arange(6).reshape(1, 2, 3), most=0).tolist()
    [[[0, 1, 2], [3, 4, 5]]]
    """
    shifts = torch.randint(-most, most + 1, (len(pictures), 1, 1), device=pictures.device)
    frames = pictures.shape[2]
    source = (torch.arange(frames, device=pictures.device) - shifts) % frames
    return pictures.gather(2, source.expand_as(pictures))
