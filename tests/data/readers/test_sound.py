"""Sound files whose headers say a wrong length, or none, are read to their end; those cut short are refused."""

import io
import struct

import numpy as np
import pytest
import soundfile

from confu.data.readers import WaveformReader
from confu.data.readers.audio import read_sound
from confu.data.readers.sound import sound_header
from confu.data.readers.source import remarks
from confu.runs.columns import proposed_reader

from .fixtures import RATE, sound_bytes, tone

NOISE = (0.3 * np.random.default_rng(0).standard_normal(RATE)).clip(-1, 1)
WAV = sound_bytes(NOISE)
DATA = struct.pack("<I", len(WAV) - 44)


def with_data_size(size: int, content: bytes = WAV) -> bytes:
    assert content[36:40] == b"data"
    return content[:40] + struct.pack("<I", size) + content[44:]


SIZES = [
    *(0, 0x7FFFF000, 0x7FFFFFFF - 36, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF),
    *(2 * len(NOISE) + off for off in (2, 8, 36, 44)),
    *(4 * len(NOISE), len(NOISE) // 2),
]


@pytest.mark.parametrize("size", SIZES)
def test_a_wrong_size_in_a_header_loses_no_sample(size):
    assert np.array_equal(read_sound(with_data_size(size), RATE), read_sound(WAV, RATE))


@pytest.mark.parametrize("size", [0, 4 * len(NOISE)])
def test_what_follows_the_sound_is_no_sound(size):
    """Notes after the samples are a chunk with a name and a length of its own."""
    notes = b"LIST" + struct.pack("<I", 4) + b"INFO"
    assert np.array_equal(read_sound(WAV + notes, RATE), read_sound(WAV, RATE))
    with pytest.raises(ValueError, match="holds no samples"):
        read_sound(with_data_size(0, WAV[:44]) + notes, RATE)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "AIFF", "AU", "W64", "RF64", "CAF"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_sound_that_was_cut_short_is_refused(form, share):
    content = sound_bytes(NOISE, form=form, subtype="PCM_16")
    read_sound(content, RATE)
    with pytest.raises(ValueError, match=r"cut short|not readable as sound"):
        read_sound(content[: int(share * len(content))], RATE)


def mp3_without_length(samples: np.ndarray) -> bytes:
    content = sound_bytes(samples, 44100, "MP3")
    mark = b"Xing" if b"Xing" in content[:200] else b"Info"
    return content.replace(mark, bytes(4), 1)


@pytest.mark.parametrize("quiet_first", [True, False])
def test_an_mp3_without_its_length_is_read_to_its_end(quiet_first):
    """The first frames are far smaller, or far larger, than most: a guess from them is far from the truth."""
    time = np.arange(3 * 44100) / 44100
    parts = [0.001 * np.sin(2 * np.pi * 440 * time), np.tile(NOISE, 17)[: len(time)]]
    samples = np.concatenate(parts if quiet_first else parts[::-1])
    content = mp3_without_length(samples)
    whole = read_sound(sound_bytes(samples, 44100, "MP3"), 44100).numpy()
    for file in (content, b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + content, content + bytes(50)):
        waveform = read_sound(file, 44100).numpy()
        assert 6 <= len(waveform) / 44100 < 6.1
        probe = whole[130_000:134_000]
        shift = min(range(2400), key=lambda at: np.abs(waveform[at + 130_000 : at + 134_000] - probe).sum())
        assert np.abs(waveform[shift:][: len(whole)] - whole[: len(waveform) - shift]).max() < 1e-4
    padded = read_sound(content, 44100, seconds=8.0).numpy()
    assert len(padded) == 8 * 44100 and not padded[round(6.1 * 44100) :].any()
    assert sound_header(io.BytesIO(content), "a", 10)[2] == pytest.approx(6 * 44100, abs=4000)
    assert proposed_reader("audio", [content])["seconds"] == 7.0


def test_an_mp3_that_ends_in_its_header_is_refused():
    content = sound_bytes(NOISE, 44100, "MP3")
    start = max(content.find(b"Xing"), content.find(b"Info"))
    for length in range(start, start + 12):
        with pytest.raises(ValueError, match=r"not readable as sound|holds no samples"):
            read_sound(content[:length], 44100)


def flac_without_length() -> bytes:
    content = bytearray(sound_bytes(NOISE, form="FLAC"))
    content[21] &= 0xF0  # the low 36 bits of 18..25 are the samples
    content[22:26] = bytes(4)
    return bytes(content)


def test_a_flac_without_its_length_is_read_to_its_end():
    assert np.array_equal(read_sound(flac_without_length(), RATE), read_sound(sound_bytes(NOISE, form="FLAC"), RATE))
    longer = WaveformReader(RATE, seconds=2).read(flac_without_length()).numpy()
    assert np.array_equal(longer[:RATE], WaveformReader(RATE, seconds=1).read(flac_without_length()).numpy())
    assert not longer[RATE:].any()
    assert sound_header(io.BytesIO(flac_without_length()), "a", 60) == (RATE, 1, RATE)
    with pytest.raises(ValueError, match="not readable as sound"):
        read_sound(flac_without_length()[:5000], RATE)


def test_sounds_joined_in_one_ogg_file_are_refused():
    content = sound_bytes(tone(), form="OGG")
    assert len(read_sound(content, RATE)) == len(tone())
    with pytest.raises(ValueError, match=r"several streams, one after another.*ffmpeg -i a.ogg a.flac"):
        read_sound(content + content, RATE)
    assert len(read_sound(content + content, RATE, seconds=0.4)) == 0.4 * RATE  # as far as it is read, it is whole


def test_channels_that_cancel_each_other_are_not_silence():
    left = tone()
    assert np.abs(read_sound((np.stack([left, -left], 1), RATE), RATE).numpy() - left).max() < 1e-6
    nearly = np.stack([left, -0.995 * left + 1e-4 * NOISE[: len(left)]], 1)
    assert np.abs(read_sound((nearly, RATE), RATE).numpy() - left).max() < 1e-6
    random = np.random.default_rng(0).standard_normal((4000, 8)) / 8  # channels of their own are averaged
    assert np.abs(read_sound((random, RATE), RATE).numpy() - random.mean(1)).max() < 1e-6
    assert not read_sound((np.zeros((4000, 2)), RATE), RATE).any()


def test_silence_and_cancelled_channels_are_remarked():
    for source, expected in (
        (np.zeros((4000, 2)), ["is silent"]),
        (np.full(4000, 0.25), ["is silent"]),
        (np.stack([tone(), -tone()], 1), ["has channels that cancel each other: the loudest is taken"]),
        (tone(), []),
    ):
        with remarks() as texts:
            read_sound((source, RATE), RATE)
        assert texts == expected


def test_what_libsndfile_writes_is_read_as_before():
    for form in ("WAV", "FLAC", "OGG", "MP3"):
        content = sound_bytes(NOISE, form=form)
        expected = soundfile.read(io.BytesIO(content), dtype="float32")[0]
        assert np.abs(read_sound(content, RATE).numpy() - expected).max() < 1e-6
