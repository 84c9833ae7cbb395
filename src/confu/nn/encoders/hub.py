"""Any text, image, video or audio network of transformers as an encoder; the library is imported when one is built."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from confu.checks import check_known
from confu.nn.encoders import hub_files
from confu.nn.encoders.pretrained import PretrainedEncoder, Tuned, check_tune
from confu.nn.layers import as_waveforms, check_ids, check_mask, check_positive, masked_mean

POOLS = ("mean", "first", "pooler")
READS = {"input_ids": "text", "pixel_values": "image", "input_values": "audio", "input_features": "audio"}
PLAIN = "Wav2Vec2FeatureExtractor"


class TransformersEncoder(PretrainedEncoder):
    """A network of transformers, pooled, and a Linear.

    Built `pretrained`, from a hub id or a local folder, or from a `config`, as `settings` holds it: a trained encoder
    is rebuilt with no look at the hub or the folder. Only safetensors weights are read, and no code but transformers'
    own is run. Of encoder-decoders the encoder is taken, of networks with several towers the one of `modality`.

        TransformersEncoder("org/model", out_dim=64)(input_ids=ids, attention_mask=mask).shape == (3, 64)

    Args:
        pretrained: a hub id or a local folder.
        config: fields of the network's config, with "model_type"; its weights are drawn anew.
        modality: "text", "image", "video" or "audio"; None is what the network reads.
        out_dim: size of its output.
        tune: "frozen", "last:N" (layers), "lora" or "full"; see `Tuned`.
        pool: "mean" over the real steps or positions, "first", the first step (of BERTs and ViTs a token of its own),
            or "pooler", the network's own pooled output.
        rank: of LoRA's adapters.
        alpha: their strength.
        reader: settings of the reader that fits; None is what the source says, if it does.
        extractor: of audio networks, what makes their inputs of a waveform; None is what the source says, and for
            weights drawn anew, that they take waveforms as they are.
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
        check_positive(out_dim=out_dim)
        check_known("pool", pool, POOLS)
        check_tune(tune)
        if modality is not None:
            check_known("modality", modality, ("text", "image", "video", "audio"))
        if (pretrained is None) == (config is None):
            raise ValueError("give one of pretrained (a hub id or a folder) and config (fields of a network's config)")
        part = "image" if modality == "video" else modality
        if pretrained is not None:
            pretrained = hub_files.located(pretrained)
            fields = hub_files.pretrained_config(pretrained, part)
        else:
            fields = hub_files.part_of(hub_files.plain_config(config or {}), part, "config")
        network, fields = hub_files.build_network(fields, pretrained, pooler=pool == "pooler")
        takes = str(network.main_input_name)
        reads = READS.get(takes)
        if reads is None or part not in (None, reads):
            raise ValueError(
                f"the network {pretrained or fields['model_type']!r} reads {reads or takes}, not {modality}"
            )
        modality = reads if modality is None else modality
        if pretrained is not None:
            if reads == "audio" and extractor is None:
                extractor = hub_files.audio_extractor(pretrained)
            if reader is None:
                reader = hub_files.reader_of(pretrained, modality, fields, extractor)
        reader = None if reader is None else dict(reader)
        extractor = None if extractor is None else dict(extractor)
        sound = SoundInputs(network, extractor) if reads == "audio" else None
        backbone = Tuned(network, tune, rank, alpha)
        # The width of the features by encoding one empty input, which also shows the parameters that do not matter.
        backbone.eval()
        with torch.enable_grad():
            features = _encode(backbone, modality, pool, sound, _example(network.config, modality, reader, sound))
            _freeze_unused(backbone, features)
        backbone.train()
        super().__init__(backbone, features.shape[1], out_dim)
        self.takes, self.modality, self.pool, self._sound, self.reader = takes, modality, pool, sound, reader
        self.settings: dict[str, Any] = {"kind": "transformers", "config": fields, "modality": modality}
        self.settings |= {"out_dim": out_dim, "tune": tune, "pool": pool, "rank": rank, "alpha": alpha}
        self.settings |= {"reader": reader, "extractor": extractor}

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
        return _encode(self.backbone, self.modality, self.pool, self._sound, values, **named)


