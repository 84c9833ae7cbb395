import numpy as np
import pytest
import torch

from confu_paper.datasets.av_mnist_sound import log_spectrogram, shift_time


def slow_log_spectrogram(waveform):
    """One frame and one bin at a time, by the definition of the Fourier transform."""
    padded = np.pad(waveform, 128, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    power = np.zeros((112, 112))
    for frame in range(112):
        cut = padded[frame * 72 : frame * 72 + 256] * window
        for frequency in range(112):
            power[frequency, frame] = abs(np.sum(cut * np.exp(-2j * np.pi * frequency * np.arange(256) / 256))) ** 2
    decibels = np.maximum(10 * np.log10(power / power.max()), -80)
    return 255 * (1 + decibels / 80)


def test_equals_the_slow_definition():
    time = np.arange(8000) / 8000
    waveform = np.sin(2 * np.pi * (400 + 1200 * time) * time) + 1e-3 * np.random.default_rng(0).standard_normal(8000)
    expected = slow_log_spectrogram(waveform)
    found = log_spectrogram(torch.from_numpy(waveform)[None])[0].numpy()
    assert np.abs(found - expected).max() <= 0.501
    single = log_spectrogram(torch.from_numpy(waveform)[None].float())[0].numpy()
    assert np.abs(single - expected).max() <= 1.5


def test_loudness_leaves_no_trace_and_rows_are_separate():
    waveforms = torch.randn(3, 8000)
    together = log_spectrogram(waveforms)
    assert torch.equal(together[1], log_spectrogram(waveforms[1:2] * 0.25)[0])
    assert together.amax(dim=(1, 2)).tolist() == [255] * 3


def test_silence_is_black():
    assert not log_spectrogram(torch.zeros(1, 8000)).any()


def test_another_length_is_refused():
    with pytest.raises(ValueError, match="expected 8000 samples"):
        log_spectrogram(torch.zeros(1, 7999))


def test_a_time_shift_turns_each_picture_round_on_its_own():
    torch.manual_seed(0)
    pictures = torch.arange(40 * 2 * 9).reshape(40, 2, 9)
    shifted = shift_time(pictures, most=3)
    found = set()
    for before, after in zip(pictures, shifted, strict=True):
        fitting = [shift for shift in range(-3, 4) if torch.equal(after, before.roll(shift, dims=1))]
        assert len(fitting) == 1
        found.add(fitting[0])
    assert found == set(range(-3, 4))


def test_a_time_shift_repeats_with_torchs_random_state():
    pictures = torch.randn(5, 2, 9)
    state = torch.random.get_rng_state()
    first = shift_time(pictures, most=3)
    torch.random.set_rng_state(state)
    assert torch.equal(shift_time(pictures, most=3), first)
