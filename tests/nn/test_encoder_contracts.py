"""Every registered encoder passes the same checks."""

import pytest
import torch

from confu.nn.encoders import ENCODERS, build_encoder
from contracts import ENCODER_CHECKS, EncoderCase


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def images(batch):
    return draw(batch, 1, 20, 17)


def colours(batch):
    return draw(batch, 3, 33, 33)


def small_colours(batch):
    return draw(batch, 3, 16, 16)


def videos(batch):
    return draw(batch, 2, 3, 16, 16)


def lists(batch):
    return {"values": draw(batch, 4, 1, 20, 17), "mask": real_steps(batch, 4, [4, 1, 2, 3, 4, 2])}


def real_steps(batch, steps, lengths):
    return torch.arange(steps) < torch.tensor(lengths)[:batch].unsqueeze(1)


def sequences(batch):
    return {"values": draw(batch, 6, 5), "mask": real_steps(batch, 6, [6, 2, 5, 3, 4, 6])}


def tokens(batch):
    ids = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 0, 0, 0, 0], [9, 10, 1, 3, 5, 0]] * 2)[:batch]
    return {"input_ids": ids, "attention_mask": real_steps(batch, 6, [6, 2, 5, 6, 3, 4]).long()}


def waveforms(batch):
    return {"values": 0.1 * draw(batch, 4000), "mask": real_steps(batch, 4000, [4000, 3000, 3500, 2500, 4000, 3999])}


def voices(batch):
    # As long as a window, and loud: an LSTM with new weights forgets, and hardly tells sounds apart.
    lengths = [25_600, 25_599, 25_000, 25_200, 24_000, 25_600]
    return {"values": 30 * draw(batch, 25_600), "mask": real_steps(batch, 25_600, lengths)}


CONV_TIME = {"kind": "conv", "channels": [8, 12], "first_pool": 2, "pooling": "max-time", "height": 20, "out_dim": 6}
CONV_TIME |= {"dropout": 0.1, "feature_norm": True}
SEQUENCE = {"kind": "sequence", "in_dim": 5, "width": 12, "heads": 3, "layers": 2, "hidden_dim": 16}
TOKENS = {"kind": "tokens", "vocab_size": 11, "width": 8, "heads": 2, "layers": 2, "max_length": 6}
RESNET = {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8, "num_channels": 1, "layer_type": "basic"}
LAYERS = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 16}
BERT = {"vocab_size": 11, **LAYERS}
HUB_BERT = {"kind": "transformers", "config": {"model_type": "bert", **BERT}, "out_dim": 6}
VIT = {"model_type": "vit", "image_size": 16, "patch_size": 8, "initializer_range": 0.3, **LAYERS}
HUB_VIT = {"kind": "transformers", "config": VIT, "out_dim": 6}
WAV = {"model_type": "wav2vec2", "conv_dim": [8, 8], "conv_stride": [5, 4], "conv_kernel": [10, 8], **LAYERS}
WAV |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
PLAIN = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "return_attention_mask": True, "sampling_rate": 4000}
HUB_WAV = {"kind": "transformers", "config": WAV, "extractor": PLAIN, "out_dim": 6}
LITE = {"kind": "efficientnet-lite0", "pretrained": False, "out_dim": 6}
SPEECH = {"kind": "speech", "pretrained": False, "out_dim": 6}
# B of a new adapter is zero, and with it A's gradient.
NEW_ADAPTER = ("lora_A.default.weight",)

CASES = [
    EncoderCase("mlp", {"kind": "mlp", "in_dim": 340, "hidden_dims": [16, 12], "out_dim": 6, "dropout": 0.1}, images),
    EncoderCase("conv", {"kind": "conv", "channels": [8, 12], "out_dim": 6}, images),
    EncoderCase(
        "conv-wide", {"kind": "conv", "channels": [6, 8], "first_kernel": 7, "first_stride": 4, "norm": "group"}, images
    ),
    EncoderCase("conv-grid", {"kind": "conv", "channels": [8], "pooling": "grid", "out_dim": 6}, images),
    EncoderCase("conv-time", CONV_TIME, images),
    EncoderCase("sequence", SEQUENCE, sequences),
    EncoderCase(
        "sequence-last",
        {**SEQUENCE, "pooling": "last", "positions": False, "norm_first": True, "out_dim": 7},
        sequences,
    ),
    EncoderCase("sequence-no-mask", SEQUENCE, lambda batch: sequences(batch)["values"]),
    EncoderCase("recurrent", {"kind": "recurrent", "in_dim": 5, "width": 6, "dropout": 0.1, "out_dim": 7}, sequences),
    EncoderCase("recurrent-patches", {"kind": "recurrent", "in_dim": 5, "patch": 2, "out_dim": 7}, sequences),
    EncoderCase("tokens", TOKENS, tokens),
    EncoderCase("tokens-out", {**TOKENS, "out_dim": 5, "dropout": 0.1, "hidden_dim": 9}, tokens),
    EncoderCase("bag", {"kind": "bag", "vocab_size": 11, "width": 8, "out_dim": 6, "dropout": 0.2}, tokens),
    EncoderCase("resnet", {"kind": "resnet", "config": RESNET, "out_dim": 6}, images),
    # Softmax does not change when the same number is added to every score, so a key's bias does nothing.
    EncoderCase("bert", {"kind": "bert", "config": BERT, "out_dim": 6}, tokens, unused=("key.bias",)),
    EncoderCase("hub-text-frozen", HUB_BERT, tokens),
    EncoderCase("hub-text-last", {**HUB_BERT, "tune": "last:1", "pool": "first"}, tokens, unused=("key.bias",)),
    EncoderCase("hub-text-lora", {**HUB_BERT, "tune": "lora", "rank": 2}, tokens, unused=NEW_ADAPTER),
    EncoderCase("hub-text-full", {**HUB_BERT, "tune": "full", "pool": "pooler"}, tokens, unused=("key.bias",)),
    EncoderCase("hub-image-frozen", {**HUB_VIT, "pool": "first"}, small_colours),
    EncoderCase("hub-audio-frozen", HUB_WAV, waveforms),
    EncoderCase("hub-audio-full", {**HUB_WAV, "tune": "full"}, waveforms, unused=("k_proj.bias",)),
    EncoderCase("efficientnet-lite0", LITE, colours),
    EncoderCase("speech", SPEECH, voices),
    EncoderCase("speech-full", {**SPEECH, "tune": "full"}, voices),
    EncoderCase("frames", {"kind": "frames", "encoder": {"kind": "conv", "in_channels": 3, "out_dim": 6}}, videos),
    EncoderCase("list", {"kind": "list", "encoder": {"kind": "conv", "channels": [8], "out_dim": 6}}, lists),
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "resnt"}, r"encoder kind 'resnt' is not known; did you mean 'resnet'\? Known: 'mlp'"),
        ({"in_dim": 5}, "must name its kind, one of 'mlp'"),
        (
            {"kind": "mlp", "in_dim": 5, "hiden_dims": [3]},
            "setting of the 'mlp' encoder 'hiden_dims' is not known; did",
        ),
        ({"kind": "sequence"}, "the 'sequence' encoder needs the setting 'in_dim'"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(settings)


def test_settings_are_not_shared_with_the_caller():
    settings = {"kind": "mlp", "in_dim": 5, "hidden_dims": [3], "out_dim": 2}
    encoder = build_encoder(settings)
    settings["hidden_dims"].append(4)
    assert encoder.settings["hidden_dims"] == [3]
    assert settings["kind"] == "mlp"
