import numpy as np
import pytest
import soundfile

from confu_paper.datasets.av_mnist_sound import read_wav, wav_files

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)


def test_channels_are_mixed_and_the_rate_is_changed(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([TONE, 0 * TONE], axis=1), 16000)
    waveform = read_wav(tmp_path / "a.wav", 8000)
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    assert waveform.dtype == np.float32
    assert waveform.shape == (8000,)
    assert np.abs(waveform - expected)[200:-200].max() < 1e-3


@pytest.mark.parametrize("keep", [20, 44, 1000])
def test_a_file_cut_short_is_an_error(tmp_path, keep):
    path = tmp_path / "a.wav"
    soundfile.write(path, TONE, 16000)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"a.wav: cut short"):
        read_wav(path, 8000)


def test_a_size_that_was_never_known_is_read(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, TONE, 16000)
    content = path.read_bytes()
    path.write_bytes(content[:40] + b"\xff\xff\xff\xff" + content[44:])
    assert len(read_wav(path, 16000)) == 16000


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0), "holds no samples"),
        (np.zeros(800), "is silent"),
        (np.full(800, np.nan, dtype=np.float32), "holds NaN"),
    ],
)
def test_sounds_that_cannot_be_used_are_named(tmp_path, samples, message):
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match=rf"a.wav: {message}"):
        read_wav(tmp_path / "a.wav", 8000)


def test_no_sound_file_is_named(tmp_path):
    (tmp_path / "a.wav").write_text("not a sound")
    with pytest.raises(ValueError, match=r"a.wav: not readable as sound"):
        read_wav(tmp_path / "a.wav", 8000)
    with pytest.raises(ValueError, match=r"b.wav: no such file"):
        read_wav(tmp_path / "b.wav", 8000)


def test_a_folder_without_wav_files_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"noise: no \.wav file in"):
        wav_files(tmp_path, "noise")
    with pytest.raises(ValueError, match="noise: no such folder"):
        wav_files(tmp_path / "nowhere", "noise")
