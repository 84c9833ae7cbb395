"""The speech encoder: its spectrogram, its windows, and its weights from the wheel."""

import pytest
import torch

from confu.nn.encoders import SpeechEncoder, build_encoder
from confu.nn.encoders.registry import RESEMBLYZER
from confu.nn.encoders.speech import HOP, RATE, WINDOW, louder, power_mels, window_starts
from confu.nn.mel import mel_filters

needs_weights = pytest.mark.skipif(not RESEMBLYZER.installed, reason="the wheel with the weights is missing")


def padded(*sounds):
    values = torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True)
    lengths = torch.tensor([len(sound) for sound in sounds]).unsqueeze(1)
    return {"values": values, "mask": torch.arange(values.shape[1]) < lengths}


def tone(samples, pitch):
    time = torch.arange(samples) / RATE
    return 0.01 * sum(torch.sin(2 * torch.pi * pitch * k * time) / k for k in range(1, 9))


def test_power_mels_against_a_loop():
    torch.manual_seed(0)
    sound, hann, filters = (
        torch.randn(1, 1000),
        torch.hann_window(WINDOW),
        mel_filters(RATE, WINDOW, 40, 0.0, RATE / 2).T,
    )
    mels = power_mels(sound, hann, filters)
    assert mels.shape == (1, 1000 // HOP + 1, 40)
    surrounded = torch.cat([torch.zeros(WINDOW // 2), sound[0], torch.zeros(WINDOW // 2)])
    for frame in range(mels.shape[1]):
        power = torch.fft.rfft(surrounded[frame * HOP : frame * HOP + WINDOW] * hann).abs() ** 2
        torch.testing.assert_close(mels[0, frame], power @ filters, atol=1e-5, rtol=1e-4)


def test_quiet_sound_alone_is_raised():
    sounds = torch.stack([torch.full((10,), 0.001), torch.full((10,), 0.5), torch.zeros(10)])
    raised = louder(sounds, torch.tensor([10, 10, 10]))
    torch.testing.assert_close(raised[0], torch.full((10,), 10 ** (-30 / 20)))
    assert torch.equal(raised[1:], sounds[1:])


@pytest.mark.parametrize(
    ("length", "starts"),
    [(1, [0]), (25_599, [0]), (25_600, [0]), (31_500, [0]), (31_600, [0, 77]), (48_000, [0, 77, 154])],
)
def test_windows_of_a_sound(length, starts):
    assert window_starts([length]) == ([0] * len(starts), starts)


def test_a_sound_has_the_same_voice_alone_and_in_a_batch():
    torch.manual_seed(0)
    encoder = SpeechEncoder(5, pretrained=False)
    sounds = [10 * torch.randn(length) for length in (26_000, 48_000, 3_000)]
    together = encoder.features(**padded(*sounds))
    for sound, voice in zip(sounds, together):
        torch.testing.assert_close(encoder.features(sound.unsqueeze(0))[0], voice, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.square().mean(1), torch.ones(3))
    with_channel = encoder.features(sounds[0].view(1, 1, -1))
    torch.testing.assert_close(with_channel[0], together[0], atol=1e-4, rtol=1e-4)


def test_what_stands_at_padding_does_not_matter():
    encoder, inputs = SpeechEncoder(5, pretrained=False), padded(torch.randn(20_000), torch.randn(30_000))
    other = {**inputs, "values": inputs["values"].masked_fill(~inputs["mask"], torch.nan)}
    torch.testing.assert_close(encoder(**inputs), encoder(**other))


def test_bad_settings_and_inputs_are_refused():
    for tune in ("last:1", "lora"):
        with pytest.raises(ValueError, match="tune of the speech encoder must be 'frozen' or 'full'"):
            SpeechEncoder(tune=tune, pretrained=False)
    encoder = SpeechEncoder(pretrained=False)
    with pytest.raises(ValueError, match="row 1 has none"):
        encoder(torch.zeros(2, 50), mask=torch.tensor([[True] * 50, [False] * 50]))
    with pytest.raises(ValueError, match=r"waveforms of one channel; got shape \(2, 3, 50\)"):
        encoder(torch.zeros(2, 3, 50))


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'resemblyzer.*pip install --no-deps "Resemblyzer==0\.1\.4"'):
        SpeechEncoder()


@needs_weights
def test_real_weights_give_what_the_reference_gives():
    """The numbers are those of Resemblyzer 0.1.4, with librosa 0.11, for these two sounds."""
    encoder = SpeechEncoder()
    voices = encoder.features(**padded(tone(9_000, 120.0), tone(48_000, 210.0))) / 16
    for voice, places, values in (
        (voices[0], [20, 62, 0, 89], [0.294574, 0.222685, 0.222457, 0.195450]),
        (voices[1], [91, 224, 209, 127], [0.282781, 0.233132, 0.205987, 0.192633]),
    ):
        top = voice.topk(4)
        assert top.indices.tolist() == places
        torch.testing.assert_close(top.values, torch.tensor(values), atol=1e-4, rtol=1e-3)
    assert (voices[0] @ voices[1]).item() == pytest.approx(0.558858, abs=1e-3)


@needs_weights
def test_a_saved_one_is_rebuilt_without_the_wheel(monkeypatch):
    encoder = SpeechEncoder(4)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    rebuilt = build_encoder(encoder.settings)
    rebuilt.load_state_dict(encoder.state_dict())
    sound = tone(5000, 150.0).unsqueeze(0)
    assert torch.equal(rebuilt(sound), encoder(sound))
