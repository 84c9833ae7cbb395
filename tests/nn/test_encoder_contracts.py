"""Every registered encoder passes the same checks."""

import pytest
import torch

from confu.nn.encoders import ENCODERS, build_encoder
from contracts import ENCODER_CHECKS, EncoderCase


def images(batch):
    return torch.randn(batch, 1, 20, 17, generator=torch.Generator().manual_seed(3))


def sequences(batch):
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(2, 7, (batch, 1), generator=generator)
    return {"values": torch.randn(batch, 6, 5, generator=generator), "mask": torch.arange(6) < lengths}


def tokens(batch):
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(2, 7, (batch, 1), generator=generator)
    return {
        "input_ids": torch.randint(0, 11, (batch, 6), generator=generator),
        "attention_mask": (torch.arange(6) < lengths).long(),
    }


def colours(batch):
    return torch.randn(batch, 3, 40, 40, generator=torch.Generator().manual_seed(3))


def small_colours(batch):
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def videos(batch):
    return torch.randn(batch, 2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def voices(batch):
    # As long as a window, and loud: an LSTM with new weights forgets, and hardly tells sounds apart.
    values = torch.randn(batch, 25_600, generator=torch.Generator().manual_seed(3))
    lengths = torch.tensor([25_600, 25_599, 25_000, 25_200, 24_000, 25_600])[:batch].unsqueeze(1)
    return {"values": 30 * values, "mask": torch.arange(25_600) < lengths}


def waveforms(batch):
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([4000, 3000, 3500, 2500, 4000, 3999])[:batch].unsqueeze(1)
    return {"values": 0.1 * torch.randn(batch, 4000, generator=generator), "mask": torch.arange(4000) < lengths}


SEQUENCE = {"kind": "sequence", "in_dim": 5, "width": 12, "heads": 3, "layers": 2, "hidden_dim": 16}
TOKENS = {"kind": "tokens", "vocab_size": 11, "width": 8, "heads": 2, "layers": 2, "max_length": 6}
RESNET = {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8, "num_channels": 1, "layer_type": "basic"}
BERT = {"vocab_size": 11, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 16}

LAYERS = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 16}
HUB_BERT = {"kind": "transformers", "config": {"model_type": "bert", "vocab_size": 11, **LAYERS}, "out_dim": 6}
HUB_VIT = {
    "kind": "transformers",
    "config": {"model_type": "vit", "image_size": 16, "patch_size": 8, "initializer_range": 0.3, **LAYERS},
    "out_dim": 6,
}
CONVOLUTIONS = {"conv_dim": [8, 8], "conv_stride": [5, 4], "conv_kernel": [10, 8]}
POSITIONS = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
HUB_WAV = {
    "kind": "transformers",
    "config": {"model_type": "wav2vec2", **LAYERS, **CONVOLUTIONS, **POSITIONS},
    "extractor": {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": True,
        "return_attention_mask": True,
        "sampling_rate": 4000,
    },
    "out_dim": 6,
}
LITE = {"kind": "efficientnet-lite0", "pretrained": False, "out_dim": 6}
SPEECH = {"kind": "speech", "pretrained": False, "out_dim": 6}
# B of a new adapter is zero, and with it A's gradient.
NEW_ADAPTER = ("lora_A.default.weight",)

