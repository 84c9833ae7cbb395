import math

import numpy as np
import pytest
import soundfile
import torch

from confu.data.readers import MelReader, WaveformReader
from confu.nn.mel import hz_to_mel, mel_filters, mel_to_hz, scaled_decibels

from .fixtures import RATE, sound_bytes, tone

NOISE = 0.3 * np.random.default_rng(0).standard_normal(4000)


def slow_mel_power(samples, rate, window, hop, mels, low, high):
    """Librosa's formula in loops: Hann window, zeros beyond the ends, Slaney's scale and norm, float64."""

    def to_mel(hz):
        return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)

    def to_hz(mel):
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    edges = [to_hz(to_mel(low) + (to_mel(high) - to_mel(low)) * k / (mels + 1)) for k in range(mels + 2)]
    padded = np.concatenate([np.zeros(window // 2), samples, np.zeros(window // 2)])
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * k / window) for k in range(window)]
    frames = len(samples) // hop + 1
    result = np.zeros((mels, frames))
    for frame in range(frames):
        power = np.abs(np.fft.rfft(padded[frame * hop : frame * hop + window] * hann)) ** 2
        for band in range(mels):
            left, peak, right = edges[band : band + 3]
            for k in range(window // 2 + 1):
                hz = k * rate / window
                weight = max(0.0, min((hz - left) / (peak - left), (right - hz) / (right - peak)))
                result[band, frame] += weight * 2 / (right - left) * power[k]
    return result


@pytest.mark.parametrize(
    "settings",
    [
        {"rate": 22050, "window": 1024, "hop": 512, "mels": 128},
        {"rate": 16000, "window": 400, "hop": 160, "mels": 40},
        {"rate": 22050, "window": 1024, "hop": 512, "mels": 64, "low": 500, "high": 10000},
    ],
)
def test_mel_power_is_librosas(settings):
    rate = settings["rate"]
    seconds = 4000 / rate
    reader = MelReader(**settings, seconds=seconds, log=False)
    arguments = {"low": 0, "high": rate / 2, **settings}
    expected = slow_mel_power(NOISE, **arguments)
    power = reader.read((NOISE.astype(np.float32), rate))[0].double().numpy()
    assert power.shape == expected.shape
    assert np.abs(power / expected - 1).max() < 1e-4


def test_log_mel_is_librosas_decibels_of_the_loudest_scaled():
    reader = MelReader(RATE, 0.5, mels=16, window=256, hop=64)
    power = slow_mel_power(NOISE, RATE, 256, 64, 16, 0, 4000)
    power[:, 30:] *= 1e-7  # so that the floor is reached
    decibels = 10 * np.log10(np.maximum(power, 1e-10)) - 10 * np.log10(power.max())
    expected = np.maximum(decibels, -80) / 40 + 1
    assert np.abs(scaled_decibels(torch.from_numpy(power)).numpy() - expected).max() < 1e-9
    assert expected.min() == -1
    item = reader.read((NOISE, RATE))
    assert item.max() == 1
    assert torch.allclose(item, reader.read((0.01 * NOISE, RATE)), atol=1e-4)


def test_settings_of_the_paper_give_its_431_frames():
    reader = MelReader()
    item = reader.read((tone(seconds=0.5), RATE))
    assert item.shape == (1, 128, 431)
    assert (item[:, :, 30:] == -1).all()  # zeros after the sound
    assert (reader.read((np.zeros(RATE), RATE)) == -1).all()  # silence is heard as silence


def test_the_scale_is_its_own_inverse_and_bands_have_one_area():
    hz = torch.linspace(0, 11025, 50, dtype=torch.float64)
    assert torch.allclose(mel_to_hz(hz_to_mel(hz)), hz)
    areas = mel_filters(22050, 8192, 20, 0.0, 11025.0).sum(1) * 22050 / 8192
    assert (areas - 1).abs().max() < 0.01


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_files_and_bytes_of_every_format_are_read(tmp_path, form):
    content = sound_bytes(tone(), form=form)
    path = tmp_path / f"a.{form.lower()}"
    path.write_bytes(content)
    reader = WaveformReader(RATE, seconds=0.5)
    waveform = reader.read(content)
    assert torch.equal(waveform, reader.read(path))
    assert torch.equal(waveform, reader.read(str(path)))
    middle = slice(1000, 3000)
    assert np.abs(waveform.numpy() - tone())[middle].max() < (1e-4 if form in ("WAV", "FLAC") else 0.1)


def test_samples_of_every_type_are_read_at_full_scale_one():
    expected = WaveformReader(RATE).read((tone(), RATE))
    sources = [
        (np.round(tone() * 2**15).astype(np.int16), RATE),
        (np.round(tone() * 2**31).astype(np.int32), RATE),
        (tone().tolist(), RATE),
        (torch.from_numpy(tone()), float(RATE)),
        (np.stack([tone(), tone()]), RATE),
        (np.stack([1.5 * tone(), 0.5 * tone()], axis=1), RATE),
    ]
    for source in sources:
        assert torch.allclose(WaveformReader(RATE).read(source), expected, atol=1e-4)


def test_long_sounds_are_cut_and_short_ones_filled():
    long, short = tone(seconds=3), tone(seconds=0.3)
    reader = WaveformReader(RATE, seconds=1)
    assert np.allclose(reader.read((long, RATE)), long[:RATE])
    assert np.allclose(reader.read((short, RATE)), np.pad(short, (0, RATE - len(short))))
    assert len(WaveformReader(RATE).read((long, RATE))) == 3 * RATE


def test_only_what_is_needed_is_decoded_and_sounds_the_same(tmp_path):
    """Resampling must not hear the cut."""
    long = NOISE.repeat(3)
    soundfile.write(tmp_path / "a.flac", long, 16000)
    cut = WaveformReader(RATE, seconds=0.4).read(tmp_path / "a.flac")
    whole = WaveformReader(RATE).read(tmp_path / "a.flac")
    assert (cut - whole[: len(cut)]).abs().max() < 1e-5


def test_waveforms_of_any_length_are_padded():
    reader = WaveformReader(RATE)
    items = [reader.read((tone(seconds=seconds), RATE)) for seconds in (0.2, 0.1)]
    inputs = reader.collate(items)
    assert inputs["values"].shape == (2, 1600)
    assert inputs["mask"].sum(1).tolist() == [1600, 800]
    assert (inputs["values"][1, 800:] == 0).all()


@pytest.mark.parametrize("form", ["WAV", "FLAC"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_file_cut_short_is_named(tmp_path, form, share):
    content = sound_bytes(NOISE, form=form)
    (tmp_path / "call.bin").write_bytes(content[: int(share * len(content))])
    for source in (tmp_path / "call.bin", content[: int(share * len(content))]):
        with pytest.raises(ValueError, match=r"(call\.bin|bytes): (cut short|not readable as sound)"):
            MelReader().read(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((np.zeros(0), RATE), "holds no samples"),
        (sound_bytes(np.zeros(0)), "holds no samples"),
        ((np.full(RATE, np.nan), RATE), "holds NaN"),
        (sound_bytes(np.full(RATE, np.inf), subtype="FLOAT"), "holds NaN or infinity"),
        (sound_bytes(tone(seconds=0.05)), "lasts 0.050 s; expected 0.1 s or more"),
        ((tone(), 0), "expected a rate of 1000"),
        ((tone(), math.nan), "expected a rate of 1000"),
        ((tone().astype(np.complex64), RATE), "expected numbers; got complex64"),
        ((np.zeros(RATE, np.uint8), RATE), "expected floats from -1 to 1, or int8, int16 or int32; got uint8"),
        ((np.zeros((2, 2, 2)), RATE), r"expected \(samples,\)"),
        (tone(), r"expected a sound's file, its bytes, or a tuple \(samples, rate in Hz\); got ndarray"),
        ((tone(), str(RATE)), r"got \(ndarray, str\)"),
        (b"not a sound", r"not readable as sound \(Format not recognised\.\); WAV, FLAC, OGG and MP3 are, convert"),
        (
            sound_bytes(tone(), form="FLAC")[:-2000],
            r"not readable as sound: damaged or cut short \((?!.*0x).*; fetch the",
        ),
        ("nowhere.wav", "nowhere.wav: cannot be read: no such file"),
    ],
)
def test_sounds_that_cannot_be_used_are_named(source, message, as_users_run):
    for reader in (MelReader(), WaveformReader(RATE)):
        with pytest.raises(ValueError, match=message):
            reader.read(source)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seconds": 0}, "seconds: expected a positive number"),
        ({"rate": 8000, "window": 128}, "of 128 bands hold no frequency"),
        ({"low": 5000, "high": 4000}, "low and high"),
        ({"high": 20000}, "low and high"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        MelReader(**settings)
