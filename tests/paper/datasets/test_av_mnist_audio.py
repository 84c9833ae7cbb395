import numpy as np
import pytest
import soundfile

from confu_paper.datasets.av_mnist_sound import SPEECH_RMS, Draws, Sounds, mix, read_noise, read_speech, split_noise
from data.fixtures import write_noise, write_speech


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def test_each_split_has_its_own_recordings_at_one_level(tmp_path):
    speech = read_speech(write_speech(tmp_path / "speech"))
    indices = {split: {int(name[:-4].split("_")[2]) for name in sounds.names} for split, sounds in speech.items()}
    assert indices == {"train": {10, 49}, "validation": {5, 9}, "test": {0, 4}}
    for sounds in speech.values():
        for waveform in sounds.waveforms:
            assert len(waveform) <= 8000
            assert rms(waveform) == pytest.approx(SPEECH_RMS, rel=1e-4)


def test_noise_of_a_sound_is_shared_out_in_order():
    names = [f"rain-{k}.wav" for k in range(12)] + ["sea-1.wav", "train-0.wav", "a-b-0.wav", "a-b-1.wav", "a-b-2.wav"]
    split = split_noise(names, seed=0)
    assert split["test"] == ["rain-10.wav", "rain-11.wav", "a-b-2.wav"]
    assert split["validation"] == ["rain-8.wav", "rain-9.wav", "a-b-1.wav"]
    assert sorted(name for clips in split.values() for name in clips) == sorted(names)


def test_takes_of_one_esc50_source_stay_together():
    names = [f"{1 + source % 5}-{1000 + source}-{take}-{source % 50}.wav" for source in range(40) for take in "AB"]
    split = split_noise(names, seed=3)
    sources = [{name.split("-")[1] for name in clips} for clips in split.values()]
    assert [len(found) for found in sources] == [28, 6, 6]
    assert not sources[0] & sources[1] | sources[0] & sources[2] | sources[1] & sources[2]
    assert split == split_noise(names[::-1], seed=3)
    assert split != split_noise(names, seed=4)


@pytest.mark.parametrize("names", [["rain-0.wav", "sea-0.wav", "sea-1.wav"], ["a.wav", "b.wav"]])
def test_too_few_clips_are_refused(names):
    with pytest.raises(ValueError, match="each split needs a clip of its own"):
        split_noise(names, seed=0)


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 6.0])
def test_mixture_has_the_level_asked_and_the_speech_in_its_place(snr_db):
    random = np.random.default_rng(0)
    said = (SPEECH_RMS * np.sign(random.standard_normal(2000))).astype(np.float32)
    clip = random.standard_normal(12000).astype(np.float32)
    draws = Draws(*(np.array([value]) for value in (0, 500, 0, 3000)))
    mixed = mix(draws, slice(None), Sounds(["7_ann_10.wav"], [said]), Sounds(["rain-0.wav"], [clip]), snr_db)[0].numpy()
    noise = mixed.copy()
    noise[500:2500] -= said
    assert 20 * np.log10(rms(said) / rms(noise)) == pytest.approx(snr_db, abs=1e-3)
    assert np.corrcoef(noise, clip[3000:11000])[0, 1] > 0.9999


def test_a_pause_in_the_noise_is_not_blown_up():
    clip = np.zeros(20000, dtype=np.float32)
    clip[10000:] = 0.5
    draws = Draws(*(np.array([value]) for value in (0, 0, 0, 0)))
    said = np.full(10, SPEECH_RMS, dtype=np.float32)
    mixed = mix(draws, slice(None), Sounds(["7_ann_10.wav"], [said]), Sounds(["a.wav"], [clip]), -10.0)
    assert mixed.isfinite().all()
    assert not mixed[0, 10:].any()


def test_bad_sounds_are_named(tmp_path):
    speech = write_speech(tmp_path / "speech")
    (speech / "7_ann_9.wav").unlink()
    (speech / "7_ann_5.wav").unlink()
    with pytest.raises(ValueError, match="no recording of digit 7 for validation"):
        read_speech(speech)
    soundfile.write(speech / "seven.wav", np.ones(800), 8000)
    with pytest.raises(ValueError, match=r"seven.wav: expected a name like"):
        read_speech(speech)
    noise = write_noise(tmp_path / "noise")
    soundfile.write(noise / "rain-00.wav", 0.5 * np.ones(4000), 8000)
    with pytest.raises(ValueError, match=r"rain-00.wav: expected at least 1 s, got 0.50 s"):
        read_noise(noise, seed=0)
