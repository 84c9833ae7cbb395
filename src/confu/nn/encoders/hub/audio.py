"""From waveforms to what a transformers audio network takes: normalised waveforms, or spectrograms of its own kind."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from confu.nn.encoders.registry import import_extra
from confu.nn.encoders.waveform import as_waveforms

PLAIN = "Wav2Vec2FeatureExtractor"


class SoundInputs:
    """Makes the inputs of an audio network from waveforms, as its feature extractor does.

    Networks of waveforms (Wav2Vec2, HuBERT, ...) get them normalised here, with gradient. For those of spectrograms
    (AST, Whisper, CLAP) transformers' own extractor is called, on the CPU and without gradient.

    Args:
        network: that takes what is made.
        settings: "feature_extractor_type", a name in transformers, and what it is set to; None for a network that
            takes waveforms as they are.

    Raises:
        ValueError: for a type that is no audio feature extractor, or none for a network of spectrograms.
    """

    def __init__(self, network: nn.Module, settings: Mapping[str, Any] | None):
        settings = {"feature_extractor_type": PLAIN, "do_normalize": False} if settings is None else dict(settings)
        self.takes = str(network.main_input_name)
        self._named = set(inspect.signature(network.forward).parameters)
        kind = settings.pop("feature_extractor_type")
        self.rate = int(settings.get("sampling_rate", 16_000))
        self._extractor: Any = None
        if kind != PLAIN:
            self._extractor = _extractor(kind, settings)
        elif getattr(network.config, "num_mel_bins", None) is not None:
            raise ValueError(
                f"extractor: a {type(network).__name__} takes spectrograms; give the settings of its feature extractor"
            )
        self.normalises = bool(settings.get("do_normalize", True))
        self.masks = bool(settings.get("return_attention_mask", False))

    def __call__(
        self, values: Tensor, mask: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Bool[Tensor, "n time"] | None]:
        """What the network takes, by name, and which samples are real; None for spectrograms.

        Args:
            values: waveforms, (n, time).
            mask: (n, time), True at real samples; None if all are real.
        """
        waveforms, lengths = as_waveforms(values, mask)
        if self._extractor is not None:
            made = _extracted(self._extractor, waveforms, lengths)
            return {name: value for name, value in made.items() if name in self._named}, None
        if self.normalises:
            waveforms = normalised(waveforms, lengths)
        real = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths.unsqueeze(1)
        # Networks that were trained without a mask take zeros at padding for what they are.
        return {self.takes: waveforms, **({"attention_mask": real.long()} if self.masks else {})}, real


def normalised(waveforms: Float[Tensor, "n time"], lengths: Int[Tensor, " n"]) -> Float[Tensor, "n time"]:
    """Each waveform with mean 0 and variance 1 over its real samples; padding is 0.

        (x - mean) / sqrt(variance + 1e-7)

    >>> normalised(torch.tensor([[1.0, 3.0, 0.0]]), torch.tensor([2])).round().tolist()
    [[-1.0, 1.0, 0.0]]
    """
    count = lengths.unsqueeze(1)
    real = torch.arange(waveforms.shape[1], device=waveforms.device) < count
    mean = waveforms.sum(dim=1, keepdim=True) / count
    centred = (waveforms - mean).masked_fill(~real, 0)
    return centred / (centred.square().sum(dim=1, keepdim=True) / count + 1e-7).sqrt()


def _extractor(kind: str, settings: Mapping[str, Any]) -> Any:
    transformers = import_extra("transformers", "the 'transformers' encoder", "hf")
    family = getattr(transformers, kind, None) if kind.endswith("FeatureExtractor") else None
    if not isinstance(family, type) or not issubclass(family, transformers.SequenceFeatureExtractor):
        raise ValueError(
            f"extractor: {kind!r} is no audio feature extractor of transformers {transformers.__version__}"
        )
    return family(**settings)


def _extracted(extractor: Any, waveforms: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    sounds = [row[:length].float().cpu().numpy() for row, length in zip(waveforms.detach(), lengths.tolist())]
    made = extractor(sounds, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    return {
        name: value.to(waveforms.device, waveforms.dtype if value.is_floating_point() else value.dtype)
        for name, value in made.items()
    }
