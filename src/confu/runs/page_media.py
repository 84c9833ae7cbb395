"""How one cell of a manifest is shown on the page: a thumbnail, a spectrogram with its sound, a text, numbers."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image as PillowImage
from torch import Tensor

from confu.data.readers import Reader
from confu.data.readers.audio import read_sound
from confu.data.readers.several import files_of
from confu.evaluation.html import Audio, Exhibit, Image

SECONDS, RATE = 4.0, 16_000  # of a sound on the page, at most: 170 KiB
SIDE = 160  # pixels of a thumbnail
_MAX_FRAMES = 4
_MAX_LETTERS = 400


@dataclass(frozen=True)
class CellView:
    """A modality, and how its cells are shown.

    Attributes:
        name: of the modality.
        kind: what its cells hold, see `confu.data.manifest`.
        reader: what makes tensors of them.
        find: what the cell of a row holds, by the row's id; None where it is empty.
    """

    name: str
    kind: str
    reader: Reader
    find: Callable[[str], Any]

    def show(self, id: str, label: str) -> Exhibit:
        """The cell of a row. One that cannot be read any more says so instead."""
        try:
            source = self.find(id)
            if "list" in self.reader.settings and source is not None:
                files = files_of(source)
                label, source = f"{label}, the first of {len(files)}", files[0]
            if source is None:
                return Exhibit(label, text=f"no {self.name}")
            if self.kind == "text":
                text = str(source)
                return Exhibit(label, text=f"“{text[:_MAX_LETTERS]}{'…' * (len(text) > _MAX_LETTERS)}”")
            if self.kind == "table":
                return Exhibit(label, text=", ".join(f"{key} {one}" for key, one in source.items() if one is not None))
            if self.kind == "audio":
                return self._audio(source, id, label)
            values: Any = getattr(self.reader, "reader", self.reader).read(source)
        except (ValueError, OSError) as error:
            return Exhibit(label, text=f"could not be shown: {error}")
        if self.kind == "image":
            return Exhibit(label, [Image(_png(values), f"{self.name} of {id}")])
        if self.kind == "video":
            chosen = torch.linspace(0, len(values) - 1, min(_MAX_FRAMES, len(values))).long().unique().tolist()
            alt = f"{self.name} of {id}, frame"
            return Exhibit(label, [Image(_png(values[i]), f"{alt} {i + 1} of {len(values)}") for i in chosen])
        if self.kind == "sequence":
            words = f"{values.shape[0]} steps of {values.shape[1]} numbers, time from left to right"
            return Exhibit(label, [Image(_heat(values.T.float(), 4), f"{self.name} of {id}: {words}")], text=words)
        numbers = values.float().flatten()
        first = ", ".join(f"{value:.3g}" for value in numbers[:8].tolist())
        return Exhibit(label, text=first if len(numbers) <= 8 else f"{len(numbers)} numbers: {first}, …")

    def _audio(self, source: Any, id: str, label: str) -> Exhibit:
        rate = int(min(RATE, self.reader.settings.get("rate", RATE)))
        sound = read_sound(source, rate)
        part = sound[: round(SECONDS * rate)]
        buffer = io.BytesIO()
        soundfile.write(buffer, part.clamp(-1, 1).numpy(), rate, format="WAV", subtype="PCM_16")
        length = len(sound) / rate
        words = f"{length:.1f} s" + (f", the first {SECONDS:g} to be heard" if length > SECONDS else "")
        picture = Image(_heat(_spectrogram(part), 2), f"spectrogram of the {self.name} of {id}")
        return Exhibit(label, [picture], [Audio(buffer.getvalue(), f"{self.name} of {id}, {words}")], words)


def _png(pixels: Tensor) -> bytes:
    """(channels, height, width) uint8, as the encoder sees it, made smaller if it is large."""
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    picture = PillowImage.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE))
    return _encoded(picture)


def _heat(values: Tensor, scale: int) -> bytes:
    """A grey picture of a matrix, rows from bottom to top; its smallest value black, its largest white."""
    low, high = values.min(), values.max()
    levels = (255 * (values - low) / (high - low).clamp_min(1e-9)).to(torch.uint8).flip(0).numpy()
    if levels.shape[1] > 2 * SIDE:
        levels = levels[:, :: -(-levels.shape[1] // (2 * SIDE))]
    return _encoded(PillowImage.fromarray(np.kron(levels, np.ones((scale, scale), np.uint8))))


def _encoded(picture: PillowImage.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _spectrogram(sound: Tensor, window: int = 256) -> Tensor:
    """Decibels below the loudest point, 80 at most: what a person reads, whatever the model is given."""
    padded = torch.nn.functional.pad(sound, (0, max(0, 2 * window - len(sound))))
    hop = max(8, len(padded) // SIDE)  # as wide as other pictures, however short
    waves = torch.stft(padded, window, hop, window=torch.hann_window(window), return_complex=True)
    decibels = 20 * waves.abs().clamp_min(1e-6).log10()
    return (decibels - decibels.max()).clamp_min(-80)[: window // 2]
