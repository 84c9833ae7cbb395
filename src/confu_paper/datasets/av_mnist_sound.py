"""The sound of AV-MNIST: recordings and noise clips by split, the mixture that each row draws, and its spectrogram."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from confu.data.readers.sound import SILENCE, decode_sound

RATE = 8000  # Hz
SAMPLES = 8000  # one second
SIZE = 112  # bins and frames
_FFT, _HOP, _FLOOR_DB = 256, 72, 80.0
SPLITS = ("train", "validation", "test")
SPEECH_RMS = 0.1
_QUIET = 0.01  # a stretch of noise 40 dB below its clip counts as a pause and is not blown up to the level asked
_SPEECH_NAME = re.compile(r"(\d)_(.+)_(\d+)\.wav", re.IGNORECASE)
_ESC50_NAME = re.compile(r"\d+-(\d+)-[A-Z]-\d+\.wav", re.IGNORECASE)
_SOUND_NAME = re.compile(r"(.+)-(\d+)\.wav", re.IGNORECASE)


@dataclass(frozen=True)
class Sounds:
    """Waveforms at 8 kHz with their file names."""

    names: list[str]
    waveforms: list[np.ndarray]


@dataclass(frozen=True)
class Draws:
    """What each row of a split is mixed from; decided first, mixed after.

    Attributes:
        recording: (n,) index into the split's recordings.
        speech_offset: (n,) samples before the recording starts.
        noise: (n,) index into the split's noise clips.
        noise_offset: (n,) samples into the clip.
    """

    recording: np.ndarray
    speech_offset: np.ndarray
    noise: np.ndarray
    noise_offset: np.ndarray


def speech_split(index: int) -> str:
    """The split of a recording by its number: 0 to 4 are the set's official test recordings, 5 to 9 validate."""
    return "test" if index < 5 else "validation" if index < 10 else "train"


def read_speech(folder: Path | str) -> dict[str, Sounds]:
    """Read spoken digits named `{digit}_{speaker}_{index}.wav`, by split.

    Longer recordings are cropped to their middle second; each is scaled to one RMS over its own duration.

    Raises:
        ValueError: a name of another form; a digit without a recording in a split; a damaged file.
    """
    sounds = {split: Sounds([], []) for split in SPLITS}
    digits = {split: set() for split in SPLITS}
    for path in wav_files(folder, "speech"):
        name = _SPEECH_NAME.fullmatch(path.name)
        if name is None:
            raise ValueError(f"speech: {path}: expected a name like 7_jackson_32.wav (digit_speaker_index)")
        split = speech_split(int(name[3]))
        waveform = read_wav(path, RATE)
        start = max(0, len(waveform) - SAMPLES) // 2
        waveform = waveform[start : start + SAMPLES]
        level = _rms(waveform)
        if not level:
            raise ValueError(f"speech: {path}: its middle second is silent; trim or remove the file")
        sounds[split].names.append(path.name)
        sounds[split].waveforms.append(waveform * np.float32(SPEECH_RMS / level))
        digits[split].add(int(name[1]))
    for split, found in digits.items():
        if missing := sorted(set(range(10)) - found):
            raise ValueError(
                f"speech: {folder}: no recording of digit {missing[0]} for {split}; each digit needs one with an index "
                "of 0 to 4 (test), one of 5 to 9 (validation) and one of 10 or more (train)"
            )
    return sounds


