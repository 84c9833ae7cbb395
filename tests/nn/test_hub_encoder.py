"""Networks of transformers as encoders: from a folder, by config, pooled, tuned, with their readers."""

import json

import pytest
import torch

from confu.nn.encoders import TransformersEncoder, build_encoder
from confu.nn.encoders.hub_files import plain_config

LAYERS = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 16}
TEXT = {
    "vocab_size": 20,
    "max_position_embeddings": 12,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    **LAYERS,
}
VISION = {"image_size": 16, "patch_size": 8, **LAYERS}
SOUND = {
    **LAYERS, "conv_dim": [8, 8], "conv_stride": [5, 4], "conv_kernel": [10, 8], "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


@pytest.fixture(scope="module")
def hf():
    return pytest.importorskip("transformers")


def saved(folder, family, config, seed=0):
    torch.manual_seed(seed)
    network = family(config).eval()
    network.save_pretrained(folder)
    return network


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content))


def tokenizer_json(words=("[PAD]", "[UNK]", "a", "bird")):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return tokenizer


def test_a_text_network_is_pooled_in_three_ways(hf, tmp_path):
    network = saved(tmp_path, hf.BertModel, hf.BertConfig(**TEXT))
    output = network(IDS, attention_mask=MASK)
    states = output.last_hidden_state
    mean = torch.stack([states[0].mean(0), states[1, :2].mean(0)])
    for pool, expected in {"mean": mean, "first": states[:, 0], "pooler": output.pooler_output}.items():
        encoder = TransformersEncoder(str(tmp_path), pool=pool, out_dim=5)
        assert (encoder.frozen, encoder.feature_dim, encoder.out_dim) == (True, 12, 5)
        features = encoder.features(input_ids=IDS, attention_mask=MASK)
        torch.testing.assert_close(features, expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(encoder(input_ids=IDS, attention_mask=MASK.bool()), encoder.output(features))
        assert torch.equal(encoder(IDS, attention_mask=MASK), encoder(input_ids=IDS, attention_mask=MASK))


def test_an_image_network_with_steps_and_one_with_maps(hf, tmp_path):
    images = torch.randn(3, 3, 16, 16)
    network = saved(tmp_path / "vit", hf.ViTModel, hf.ViTConfig(**VISION))
    encoder = TransformersEncoder(str(tmp_path / "vit"), modality="image")
    torch.testing.assert_close(encoder.features(images), network(images).last_hidden_state.mean(1))
    config = hf.ResNetConfig(hidden_sizes=[8, 16], depths=[1, 1], embedding_size=8, layer_type="basic")
    network = saved(tmp_path / "resnet", hf.ResNetModel, config)
    encoder = TransformersEncoder(str(tmp_path / "resnet"))
    assert encoder.modality == "image"
    torch.testing.assert_close(encoder.features(pixel_values=images), network(images).pooler_output.flatten(1))
    with pytest.raises(ValueError, match="this network gives maps, which have no first step"):
        TransformersEncoder(str(tmp_path / "resnet"), pool="first")


def test_waveforms_are_normalised_as_the_extractor_would(hf, tmp_path):
    network = saved(tmp_path, hf.Wav2Vec2Model, hf.Wav2Vec2Config(**SOUND))
    extractor = hf.Wav2Vec2FeatureExtractor(sampling_rate=4000, return_attention_mask=True)
    extractor.save_pretrained(tmp_path)
    sounds = [0.1 * torch.randn(length) + 0.3 for length in (900, 700)]
    taken = extractor([sound.numpy() for sound in sounds], sampling_rate=4000, padding=True, return_tensors="pt")
    states = network(**taken).last_hidden_state
    real = [network(taken["input_values"][:1]).last_hidden_state.shape[1], ((700 - 10) // 5 + 1 - 8) // 4 + 1]
    expected = torch.stack([states[i, :frames].mean(0) for i, frames in enumerate(real)])
    encoder = TransformersEncoder(str(tmp_path))
    assert encoder.reader == {"kind": "waveform", "rate": 4000, "seconds": None}
    values = torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True, padding_value=torch.nan)
    features = encoder.features(values, mask=torch.arange(900) < torch.tensor([[900], [700]]))
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)


def test_spectrograms_come_from_the_networks_own_extractor(hf, tmp_path):
    config = hf.WhisperConfig(
        d_model=12, encoder_layers=2, decoder_layers=1, encoder_attention_heads=3, decoder_attention_heads=3,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=8, vocab_size=30, max_source_positions=50,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    network = saved(tmp_path, hf.WhisperModel, config)
    extractor = hf.WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    extractor.save_pretrained(tmp_path)
    encoder = TransformersEncoder(str(tmp_path), modality="audio", out_dim=4)
    assert encoder.reader == {"kind": "waveform", "rate": 16000, "seconds": 1.0}
    sounds = torch.randn(2, 9000)
    taken = extractor(list(sounds.numpy()), sampling_rate=16000, return_tensors="pt").input_features
    expected = network.encoder(taken).last_hidden_state.mean(1)
    torch.testing.assert_close(encoder.features(sounds), expected)
    rebuilt = build_encoder(json.loads(json.dumps(encoder.settings)))
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt(sounds), encoder(sounds))
    with pytest.raises(ValueError, match="a WhisperEncoder takes spectrograms; give the settings of its feature"):
        build_encoder({**encoder.settings, "extractor": None})
    for kind in ("os.system", "PreTrainedFeatureExtractor", "ViTFeatureExtractor"):
        with pytest.raises(ValueError, match=f"'{kind}' is no audio feature extractor"):
            build_encoder({**encoder.settings, "extractor": {"feature_extractor_type": kind}})


@pytest.mark.parametrize("family", ["CLIP", "Siglip", "Clap"])
def test_of_several_towers_the_one_of_the_modality_is_taken(hf, tmp_path, family):
    other = {"vision_config": VISION}
    if family == "Clap":
        sizes = {"patch_embeds_hidden_size": 8, "depths": [1] * 4, "num_attention_heads": [2] * 4, "hidden_size": 64}
        other = {"audio_config": sizes}
    network = saved(tmp_path, getattr(hf, f"{family}Model"), getattr(hf, f"{family}Config")(text_config=TEXT, **other))
    for pool in ("mean", "pooler"):
        text = TransformersEncoder(str(tmp_path), modality="text", pool=pool)
        output = network.text_model(IDS)
        expected = output.pooler_output if pool == "pooler" else output.last_hidden_state.mean(1)
        torch.testing.assert_close(text.features(IDS), expected)
    if family != "Clap":
        images = torch.randn(2, 3, 16, 16)
        vision = TransformersEncoder(str(tmp_path), modality="image", pool="mean")
        torch.testing.assert_close(vision.features(images), network.vision_model(images).last_hidden_state.mean(1))
    with pytest.raises(
        ValueError, match=r"has several towers; modality must be one of 'text', '(image|audio)', got None"
    ):
        TransformersEncoder(str(tmp_path))


def test_rebuilding_needs_neither_the_folder_nor_the_hub(hf, tmp_path, monkeypatch):
    saved(tmp_path, hf.BertModel, hf.BertConfig(**TEXT))
    encoder = TransformersEncoder(str(tmp_path), tune="last:1", out_dim=5)
    for file in tmp_path.iterdir():
        file.unlink()
    settings = json.loads(json.dumps(encoder.settings))
    assert str(tmp_path) not in json.dumps(settings)
    monkeypatch.setattr("confu.nn.encoders.hub_files.pretrained_config", None)
    monkeypatch.setattr("confu.nn.encoders.hub_files._load_weights", None)
    rebuilt = build_encoder(settings)
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt.eval()(IDS), encoder.eval()(IDS))
    assert rebuilt.settings == encoder.settings


