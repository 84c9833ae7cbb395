"""A speaker's voice as a vector: Resemblyzer's LSTM over mel spectrograms, with weights from a wheel."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from confu.nn.encoders.pretrained import PretrainedEncoder, Tuned, load_exactly, read_tensors
from confu.nn.encoders.registry import RESEMBLYZER
from confu.nn.layers import Waveforms, as_waveforms, check_positive
from confu.nn.mel import mel_filters

RATE, WINDOW, HOP, MELS = 16_000, 400, 160, 40
FRAMES, STEP, COVERAGE = 160, 77, 0.75  # of a window: its frames, frames to the next, the least share that is sound
LOUDNESS = 10 ** (-30 / 20)  # RMS; quieter sound is raised to it
FEATURES = 256


class SpeechEncoder(PretrainedEncoder):
    """Resemblyzer's voice features (256) of a waveform at 16 kHz, and a Linear.

        waveform -> louder if quiet -> mel spectrogram -> LSTM on windows of 1.6 s -> mean, of length one -> Linear

    Features are of length one times sqrt(256), so that their numbers are near one. As Resemblyzer, but silence is not
    cut out before (its detector of voice is another package); cut long pauses beforehand. It was trained to tell who
    speaks, and hears less of what is said. In a saved model the weights are the model's own, and the wheel is not
    needed.

        SpeechEncoder(out_dim=64)(torch.zeros(3, 16000)).shape == (3, 64)

    Args:
        out_dim: size of its output.
        tune: "frozen" or "full".
        pretrained: whether to begin with the weights of the wheel Resemblyzer.

    Reference: Wan et al. 2018, Generalized end-to-end loss for speaker verification.
    """

    def __init__(self, out_dim: int = 256, tune: str = "frozen", pretrained: bool = True):
        check_positive(out_dim=out_dim)
        if tune not in ("frozen", "full"):
            raise ValueError(f"tune of the speech encoder must be 'frozen' or 'full', as it is one LSTM; got {tune!r}")
        network = VoiceLSTM()
        if pretrained:
            file = RESEMBLYZER.locate()
            weights = read_tensors(file)["model_state"]
            load_exactly(network, {k: v for k, v in weights.items() if not k.startswith("similarity_")}, file)
        super().__init__(Tuned(network, tune), FEATURES, out_dim)
        # The weights are saved with the model: an encoder rebuilt from these settings needs no wheel.
        self.settings: dict[str, Any] = {"kind": "speech", "out_dim": out_dim, "tune": tune, "pretrained": False}
        self.reader: dict[str, Any] = {"kind": "waveform", "rate": RATE, "seconds": None}
        self.filters: Tensor
        self.hann: Tensor
        self.register_buffer("filters", mel_filters(RATE, WINDOW, MELS, 0.0, RATE / 2).T, persistent=False)
        self.register_buffer("hann", torch.hann_window(WINDOW), persistent=False)

    def features(
        self, values: Waveforms, mask: Bool[Tensor, "batch time"] | Int[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch 256"]:
        """The voice of each waveform; `mask` is True at real samples, None if all are real."""
        waveforms, lengths = as_waveforms(values, mask)
        if not len(waveforms):
            return waveforms.new_zeros(0, FEATURES)
        with torch.autocast(waveforms.device.type, enabled=False):  # powers would not fit into 8 bits of mantissa
            mels = power_mels(louder(waveforms, lengths), self.hann, self.filters)
        rows, starts = window_starts(lengths.tolist())
        mels = F.pad(mels, (0, 0, 0, max(0, max(starts) + FRAMES - mels.shape[1])))
        row, start = torch.tensor(rows, device=mels.device), torch.tensor(starts, device=mels.device)
        windows = mels[row.unsqueeze(1), start.unsqueeze(1) + torch.arange(FRAMES, device=mels.device)]
        voices = self.backbone(windows)
        # The sum is scaled to length one, so that it need not be a mean.
        total = voices.new_zeros(len(waveforms), FEATURES).index_add(0, row, voices)
        return F.normalize(total, dim=1) * math.sqrt(FEATURES)


class VoiceLSTM(nn.Module):
    """The network: mel windows (k, 160, 40) to voices of length one, (k, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, 256, num_layers=3, batch_first=True)
        self.linear = nn.Linear(256, FEATURES)

    def forward(self, windows: Float[Tensor, "k frames mels"]) -> Float[Tensor, "k 256"]:
        """The last state of the last layer, through a Linear and ReLU."""
        _, (hidden, _) = self.lstm(windows)
        return F.normalize(self.linear(hidden[-1]).relu(), dim=1)


def louder(waveforms: Float[Tensor, "n time"], lengths: Int[Tensor, " n"]) -> Float[Tensor, "n time"]:
    """Raise quiet sound to -30 dB of full scale, by its RMS; loud sound and silence stay as they are."""
    rms = (waveforms.square().sum(dim=1) / lengths).sqrt()
    gain = torch.where(rms == 0, torch.ones_like(rms), (LOUDNESS / rms).clamp(min=1))
    return waveforms * gain.unsqueeze(1)


def power_mels(
    waveforms: Float[Tensor, "n time"], hann: Float[Tensor, " window"], filters: Float[Tensor, "bins mels"]
) -> Float[Tensor, "n frames mels"]:
    """The mel spectrogram (power, no logarithm) of frames 10 ms apart, the first centred on the first sample."""
    spectrum = torch.stft(waveforms, WINDOW, HOP, window=hann, center=True, pad_mode="constant", return_complex=True)
    return torch.einsum("nbt,bm->ntm", spectrum.real.square() + spectrum.imag.square(), filters)


def window_starts(lengths: list[int]) -> tuple[list[int], list[int]]:
    """The windows of waveforms of so many samples: their rows, and the frames at which they start."""
    rows, starts = [], []
    for row, length in enumerate(lengths):
        frames = -(-(length + 1) // HOP)
        own = list(range(0, max(1, frames - FRAMES + STEP + 1), STEP))
        if len(own) > 1 and (length - own[-1] * HOP) / (FRAMES * HOP) < COVERAGE:
            own.pop()
        rows += [row] * len(own)
        starts += own
    return rows, starts
