"""Sounds made from coefficients have these coefficients, and noise is as loud as is asked for."""

import numpy as np
import torch

from confu.data.readers.mfcc import mfcc
from confu_paper.demo.files import HOP, MELS, RATE, WINDOW, spoken, weakened


def coefficients(sound: np.ndarray) -> np.ndarray:
    return mfcc(torch.from_numpy(sound), RATE, 13, WINDOW, HOP, MELS).numpy()


def smooth_noise(seconds: float, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    noise = np.convolve(random.standard_normal(round(seconds * RATE)), [0.3, 0.5, 0.7, 0.5, 0.3], mode="same")
    return (0.1 * noise * np.hanning(len(noise))).astype(np.float32)


def test_a_made_sound_has_the_requested_mfcc():
    wanted = [coefficients(smooth_noise(seconds, seed)) for seed, seconds in enumerate((0.4, 0.7, 0.3))]
    for sound, one in zip(spoken(wanted), wanted):
        found = coefficients(sound)
        assert sound.dtype == np.float32 and len(found) == len(one) and np.abs(sound).max() == np.float32(0.5)
        middle = slice(3, len(one) - 3)
        assert np.abs(found - one)[middle, 1:].mean() < 0.1 * np.abs(one[middle, 1:]).mean() + 2
        louder = (found - one)[middle, 0]
        assert louder.std() < 15  # the same loudness everywhere, 1.3 dB


def test_a_seed_gives_the_same_sound_and_another_one_another():
    wanted = [coefficients(smooth_noise(0.3, 0))]
    assert np.array_equal(spoken(wanted, 1)[0], spoken(wanted, 1)[0])
    assert not np.array_equal(spoken(wanted, 1)[0], spoken(wanted, 2)[0])


def test_noise_has_the_requested_power():
    sound = 0.3 * np.sin(np.arange(20000) / 5).astype(np.float32)
    noise = weakened([sound], 14)[0] - sound
    assert abs(10 * np.log10(np.mean(sound**2) / np.mean(noise**2)) - 14) < 0.2
    assert np.abs(weakened([np.full(1000, 0.9, np.float32)], -20)[0]).max() <= 1