def _encode(
    backbone: Tuned, modality: str, pool: str, sound: "SoundInputs | None", values: Tensor, **named: Tensor
) -> Tensor:
    network: Any = backbone.network
    real = None
    if sound is not None:
        named, samples = sound(values, **named)
        output = backbone(**named)
        if samples is not None and hasattr(network, "_get_feature_vector_attention_mask"):
            frames = output.last_hidden_state.shape[1]
            real = network._get_feature_vector_attention_mask(frames, samples.long()).bool()
            real[:, 0] = True  # a sound shorter than one frame has one
        return pooled(output, pool, real)
    if modality == "text":
        config = network.config
        check_ids(values, config.vocab_size, getattr(config, "max_position_embeddings", None) or values.shape[-1])
        if named.get("attention_mask") is not None:
            real = check_mask(named["attention_mask"], values.shape, "attention_mask")
            named["attention_mask"] = real.long()
    return pooled(backbone(**{network.main_input_name: values}, **named), pool, real)


def _example(config: Any, modality: str, reader: Mapping[str, Any] | None, sound: "SoundInputs | None") -> Tensor:
    if modality == "text":
        return torch.zeros(1, 2, dtype=torch.long)
    if sound is not None:
        return torch.zeros(1, sound.rate)
    size = (reader or {}).get("size") or getattr(config, "image_size", None) or 64
    height, width = (size, size) if isinstance(size, int) else size
    frames = [int((reader or {}).get("frames", 8))] if modality == "video" else []
    return torch.zeros(1, *frames, getattr(config, "num_channels", 3), height, width)


def pooled(output: Any, pool: str, mask: Bool[Tensor, "n steps"] | None = None) -> Float[Tensor, "n width"]:
    """One vector an input, from a network's steps (n, steps, width) or maps (n, width, height, width)."""
    if pool == "pooler":
        if getattr(output, "pooler_output", None) is None:
            raise ValueError("pool='pooler': this network has no pooled output of its own; take 'mean' or 'first'")
        return output.pooler_output.flatten(1)
    states = output.last_hidden_state
    if states.ndim == 4:
        if pool == "first":
            raise ValueError("pool='first': this network gives maps, which have no first step; take 'mean' or 'pooler'")
        return states.mean(dim=(2, 3))
    return states[:, 0] if pool == "first" else masked_mean(states, mask)


def _freeze_unused(network: nn.Module, features: Tensor) -> None:
    # Parameters that features do not depend on, e.g. of a pooler that is not read, would get no gradient, which
    # training on several processes takes for an error.
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if trained:
        gradients = torch.autograd.grad(features.sum(), trained, allow_unused=True)
        for parameter, gradient in zip(trained, gradients):
            parameter.requires_grad_(gradient is not None)


class SoundInputs:
    """Makes the inputs of an audio network from waveforms, as its feature extractor does."""

    def __init__(self, network: nn.Module, settings: Mapping[str, Any] | None):
        settings = {"feature_extractor_type": PLAIN, "do_normalize": False} if settings is None else dict(settings)
        self.takes = str(network.main_input_name)
        self._named = set(inspect.signature(network.forward).parameters)
        kind = settings.pop("feature_extractor_type")
        self.rate = int(settings.get("sampling_rate", 16_000))
        self._extractor: Any = None
        if kind != PLAIN:
            self._extractor = hub_files.build_extractor(kind, settings)
        elif getattr(network.config, "num_mel_bins", None) is not None:
            raise ValueError(
                f"extractor: a {type(network).__name__} takes spectrograms; give the settings of its feature extractor"
            )
        self.normalises = bool(settings.get("do_normalize", True))
        self.masks = bool(settings.get("return_attention_mask", False))

    def __call__(
        self, values: Tensor, mask: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Bool[Tensor, "n time"] | None]:
        """The network's inputs by name, and which samples are real; None for spectrograms."""
        waveforms, lengths = as_waveforms(values, mask)
        if self._extractor is not None:
            sounds = [row[:length].float().cpu().numpy() for row, length in zip(waveforms.detach(), lengths.tolist())]
            computed = self._extractor(sounds, sampling_rate=self._extractor.sampling_rate, return_tensors="pt")
            return {
                name: value.to(waveforms.device, waveforms.dtype if value.is_floating_point() else value.dtype)
                for name, value in computed.items()
                if name in self._named
            }, None
        count = lengths.unsqueeze(1)
        real = torch.arange(waveforms.shape[1], device=waveforms.device) < count
        if self.normalises:  # to mean 0 and variance 1 over the real samples: (x - mean) / sqrt(variance + 1e-7)
            centred = (waveforms - waveforms.sum(dim=1, keepdim=True) / count).masked_fill(~real, 0)
            waveforms = centred / (centred.square().sum(dim=1, keepdim=True) / count + 1e-7).sqrt()
        # Networks that were trained without a mask take zeros at padding for what they are.
        return {self.takes: waveforms, **({"attention_mask": real.long()} if self.masks else {})}, real