def split_noise(names: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Share noise clips out so that no clip, and no two clips of one source, stand in two splits.

    Names like `rain-03.wav` are consecutive cuts of one sound: of each sound with three clips or more, in order, the
    last sixth is for test, the sixth before for validation (at least one each), the others for training. Names of
    ESC-50 (`fold-source-take-class.wav`) are kept together by source and shared out 70 / 15 / 15 by the seed, any other
    names the same way clip by clip.

    Raises:
        ValueError: too few clips to give each split one.

    >>> split_noise(["rain-0.wav", "rain-1.wav", "rain-2.wav", "sea-0.wav"], seed=0)
    {'train': ['rain-0.wav', 'sea-0.wav'], 'validation': ['rain-1.wav'], 'test': ['rain-2.wav']}
    """
    esc50 = [_ESC50_NAME.fullmatch(name) for name in names]
    sound = [_SOUND_NAME.fullmatch(name) for name in names]
    split: dict[str, list[str]] = {name: [] for name in SPLITS}
    if not all(esc50) and all(sound):
        groups = defaultdict(list)
        for match in sound:
            assert match is not None
            groups[match[1]].append((int(match[2]), match[0]))
        for group in groups.values():
            clips = [name for _, name in sorted(group)]
            held = max(1, round(len(clips) / 6)) if len(clips) >= 3 else 0
            _share(clips, held, split)
    else:
        sources = defaultdict(list)
        for name, match in zip(names, esc50, strict=True):
            sources[match[1] if match else name].append(name)
        order = sorted(sources)
        np.random.default_rng((seed, len(SPLITS))).shuffle(order)
        shared: dict[str, list[str]] = {name: [] for name in SPLITS}
        _share(order, max(1, round(0.15 * len(order))), shared)
        split = {name: sorted(clip for source in chosen for clip in sources[source]) for name, chosen in shared.items()}
    if not all(split.values()):
        counts = ", ".join(f"{len(clips)} {name}" for name, clips in split.items())
        raise ValueError(f"noise: each split needs a clip of its own; {len(names)} clips give {counts}: add clips")
    return split


def read_noise(folder: Path | str, seed: int) -> dict[str, Sounds]:
    """Read noise clips of at least one second, by split (`split_noise`)."""
    files = {path.name: path for path in wav_files(folder, "noise")}
    sounds = {}
    for split, names in split_noise(list(files), seed).items():
        sounds[split] = Sounds(names, [read_wav(files[name], RATE) for name in names])
        for name, waveform in zip(names, sounds[split].waveforms, strict=True):
            if len(waveform) < SAMPLES:
                raise ValueError(f"noise: {files[name]}: expected at least 1 s, got {len(waveform) / RATE:.2f} s")
    return sounds


def draw(labels: np.ndarray, speech: Sounds, noise: Sounds, seed: tuple[int, int]) -> Draws:
    """Draw for each row a recording of its digit and a noise clip, and where they start."""
    random = np.random.default_rng(seed)
    said = np.array([int(name[0]) for name in speech.names])
    recording = np.empty(len(labels), dtype=np.int64)
    for digit in range(10):
        rows = labels == digit
        recording[rows] = random.choice(np.flatnonzero(said == digit), size=rows.sum())
    clip = random.integers(0, len(noise.names), size=len(labels))
    speech_room = SAMPLES - np.array([len(waveform) for waveform in speech.waveforms])[recording]
    noise_room = np.array([len(waveform) for waveform in noise.waveforms])[clip] - SAMPLES
    return Draws(recording, random.integers(0, speech_room + 1), clip, random.integers(0, noise_room + 1))


def mix(draws: Draws, rows: slice, speech: Sounds, noise: Sounds, snr_db: float) -> Float[Tensor, "rows samples"]:
    """The one-second mixtures of some rows.

    The noise of the whole second is scaled to `snr_db` below the speech, whose level is taken over its own duration.
    """
    noise_level = SPEECH_RMS / 10 ** (snr_db / 20)
    chosen = list(range(len(draws.recording)))[rows]
    mixed = np.empty((len(chosen), SAMPLES), dtype=np.float32)
    for place, row in enumerate(chosen):
        clip = noise.waveforms[draws.noise[row]]
        window = clip[draws.noise_offset[row] : draws.noise_offset[row] + SAMPLES]
        mixed[place] = window * np.float32(noise_level / max(_rms(window), _QUIET * _rms(clip)))
        said = speech.waveforms[draws.recording[row]]
        start = draws.speech_offset[row]
        mixed[place, start : start + len(said)] += said
    return torch.from_numpy(mixed)


def _share(clips: list[str], held: int, split: dict[str, list[str]]) -> None:
    """The last `held` for test, as many before for validation, the rest for training."""
    kept = max(0, len(clips) - 2 * held)
    split["train"] += clips[:kept]
    split["validation"] += clips[kept : len(clips) - held]
    split["test"] += clips[len(clips) - held :]


def _rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def log_spectrogram(waveforms: Float[Tensor, "n samples"]) -> UInt8[Tensor, "n bins frames"]:
    """The log power spectrogram of one-second waveforms at 8 kHz, as 112 x 112 pixels.

        pixel = round(255 (1 + max(10 log10(P / max P), -80) / 80))

    P is the power of a short-time Fourier transform (Hann window of 256 samples, a step of 72, frames centred with
    reflected ends) in its lowest 112 of 129 bins, up to 3.5 kHz; the maximum is taken over each waveform, so loudness
    leaves no trace.

    Args:
        waveforms: 8000 samples each.

    Returns:
        (n, 112 bins, 112 frames), the lowest frequency first, 255 at the loudest point. All 0 for silence.

    Raises:
        ValueError: another number of samples.

    >>> log_spectrogram(torch.randn(2, 8000)).shape
    torch.Size([2, 112, 112])
    """
    if waveforms.shape[1] != SAMPLES:
        raise ValueError(f"waveforms: expected {SAMPLES} samples (1 s at 8 kHz) each, got {waveforms.shape[1]}")
    window = torch.hann_window(_FFT, dtype=waveforms.dtype, device=waveforms.device)
    spectrum = torch.stft(waveforms, _FFT, _HOP, window=window, center=True, return_complex=True)[:, :SIZE]
    power = spectrum.real.square() + spectrum.imag.square()
    loudest = power.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(power.dtype).tiny)
    decibels = 10 * torch.log10((power / loudest).clamp_min(10 ** (-_FLOOR_DB / 10)))
    return ((1 + decibels / _FLOOR_DB) * 255).round().clamp(0, 255).to(torch.uint8)


def shift_time(pictures: Shaped[Tensor, "n bins frames"], most: int = 16) -> Shaped[Tensor, "n bins frames"]:
    """Shift each spectrogram in time by up to `most` frames either way; what leaves at one end enters at the other.

    An augmentation: a recording that is heard at many moments is not learned by heart. The shifts come from torch's
    random state, so that a resumed training repeats them.

    Args:
        pictures: of any type, time last.
        most: frames, 0 or more.

    >>> shift_time(torch.arange(6).reshape(1, 2, 3), most=0).tolist()
    [[[0, 1, 2], [3, 4, 5]]]
    """
    shifts = torch.randint(-most, most + 1, (len(pictures), 1, 1), device=pictures.device)
    frames = pictures.shape[2]
    source = (torch.arange(frames, device=pictures.device) - shifts) % frames
    return pictures.gather(2, source.expand_as(pictures))


def wav_files(folder: Path | str, what: str) -> list[Path]:
    """The WAV files of a folder, by name.

    Args:
        folder: the folder itself, not one above it.
        what: what they are, for the message.

    Raises:
        ValueError: no such folder, or no WAV file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{what}: no such folder: {folder}")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav")
    if not files:
        raise ValueError(f"{what}: no .wav file in {folder}; give the folder that holds the files themselves")
    return files


def read_wav(path: Path | str, rate: int) -> np.ndarray:
    """(samples,) float32 of a WAV file, full scale at 1: channels averaged, resampled to a rate in Hz.

    Raises:
        ValueError: no such file, no WAV, cut short, empty, silent, or with NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with path.open("rb") as file:
        waveform = decode_sound(file, str(path), rate)
    if np.abs(waveform).max() < SILENCE:
        raise ValueError(f"{path}: is silent; remove the file")
    return waveform