def test_adapters_are_trained_saved_and_reloaded(hf, tmp_path):
    pytest.importorskip("peft")
    saved(tmp_path, hf.BertModel, hf.BertConfig(**TEXT))
    encoder = TransformersEncoder(str(tmp_path), tune="lora", rank=3, alpha=5, out_dim=4)
    before = encoder(IDS)
    for parameter in encoder.backbone.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    assert not torch.allclose(encoder(IDS), before)
    rebuilt = build_encoder(json.loads(json.dumps(encoder.settings)))
    assert any("lora_A" in name for name in rebuilt.state_dict())
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt(IDS), encoder(IDS))


def test_full_tuning_leaves_out_what_the_features_do_not_need(hf):
    encoder = TransformersEncoder(config={"model_type": "wav2vec2", **SOUND}, tune="full")
    frozen = [name for name, p in encoder.named_parameters() if not p.requires_grad]
    assert frozen == ["backbone.network.masked_spec_embed"]
    encoder.train()(torch.randn(2, 200))  # shorter than transformers' own masking of sound stands


def test_pickled_weights_are_refused(hf, tmp_path):
    network = hf.BertModel(hf.BertConfig(**TEXT))
    network.config.save_pretrained(tmp_path)
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        TransformersEncoder(str(tmp_path))


