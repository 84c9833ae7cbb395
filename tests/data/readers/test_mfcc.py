"""Cepstral coefficients: against loops over the formulas, and what the reader does before them."""

import numpy as np
import pytest
import torch

from confu.data.readers import MfccReader
from confu.data.readers.mfcc import htk_filters, mfcc, without_ends

from .fixtures import sound_bytes, tone

RATE = 8000


def spoken(seconds: float = 0.4, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (tone(300, seconds) * tone(7, seconds) + 0.05 * random.standard_normal(round(seconds * RATE))).astype("f4")


def slow_mfcc(sound: np.ndarray, coefficients: int, window: int, hop: int, mels: int) -> np.ndarray:
    half = window // 2
    mirrored = np.concatenate([sound[half:0:-1], sound, sound[-2 : -half - 2 : -1]]).astype(np.float64)
    hann = [0.5 - 0.5 * np.cos(2 * np.pi * n / window) for n in range(window)]
    edges = [700 * (10 ** (2595 * np.log10(1 + RATE / 2 / 700) * m / (mels + 1) / 2595) - 1) for m in range(mels + 2)]
    decibels = []
    for start in range(0, len(sound) + 1, hop):
        power = np.abs(np.fft.rfft(mirrored[start : start + window] * hann)) ** 2
        bands = []
        for low, middle, high in zip(edges, edges[1:], edges[2:]):
            total = 0.0
            for place, value in enumerate(power):
                hz = place * RATE / window
                total += value * max(0.0, min((hz - low) / (middle - low), (high - hz) / (high - middle)))
            bands.append(10 * np.log10(max(total, 1e-10)))
        decibels.append(bands)
    levels = np.maximum(decibels, np.max(decibels) - 80)
    waves = [[np.cos(np.pi * k * (m + 0.5) / mels) for m in range(mels)] for k in range(coefficients)]
    sizes = np.array([np.sqrt((1 if k == 0 else 2) / mels) for k in range(coefficients)])
    return levels @ np.transpose(waves) * sizes


@pytest.mark.parametrize(("coefficients", "window", "hop", "mels"), [(13, 400, 200, 40), (5, 256, 100, 20)])
def test_coefficients_are_those_of_the_formulas(coefficients, window, hop, mels):
    sound = spoken()
    found = mfcc(torch.from_numpy(sound), RATE, coefficients, window, hop, mels)
    np.testing.assert_allclose(found.numpy(), slow_mfcc(sound, coefficients, window, hop, mels), atol=2e-2)


def test_mel_bands_sum_to_one_inside():
    filters = htk_filters(RATE, 400, 32)
    inside = filters.sum(1)[10:-40]
    torch.testing.assert_close(inside, torch.ones_like(inside))


def test_the_reader_standardises_cuts_and_resamples():
    plain = MfccReader().read(sound_bytes(spoken()))
    shifted = MfccReader(mean=[3.0] * 13, std=2.0, max_steps=7).read(sound_bytes(spoken()))
    torch.testing.assert_close(shifted, (plain[:7] - 3) / 2)
    high = np.interp(np.arange(4 * 3200) / 4, np.arange(3200), tone(440, 0.4)).astype("f4")
    other = MfccReader().read((high, 4 * RATE))
    same = MfccReader().read((tone(440, 0.4).astype("f4"), RATE))
    assert other.shape == same.shape
    assert (other - same)[3:-3, :2].abs().max() < 5


def test_loudness_moves_the_first_coefficient_only():
    quiet, loud = (MfccReader().read((scale * spoken(), RATE)) for scale in (0.1, 1))
    difference = loud - quiet
    torch.testing.assert_close(difference[:, 0], torch.full((len(quiet),), 20 * 128**0.5), rtol=1e-4, atol=1e-3)
    assert difference[:, 1:].abs().max() < 1e-2
    one, other = (MfccReader(peak=0.3).read((scale * spoken(), RATE)) for scale in (0.1, 1))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-2)


def test_silence_around_a_word_is_left_out_and_the_word_stays():
    word = torch.from_numpy(spoken())
    recorded = torch.cat([torch.zeros(4000), word, torch.zeros(6000)]) + 1e-4 * torch.randn(13200)
    kept = without_ends(recorded, 25, 400, 200)
    assert len(word) - 800 <= len(kept) <= len(word) + 800
    torch.testing.assert_close(without_ends(word, 60, 400, 200), word)
    assert len(MfccReader(trim=25).read((recorded.numpy(), RATE))) < 22


@pytest.mark.parametrize("where", [0, 1500, 2999])
def test_a_click_or_silence_leaves_a_window(where):
    click = torch.zeros(3000)
    click[where] = 0.9
    assert len(without_ends(click, 25, 400, 200)) >= 400
    assert MfccReader(trim=25, peak=0.3).read((np.zeros(3000, "f4"), RATE)).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coefficients": 20, "mels": 10}, r"coefficients: expected at most mels \(10\); got 20"),
        ({"mean": [1.0, 2.0]}, "mean: expected a number, or one for each of 13 coefficients; got"),
        ({"std": 0.0}, "std: expected positive numbers; got 0.0"),
        ({"trim": -3.0}, "trim: expected a positive number, or None to do without; got -3.0"),
        ({"peak": 0}, "peak: expected a positive number, or None to do without; got 0"),
        ({"hop": 0}, "hop: expected a positive number; got 0"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        MfccReader(**settings)


def test_a_sound_of_less_than_half_a_window_is_refused():
    with pytest.raises(ValueError, match="900 samples; expected more than 1000"):
        MfccReader(window=2000).read((tone(440, 900 / RATE).astype("f4"), RATE))
