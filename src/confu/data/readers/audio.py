"""Sound: any file that libsndfile reads, or samples with their rate; as a mel spectrogram or as a waveform."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from confu.data.readers.scaling import Scale, Scaling
from confu.data.readers.sound import SILENCE, decode_sound, mono
from confu.data.readers.source import Source, array_of, is_file, name_of, opened, padded, plain, remark, stacked
from confu.nn.mel import mel_filters, mel_power, scaled_decibels

LEAST_SECONDS = 0.1
_FULL_SCALE = {"i1": 2**7, "i2": 2**15, "i4": 2**31}


class MelReader:
    """Sounds as mel spectrograms: cut or filled with zeros to one length, mono, power in mel bands.

    Args:
        rate: in Hz, to which sounds are resampled.
        seconds: of each sound, from its start.
        mels: bands.
        window: samples of a short-time Fourier transform.
        hop: samples from frame to frame.
        low: where the lowest band begins, in Hz.
        high: where the highest ends, in Hz; None is half the rate.
        log: decibels below the loudest point, 80 of them as -1 to 1 (see `scaled_decibels`); False gives plain power.
        scale: how each band is standardised over sounds and time, see `Scaling`; by default not at all.
        clip: likewise.

    Reference: A.1 of the ConFu paper, which does not state `low`, `high` and the scaling.

    >>> MelReader().read((np.zeros(22050, np.float32), 22050)).shape
    torch.Size([1, 128, 431])
    """

    stackable = True
    modality_kind = "audio"

    def __init__(
        self,
        rate: int = 22050,
        seconds: float = 10.0,
        mels: int = 128,
        window: int = 1024,
        hop: int = 512,
        low: float = 0.0,
        high: float | None = None,
        log: bool = True,
        scale: Scale = None,
        clip: float | None = None,
    ) -> None:
        _check_positive(rate=rate, seconds=seconds, mels=mels, window=window, hop=hop)
        self.settings: dict[str, Any] = {
            **{"kind": "mel", "rate": rate, "seconds": float(seconds), "mels": mels, "window": window, "hop": hop},
            **{"low": float(low), "high": None if high is None else float(high), "log": log},
        }
        self.scaling = Scaling(mels, 2, scale, clip)
        self.settings |= self.scaling.settings
        self._transform = (rate, window, hop, mels, float(low), rate / 2 if high is None else float(high))
        mel_filters(rate, window, mels, *self._transform[4:])  # an impossible band is an error here, not at a file
        self.log, self.rate, self.seconds = log, rate, seconds
        self.shape = (1, mels, round(seconds * rate) // hop + 1)

    def read(self, source: Source) -> Float[Tensor, "1 mels frames"]:
        """One sound's mel spectrogram; sources and errors are those of `read_sound`."""
        power = mel_power(read_sound(source, self.rate, self.seconds)[None], *self._transform)
        return scaled_decibels(power) if self.log else power

    def collate(self, items: Sequence[Tensor] | Float[Tensor, "n 1 mels frames"]) -> Float[Tensor, "n 1 mels frames"]:
        """What the encoder gets: the spectrograms, stacked and standardised."""
        return self.scaling.apply(stacked(items, self.shape), torch.float32)


class WaveformReader:
    """Sounds as mono waveforms.

    Args:
        rate: in Hz, to which sounds are resampled.
        seconds: of each sound, from its start; shorter ones are filled with zeros. None keeps each one's length.

    >>> WaveformReader(8000, seconds=1).read((np.zeros((2, 4000), np.int16), 8000)).shape
    torch.Size([8000])
    """

    modality_kind = "audio"

    def __init__(self, rate: int, seconds: float | None = None) -> None:
        _check_positive(rate=rate, seconds=1 if seconds is None else seconds)
        length = None if seconds is None else float(seconds)
        self.settings: dict[str, Any] = {"kind": "waveform", "rate": rate, "seconds": length}
        self.rate, self.seconds, self.stackable = rate, seconds, seconds is not None

    def read(self, source: Source) -> Float[Tensor, " samples"]:
        """One waveform, full scale at 1; sources and errors are those of `read_sound`."""
        return read_sound(source, self.rate, self.seconds)

    def collate(
        self, items: Sequence[Tensor] | Float[Tensor, "n samples"]
    ) -> Float[Tensor, "n samples"] | dict[str, Tensor]:
        """What the encoder gets: (n, samples); without `seconds` that as `values`, and a `mask` of real samples."""
        return padded(items) if self.seconds is None else stacked(items, (round(self.seconds * self.rate),))