def test_code_that_comes_with_a_network_is_not_run(hf, tmp_path):
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').write('x')\nclass C: pass\n")
    write(tmp_path, "config.json", {"model_type": "mine", "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.C"}})
    with pytest.raises(ValueError, match=r"of the type 'mine'.*code that comes with a network is never run"):
        TransformersEncoder(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_config_may_not_choose_another_implementation(hf):
    bad = {"model_type": "bert", **TEXT, "attn_implementation": "org/kernel", "_attn_implementation": "org/kernel"}
    assert "org/kernel" not in str(plain_config({**bad, "text_config": bad, "experts_implementation": "org/kernel"}))
    encoder = TransformersEncoder(config=bad)
    assert encoder.backbone.network.config._attn_implementation == "sdpa"
    assert "org/kernel" not in str(encoder.settings)


def test_weights_that_would_be_random_are_refused(hf, tmp_path):
    saved(tmp_path, hf.BertForMaskedLM, hf.BertConfig(**TEXT))
    TransformersEncoder(str(tmp_path))
    with pytest.raises(ValueError, match=r"lacks 2 of the weights of a BertModel, e\.g\. pooler\.dense\.bias"):
        TransformersEncoder(str(tmp_path), pool="pooler")


def test_adapters_and_quantised_weights_are_refused(hf, tmp_path):
    config = {"model_type": "bert", **TEXT}
    write(tmp_path, "config.json", {**config, "quantization_config": {"quant_method": "gptq"}})
    with pytest.raises(ValueError, match="has quantised weights"):
        TransformersEncoder(str(tmp_path))
    write(tmp_path, "config.json", config)
    write(tmp_path, "adapter_config.json", {"base_model_name_or_path": "org/model", "peft_type": "LORA"})
    with pytest.raises(ValueError, match="holds an adapter; merge it"):
        TransformersEncoder(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of pretrained .* and config"),
        ({"pretrained": "x", "config": {}}, "give one of pretrained .* and config"),
        ({"config": {"model_type": "bert", **TEXT}, "modality": "image"}, "'bert' reads text, not image"),
        ({"config": {"model_type": "bert", **TEXT}, "modality": "smell"}, "modality 'smell' is not known"),
        ({"config": {"model_type": "bert", **TEXT}, "pool": "max"}, "pool 'max' is not known"),
        ({"config": {"model_type": "bert", **TEXT}, "tune": "last:3"}, "BertModel has a stack of 2 layers"),
        ({"config": {"model_type": "distilbert", "dim": 12, "n_heads": 3}, "pool": "pooler"}, "no pooled output"),
        ({"config": {"model_type": "bert", **TEXT}, "out_dim": 0}, "out_dim must be a whole number"),
        ({"config": TEXT}, "network of the type None"),
    ],
)
def test_bad_settings_are_refused(hf, options, message):
    with pytest.raises(ValueError, match=message):
        TransformersEncoder(**options)


def test_folders_are_looked_for_where_they_are_said_to_be(hf, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "net", hf.BertModel, hf.BertConfig(**TEXT))
    for source in ("./net", "~/net", str(tmp_path / "net")):
        assert TransformersEncoder(source).feature_dim == 12
    for source in ("./nets", "~/nets", "."):
        with pytest.raises(ValueError, match=r"pretrained: .* is no folder with a config\.json"):
            TransformersEncoder(source)