CASES = [
    EncoderCase("mlp", {"kind": "mlp", "in_dim": 340, "hidden_dims": [16, 12], "out_dim": 6, "dropout": 0.1}, images),
    EncoderCase("mlp-linear", {"kind": "mlp", "in_dim": 340, "out_dim": 6}, images),
    EncoderCase("conv", {"kind": "conv", "channels": [8, 12], "out_dim": 6}, images),
    EncoderCase(
        "conv-wide", {"kind": "conv", "channels": [6, 8], "first_kernel": 7, "first_stride": 4, "norm": "group"}, images
    ),
    EncoderCase(
        "conv-time",
        {
            "kind": "conv",
            "channels": [8, 12],
            "first_pool": 2,
            "pooling": "max-time",
            "height": 20,
            "dropout": 0.1,
            "feature_norm": True,
            "out_dim": 6,
        },
        images,
    ),
    EncoderCase("conv-plain", {"kind": "conv", "channels": [8], "kernel": 5, "stride": 1, "norm": "none"}, images),
    EncoderCase("sequence", SEQUENCE, sequences),
    EncoderCase(
        "sequence-last",
        {**SEQUENCE, "pooling": "last", "positions": False, "norm_first": True, "out_dim": 7},
        sequences,
    ),
    EncoderCase("sequence-no-mask", SEQUENCE, lambda batch: sequences(batch)["values"]),
    EncoderCase("tokens", TOKENS, tokens),
    EncoderCase("tokens-out", {**TOKENS, "out_dim": 5, "dropout": 0.1, "hidden_dim": 9}, tokens),
    EncoderCase("resnet", {"kind": "resnet", "config": RESNET, "out_dim": 6}, images),
    EncoderCase(
        "resnet-bottleneck", {"kind": "resnet", "config": {**RESNET, "layer_type": "bottleneck"}, "out_dim": 6}, images
    ),
    # Softmax does not change when the same number is added to every score, so a key's bias does nothing.
    EncoderCase("bert", {"kind": "bert", "config": BERT, "out_dim": 6}, tokens, unused=("key.bias",)),
    EncoderCase("hub-text-frozen", HUB_BERT, tokens),
    EncoderCase("hub-text-last", {**HUB_BERT, "tune": "last:1", "pool": "first"}, tokens, unused=("key.bias",)),
    EncoderCase("hub-text-lora", {**HUB_BERT, "tune": "lora", "rank": 2}, tokens, unused=NEW_ADAPTER),
    EncoderCase("hub-text-full", {**HUB_BERT, "tune": "full", "pool": "pooler"}, tokens, unused=("key.bias",)),
    EncoderCase("hub-image-frozen", {**HUB_VIT, "pool": "first"}, small_colours),
    EncoderCase("hub-image-full", {**HUB_VIT, "tune": "full"}, small_colours, unused=("key.bias", "k_proj.bias")),
    EncoderCase("hub-audio-frozen", HUB_WAV, waveforms),
    EncoderCase("hub-audio-full", {**HUB_WAV, "tune": "full"}, waveforms, unused=("k_proj.bias",)),
    EncoderCase("efficientnet-lite0", LITE, colours),
    # The normalisation of the head takes away what the last block's bias adds.
    EncoderCase("efficientnet-lite0-last", {**LITE, "tune": "last:2"}, colours, unused=("layers.16.project.1.bias",)),
    EncoderCase("speech", SPEECH, voices),
    EncoderCase("speech-full", {**SPEECH, "tune": "full"}, voices),
    EncoderCase("frames", {"kind": "frames", "encoder": {"kind": "conv", "in_channels": 3, "out_dim": 6}}, videos),
    EncoderCase("frames-frozen", {"kind": "frames", "encoder": HUB_VIT, "frames": 2}, videos),
    EncoderCase(
        "custom", {"kind": "custom", "function": "own_encoders:wing", "arguments": {"width": 6, "in_dim": 340}}, images
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("check", ENCODER_CHECKS, ids=lambda check: check.__name__)
def test_contract(check, case):
    if case.settings["kind"] in ("resnet", "bert", "transformers") or case.settings.get("encoder") == HUB_VIT:
        pytest.importorskip("transformers")
    if case.settings.get("tune") == "lora":
        pytest.importorskip("peft")
    check(case)


def test_every_kind_is_tested():
    assert {case.settings["kind"] for case in CASES} == {name for name, row in ENCODERS.items() if row.path}


def test_unknown_kind_names_the_known_ones():
    with pytest.raises(ValueError, match=r"encoder kind 'resnt' is not known; did you mean 'resnet'\? Known: 'mlp'"):
        build_encoder({"kind": "resnt"})


def test_settings_without_kind():
    with pytest.raises(ValueError, match="must name its kind, one of 'mlp'"):
        build_encoder({"in_dim": 5})


def test_unknown_setting():
    with pytest.raises(ValueError, match=r"setting of the 'mlp' encoder 'hiden_dims' is not known; did you mean"):
        build_encoder({"kind": "mlp", "in_dim": 5, "hiden_dims": [3]})


def test_lacking_setting():
    with pytest.raises(ValueError, match="the 'sequence' encoder needs the setting 'in_dim'"):
        build_encoder({"kind": "sequence"})


def test_settings_are_not_shared_with_the_caller():
    settings = {"kind": "mlp", "in_dim": 5, "hidden_dims": [3], "out_dim": 2}
    encoder = build_encoder(settings)
    settings["hidden_dims"].append(4)
    assert encoder.settings["hidden_dims"] == [3]
    assert settings["kind"] == "mlp"
