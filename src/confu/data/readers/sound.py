"""Sound files as mono waveforms: through libsndfile, with the lengths that files do not say or say wrongly."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from typing import Any

import numpy as np

from confu.data.media import HEAD, format_of, why_unreadable
from confu.data.readers.source import remark

SILENCE = 2 / 32768  # two steps of 16 bit: dither at most
_RATES = (1_000, 1_000_000)  # Hz
_BLOCK = 2**20  # samples of a channel that are read at once where the length is not known
_READ: dict[str, Any] = {"dtype": "float32", "always_2d": True}
_CANCELLED = 0.01  # -40 dB: the mean of channels that are the same but for a sign, as a wrong cable makes them

# Programs that stream do not know a WAV file's length: arecord writes 0x7FFFF000 or 2^31, sox 0x7FFFFFFF less the
# header, ffmpeg 0xFFFFFFFF, others 0.
_UNKNOWN_WAV_BYTES = 0x7FFF0000

# A frame's header of MPEG 1, 2 and 2.5, layer III: neither a free nor a reserved bit rate, no reserved sampling rate.
_MP3_RATES = re.escape(bytes(byte for byte in range(0x10, 0xF0) if byte & 0x0C < 0x0C))
_NO_REASON = re.compile(r"Error opening <.*?>: |Error : ")  # of libsndfile's messages
_MP3_FRAME = re.compile(rb"\xff[\xfa\xfb\xf2\xf3\xe2\xe3][" + _MP3_RATES + rb"].", re.DOTALL)
# Sampling rates by the two bits that tell the version. Bit rate number 9 is 128 or 80 kbit/s.
_MP3_VERSIONS = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MP3_MANY = 2**31 - 1  # frames


@contextmanager
def open_sound(file: BufferedReader | BytesIO, name: str) -> Iterator[tuple[Any, float]]:
    """Open a sound file that libsndfile reads; sizes in its header that cannot be right are passed over.

    Args:
        file: at its start; it can seek.
        name: for messages.

    Yields:
        the `soundfile.SoundFile`, and its samples a channel; `math.inf` where only reading to the end tells.

    Raises:
        ValueError: no sound, or cut short.
    """
    import soundfile

    class Streamed(soundfile.SoundFile):
        """After each read soundfile seeks, which fails at the end of a file whose length is not known."""

        def seekable(self) -> bool:
            return False

    head = file.read(HEAD)
    known = format_of(head)
    length = None
    if known is not None and known.suffix == ".wav" and head.startswith(b"RIFF"):
        file = _with_wav_size(file, name)
    elif known is not None and known.suffix == ".mp3":
        file.seek(0)
        content = file.read()
        if (counted := _without_mp3_length(content)) is not None:
            file, length = BytesIO(counted), math.inf
    else:
        _check_size(file, head, name)
    file.seek(0)
    try:
        with Streamed(file) as sound:
            # Of a FLAC whose header holds no length libsndfile says the largest number that there is.
            yield sound, (math.inf if sound.frames > 2**40 else sound.frames) if length is None else length
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = _NO_REASON.sub("", str(error))
        words = f"not readable as sound ({reason}); WAV, FLAC, OGG and MP3 are, convert other files"
        if known is not None and known.kind == "audio":
            words = f"not readable as sound: damaged or cut short ({reason}); fetch the file again"
        raise ValueError(f"{name}: {why_unreadable('audio', head) or words}") from error


def decode_sound(file: BufferedReader | BytesIO, name: str, rate: int, seconds: float | None = None) -> np.ndarray:
    """(samples,) float32, full scale at 1, of a file that libsndfile reads: one channel at a rate in Hz.

    Args:
        file: at its start; it can seek.
        name: for messages.
        rate: in Hz; another rate is resampled.
        seconds: read no more than that from the start.

    Raises:
        ValueError: no sound, cut short, empty, with NaN, or of an absurd rate.
    """
    with open_sound(file, name) as (sound, length):
        file_rate = sound.samplerate
        # A little more than asked for, so that resampling does not hear the cut.
        limit = math.inf if seconds is None else math.ceil((seconds + 0.1) * file_rate)
        expected = min(length, limit)
        samples = sound.read(int(expected), **_READ) if length < math.inf else _read_to_end(sound, limit)
        if len(samples) < limit and sound.format == "OGG":
            _check_one_link(file, name)
    if len(samples) < expected and length < math.inf:
        raise ValueError(f"{name}: cut short: {expected} samples expected, found {len(samples)}; fetch the file again")
    return mono(samples, file_rate, name, rate, seconds)


def _read_to_end(sound: Any, limit: float) -> np.ndarray:
    """(samples, channels) of a sound whose length is not known, no more than a limit."""
    return np.concatenate([np.zeros((0, sound.channels), np.float32), *_blocks(sound, limit)])


def _blocks(sound: Any, limit: float) -> Iterator[np.ndarray]:
    while limit > 0 and len(block := sound.read(int(min(limit, _BLOCK)), **_READ)):
        yield block
        limit -= len(block)


def sound_header(file: BufferedReader | BytesIO, name: str, most: float) -> tuple[int, int, int]:
    """A sound's rate in Hz, channels and samples a channel; one whose length is not known is read to its end.

    Args:
        file: at its start; it can seek.
        name: for messages.
        most: seconds that are read at most.

    Raises:
        ValueError: no sound, or cut short.
    """
    with open_sound(file, name) as (sound, length):
        if length == math.inf:
            length = sum(map(len, _blocks(sound, 1 + most * sound.samplerate)))
        return sound.samplerate, sound.channels, int(length)


def mono(samples: np.ndarray, file_rate: float, name: str, rate: int, seconds: float | None) -> np.ndarray:
    """(samples, channels) float32 as (samples,): the mean of the channels, resampled and cut.

    Where the channels cancel each other, so that nothing would be left of them, the loudest is taken.

    Raises:
        ValueError: no samples, NaN, or an absurd rate.
    """
    if not len(samples):
        raise ValueError(f"{name}: holds no samples; remove the file")
    if not _RATES[0] <= file_rate <= _RATES[1]:  # a damaged header; resampling could fill the memory
        raise ValueError(f"{name}: expected a rate of {_RATES[0]} to {_RATES[1]} Hz; got {file_rate}")
    if not np.isfinite(samples).all():
        raise ValueError(f"{name}: holds NaN or infinity; remove or repair the file")
    waveform = samples.mean(axis=1)
    if samples.shape[1] > 1:
        power = np.einsum("sc,sc->c", samples, samples)
        if waveform @ waveform < _CANCELLED**2 * power.max() and np.abs(samples).max() >= SILENCE:
            remark("has channels that cancel each other: the loudest is taken")
            waveform = samples[:, power.argmax()]
    if file_rate != rate:
        import soxr

        waveform = soxr.resample(waveform, file_rate, rate)
    waveform = waveform if seconds is None else waveform[: round(seconds * rate)]
    return np.ascontiguousarray(waveform, dtype=np.float32)


def _check_size(file: BufferedReader | BytesIO, head: bytes, name: str) -> None:
    """ValueError for a file of AIFF, AU, CAF, W64 or RF64 that was cut short: libsndfile reads what is left of it."""
    size = file.seek(0, 2)
    announced, unknown = 0, 2**62
    if head.startswith(b"FORM"):
        announced, unknown = 8 + int.from_bytes(head[4:8], "big"), _UNKNOWN_WAV_BYTES
    elif head.startswith(b".snd"):
        announced, unknown = int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:12], "big"), _UNKNOWN_WAV_BYTES
    elif head.startswith(b"riff"):
        announced = int.from_bytes(head[16:24], "little")
    elif head.startswith(b"RF64") and head[12:16] == b"ds64":
        announced = 8 + int.from_bytes(head[20:28], "little")
    elif head.startswith(b"caff"):
        announced = 8
        while announced + 12 <= size:
            file.seek(announced + 4)
            announced += 12 + int.from_bytes(file.read(8), "big")
    if size + HEAD < announced < unknown:
        raise ValueError(
            f"{name}: cut short: its header announces {announced} bytes, found {size}; fetch the file again"
        )


def _with_wav_size(file: BufferedReader | BytesIO, name: str) -> BufferedReader | BytesIO:
    """A WAV file whose header says how many bytes of sound there are.

    libsndfile reads a file that was cut short without a word, and nothing of one whose header says 0. A size is passed
    over if no sample is missing by it: one of a program that streams, one that counts the header in, one that is
    doubled, or one that is less than half of what is there.

    Raises:
        ValueError: cut short.
    """
    size = file.seek(0, 2)
    position, length = 12, 0
    while position + 8 <= size:
        file.seek(position)
        chunk, length = file.read(4), int.from_bytes(file.read(4), "little")
        position += 8
        if chunk == b"data":
            break
        position += length + length % 2
    else:
        raise ValueError(f"{name}: cut short: {size} bytes and no sound in them; fetch the file again")
    available = size - position
    if length > available:
        if not (length >= _UNKNOWN_WAV_BYTES or length - available <= position or length == 2 * available):
            raise ValueError(
                f"{name}: cut short: its header announces {length} bytes of sound, found {available}; "
                "fetch the file again"
            )
    elif available - length <= length or _begins_a_chunk(file, position + length + length % 2, size):
        return file
    file.seek(0)
    content = bytearray(file.read())
    content[position - 4 : position] = available.to_bytes(4, "little")
    return BytesIO(content)


def _check_one_link(file: BufferedReader | BytesIO, name: str) -> None:
    """ValueError for an OGG file of several sounds, one after another: libsndfile reads the first."""
    file.seek(0)
    content = file.read()
    first, last = content.find(b"OggS\0\0"), content.rfind(b"OggS\0\2")  # a page of sound, and one that begins a stream
    if 0 <= first < last:
        raise ValueError(
            f"{name}: holds several streams, one after another, of which the first is read; convert it: "
            "ffmpeg -i a.ogg a.flac"
        )


def _begins_a_chunk(file: BufferedReader | BytesIO, position: int, size: int) -> bool:
    """Whether a chunk of RIFF stands at a position, with a name and a length that fits."""
    file.seek(position)
    chunk, length = file.read(4), int.from_bytes(file.read(4), "little")
    return len(chunk) == 4 and chunk.isascii() and chunk.decode().isprintable() and position + 8 + length <= size


def _without_mp3_length(content: bytes) -> bytes | None:
    """An MP3 file without a header of its length (Xing), with one that announces more frames than there are.

    libsndfile guesses the length from the first frames, and reads no further.

    Returns:
        None if the file says its length, or holds no frame.
    """
    start = 0
    while content[start : start + 3] == b"ID3":
        tag = content[start : start + 10]
        start += 10 + sum(byte << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0)))
        start += 10 if len(tag) == 10 and tag[5] & 0x10 else 0
    if (match := _MP3_FRAME.search(content, start)) is None:
        return None
    start, frame = match.start(), match.group()
    version, rate = frame[1] >> 3 & 3, frame[2] >> 2 & 3
    is_mono, mpeg1 = frame[3] >> 6 == 3, version == 3
    side = (17 if is_mono else 32) if mpeg1 else (9 if is_mono else 17)
    place = start + 4 + side
    if content[place : place + 4] in (b"Xing", b"Info") and int.from_bytes(content[place + 4 : place + 8], "big") & 1:
        return None
    header = bytes([frame[0], frame[1] | 1, 0x90 | rate << 2, frame[3]])  # no checksum, no padding
    info = header + bytes(side) + b"Xing\0\0\0\1" + _MP3_MANY.to_bytes(4, "big")
    length = (144 * 128_000 if mpeg1 else 72 * 80_000) // _MP3_VERSIONS[version][rate]
    return info.ljust(length, b"\0") + content[start:]