def test_bad_inputs_are_refused(hf):
    encoder = TransformersEncoder(config={"model_type": "bert", **TEXT})
    with pytest.raises(ValueError, match="input_ids must be 0 to 19; got 3 to 20"):
        encoder(torch.tensor([[3, 20]]))
    with pytest.raises(ValueError, match=r"length of at most 12; got shape \(1, 13\)"):
        encoder(torch.zeros(1, 13, dtype=torch.long))
    with pytest.raises(ValueError, match="inputs must hold `values` or 'input_ids'; got attention_mask"):
        encoder(attention_mask=MASK)
    with pytest.raises(ValueError, match="row 1 has none"):
        encoder(IDS, attention_mask=torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]]))
    sound = TransformersEncoder(config={"model_type": "wav2vec2", **SOUND})
    with pytest.raises(ValueError, match=r"values must be \(batch, time\), waveforms of one channel; got shape"):
        sound(torch.zeros(2, 2, 300))
    with pytest.raises(ValueError, match="pad waveforms at the end"):
        sound(torch.zeros(1, 300), mask=torch.arange(300)[None] > 5)


def test_the_reader_of_a_text_network_holds_its_tokenizer(hf, tmp_path):
    saved(tmp_path, hf.BertModel, hf.BertConfig(**TEXT))
    assert TransformersEncoder(str(tmp_path)).reader is None
    tokenizer = tokenizer_json()
    tokenizer.enable_padding()
    hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(tmp_path)
    encoder = TransformersEncoder(str(tmp_path))
    assert {k: v for k, v in encoder.reader.items() if k != "tokenizer"} == {
        "kind": "tokens", "max_length": 10, "pad": "[PAD]",
    }  # fmt: skip
    held = json.loads(encoder.reader["tokenizer"])
    assert held["model"]["vocab"]["bird"] == 3
    assert held["padding"] is None
    assert build_encoder(encoder.settings).reader == encoder.reader


VIT = {"size": {"height": 16, "width": 16}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 2}
CLIP = {"size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": {"height": 16, "width": 16}, "resample": 3}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (VIT, {"size": 16, "resize": "stretch", "shorter": None, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}),
        (CLIP, {"size": 16, "resize": "crop", "shorter": 20, "mean": [0.5] * 3, "interpolation": "bicubic"}),
        ({"size": 16, "do_normalize": False}, {"size": 16, "resize": "crop", "mean": [0.0] * 3, "std": [1.0] * 3}),
        ({"size": {"shortest_edge": 16}, "crop_pct": 0.8}, {"size": 16, "shorter": 20, "resize": "crop"}),
    ],
)
def test_the_reader_of_an_image_network_is_that_of_its_processor(hf, tmp_path, fields, expected):
    saved(tmp_path, hf.ViTModel, hf.ViTConfig(**VISION))
    assert TransformersEncoder(str(tmp_path)).reader is None
    write(tmp_path, "preprocessor_config.json", fields)
    reader = TransformersEncoder(str(tmp_path)).reader
    assert {"kind": "image", "channels": 3, **expected}.items() <= reader.items()


def test_a_reader_of_ones_own_and_one_that_cannot_be(hf, tmp_path):
    saved(tmp_path, hf.ViTModel, hf.ViTConfig(**VISION))
    write(tmp_path, "preprocessor_config.json", {"size": {"height": 16, "width": 24}})
    with pytest.raises(ValueError, match="our readers make squares; give `reader`"):
        TransformersEncoder(str(tmp_path))
    own = {"kind": "image", "size": 16}
    assert TransformersEncoder(str(tmp_path), reader=own).reader == own


def test_sound_without_a_word_on_how_it_is_read_is_refused(hf, tmp_path):
    saved(tmp_path, hf.Wav2Vec2Model, hf.Wav2Vec2Config(**SOUND))
    with pytest.raises(ValueError, match=r"no preprocessor_config\.json, which says how its sound is read; give `ext"):
        TransformersEncoder(str(tmp_path))
    extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": False, "sampling_rate": 8000}
    encoder = TransformersEncoder(str(tmp_path), extractor=extractor)
    assert encoder.reader == {"kind": "waveform", "rate": 8000, "seconds": None}
