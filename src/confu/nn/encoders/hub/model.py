"""Any text, image or audio network of transformers as an encoder: frozen, its last layers, adapters, or all of it."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from confu.checks import check_known
from confu.nn.encoders.features import check_features
from confu.nn.encoders.hub.audio import SoundInputs
from confu.nn.encoders.hub.load import READS, build_network, located, part_of, plain_config, pretrained_config
from confu.nn.encoders.hub.pool import POOLS, frames_mask, freeze_unused, pooled
from confu.nn.encoders.hub.reader import audio_extractor, reader_of
from confu.nn.encoders.tuning import Tuned, check_tune
from confu.nn.sizes import check_positive
from confu.nn.transformer import check_ids, check_mask


class TransformersEncoder(nn.Module):
    """A network of transformers, pooled, and a Linear.

    Built `pretrained`, from a hub id or a local folder, or from a `config`, as `settings` holds it: a trained encoder
    is rebuilt with no look at the hub or the folder. Only safetensors weights are read, and no code but transformers'
    own is run. Of encoder-decoders the encoder is taken, of networks with several towers the one of `modality`.

        TransformersEncoder("org/model", out_dim=64)(input_ids=ids, attention_mask=mask).shape == (3, 64)

    Args:
        pretrained: a hub id or a local folder.
        config: fields of the network's config, with "model_type"; its weights are drawn anew.
        modality: "text", "image", "video" or "audio"; None is what the network reads.
        out_dim: size of what it gives.
        tune: "frozen", "last:N" (layers), "lora" or "full"; see `Tuned`.
        pool: "mean" over the real steps or places, "first", the first step (of BERTs and ViTs a token of its own), or
            "pooler", the network's own pooled output.
        rank: of LoRA's adapters.
        alpha: their strength.
        reader: settings of the reader that fits; None is what the source says, if it does.
        extractor: of audio networks, what makes their inputs of a waveform; None is what the source says, and for
            weights drawn anew, that they take waveforms as they are.

    Raises:
        ImportError: if transformers is not installed, or peft for "lora".
        ValueError: for both or none of pretrained and config, a network that does not read the modality, cannot be
            pooled so or lacks weights, or a source that does not say how its sound is read.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        config: Mapping[str, Any] | None = None,
        modality: str | None = None,
        out_dim: int = 256,
        tune: str = "frozen",
        pool: str = "mean",
        rank: int = 8,
        alpha: int = 16,
        reader: Mapping[str, Any] | None = None,
        extractor: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        check_positive(out_dim=out_dim)
        check_known("pool", pool, POOLS)
        check_tune(tune)
        if modality is not None:
            check_known("modality", modality, ("text", "image", "video", "audio"))
        if (pretrained is None) == (config is None):
            raise ValueError("give one of pretrained (a hub id or a folder) and config (fields of a network's config)")
        part = "image" if modality == "video" else modality
        if pretrained is not None:
            pretrained = located(pretrained)
            fields = pretrained_config(pretrained, part)
        else:
            fields = part_of(plain_config(config or {}), part, "config")
        network, fields = build_network(fields, pretrained, pooler=pool == "pooler")
        self.takes = str(network.main_input_name)
        reads = READS.get(self.takes)
        if reads is None or part not in (None, reads):
            raise ValueError(
                f"the network {pretrained or fields['model_type']!r} reads {reads or self.takes}, not {modality}"
            )
        self.modality = reads if modality is None else modality
        if pretrained is not None:
            if reads == "audio" and extractor is None:
                extractor = audio_extractor(pretrained)
            if reader is None:
                reader = reader_of(pretrained, self.modality, fields, None if extractor is None else dict(extractor))
        self.reader = None if reader is None else dict(reader)
        self.settings: dict[str, Any] = {
            "kind": "transformers", "config": fields, "modality": self.modality, "out_dim": out_dim, "tune": tune,
            "pool": pool, "rank": rank, "alpha": alpha, "reader": self.reader,
            "extractor": None if extractor is None else dict(extractor),
        }  # fmt: skip
        self.pool = pool
        self._sound = SoundInputs(network, extractor) if reads == "audio" else None
        self.backbone = Tuned(network, tune, rank, alpha)
        self.frozen, self.out_dim = self.backbone.frozen, out_dim
        self.feature_dim = self._try_out()
        self.output = nn.Linear(self.feature_dim, out_dim)

    def features(self, values: Tensor | None = None, **named: Tensor) -> Float[Tensor, "batch feature_dim"]:
        """The network's pooled output.

        Args:
            values: images (n, channels, height, width), or waveforms (n, time), or ids of tokens (n, length).
            **named: instead, or beside: `input_ids` and `attention_mask` of texts, `mask` of waveforms, or whatever
                else the network takes.
        """
        if values is None:
            values = named.pop(self.takes, None)
        if values is None:
            raise ValueError(
                f"inputs must hold `values` or {self.takes!r}; got {', '.join(sorted(named)) or 'nothing'}"
            )
        if not len(values):
            return self.output.weight.new_zeros(0, self.feature_dim)
        return self._encode(values, **named)

    def forward(
        self, values: Tensor | None = None, features: Float[Tensor, "batch feature_dim"] | None = None, **named: Tensor
    ) -> Float[Tensor, "batch out_dim"]:
        """What the Linear makes of each input, or of `features` computed before."""
        return self.output(self.features(values, **named) if features is None else check_features(self, features))

    def _encode(self, values: Tensor, **named: Tensor) -> Tensor:
        network, real = self.backbone.network, None
        if self._sound is not None:
            named, samples = self._sound(values, **named)
            output = self.backbone(**named)
            if samples is not None:
                real = frames_mask(network, samples, output.last_hidden_state.shape[1])
            return pooled(output, self.pool, real)
        if self.modality == "text":
            real = check_text(network.config, values, named.get("attention_mask"))
            if real is not None:
                named["attention_mask"] = real.long()
        return pooled(self.backbone(**{self.takes: values}, **named), self.pool, real)

    def _try_out(self) -> int:
        """The width of the features, by encoding one empty input; also finds the parameters that they do not need."""
        self.backbone.eval()
        with torch.enable_grad():
            features = self._encode(self._example())
            freeze_unused(self.backbone, features)
        self.backbone.train()
        return features.shape[1]

    def _example(self) -> Tensor:
        config = self.backbone.network.config
        if self.modality == "text":
            return torch.zeros(1, 2, dtype=torch.long)
        if self._sound is not None:
            return torch.zeros(1, self._sound.rate)
        size = (self.reader or {}).get("size") or getattr(config, "image_size", None) or 64
        height, width = (size, size) if isinstance(size, int) else size
        frames = [int((self.reader or {}).get("frames", 8))] if self.modality == "video" else []
        return torch.zeros(1, *frames, getattr(config, "num_channels", 3), height, width)


def check_text(config: Any, input_ids: Tensor, attention_mask: Tensor | None) -> Bool[Tensor, "n length"] | None:
    """Check the ids of texts against a network's config; the mask as bool, None if there is none."""
    check_ids(input_ids, config.vocab_size, getattr(config, "max_position_embeddings", None) or input_ids.shape[-1])
    return None if attention_mask is None else check_mask(attention_mask, input_ids.shape, "attention_mask")