def read_sound(source: Source, rate: int, seconds: float | None = None) -> Float[Tensor, " samples"]:
    """One sound as a mono waveform.

    Args:
        source: a file that libsndfile reads (WAV, FLAC, OGG, MP3), its bytes, or a pair of samples and their rate in
            Hz: (samples,) or two axes of which the shorter holds the channels; floats with full scale at 1, or signed
            integers. Or what `plain` makes one of these.
        rate: in Hz; another rate is resampled.
        seconds: cut from the start, or filled with zeros at the end, to so many. None keeps the length.

    Raises:
        ValueError: no such file, no sound, cut short, shorter than 0.1 s, with NaN.
    """
    source = plain(source)
    name = name_of(source)
    if is_file(source):
        with opened(source) as file:
            waveform = decode_sound(file, name, rate, seconds)
    else:
        samples, file_rate = _sound_with_rate(source, name)
        name = f"sound ({name_of(samples)}, {file_rate:g} Hz)"
        waveform = mono(_samples(samples, name), file_rate, name, rate, seconds)
    if len(waveform) < min(LEAST_SECONDS, seconds or LEAST_SECONDS) * rate - 1:
        raise ValueError(f"{name}: lasts {len(waveform) / rate:.3f} s; expected {LEAST_SECONDS} s or more, remove it")
    if np.ptp(waveform) < SILENCE:
        remark("is silent" if seconds is None else f"is silent in its first {seconds:g} s")
    if seconds is not None and len(waveform) < round(seconds * rate):
        waveform = np.pad(waveform, (0, round(seconds * rate) - len(waveform)))
    return torch.from_numpy(waveform)


def _sound_with_rate(source: Source, name: str) -> tuple[Source, float]:
    """The samples and the rate of a pair; scipy and Gradio put the rate first."""
    if isinstance(source, tuple | list) and len(source) == 2:
        numbers = [isinstance(part, int | float | np.number) or getattr(part, "ndim", 1) == 0 for part in source]
        if numbers == [False, True]:
            return source[0], float(source[1])
        if numbers == [True, False]:
            return source[1], float(source[0])
    got = type(source).__name__
    if isinstance(source, tuple):
        got = f"({', '.join(type(part).__name__ for part in source[:4])})"
    raise ValueError(f"{name}: expected a sound's file, its bytes, or a tuple (samples, rate in Hz); got {got}")


def _samples(source: Source, name: str) -> np.ndarray:
    """(samples, channels) float32."""
    samples = array_of(source)
    kind = samples.dtype.str[1:]
    if samples.dtype.kind != "f" and kind not in _FULL_SCALE:
        raise ValueError(f"{name}: expected floats from -1 to 1, or int8, int16 or int32; got {samples.dtype}")
    values = samples.astype(np.float32)
    if samples.dtype.kind != "f":
        values /= _FULL_SCALE[kind]
    if values.ndim == 1:
        return values[:, None]
    if values.ndim != 2:
        raise ValueError(f"{name}: expected (samples,) or (samples, channels); got {values.shape}")
    return values if values.shape[0] >= values.shape[1] else values.T


def _check_positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < float("inf"):
            raise ValueError(f"{name}: expected a positive number; got {number}")
