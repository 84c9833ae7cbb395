"""ResNet and BERT: their sizes, and pretrained weights from a local folder."""

import pytest
import torch

from confu.nn.encoders import BertEncoder, ResNetEncoder, build_encoder

RESNET = {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8, "num_channels": 3, "layer_type": "basic"}
BERT = {"vocab_size": 11, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 16}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def hf():
    return pytest.importorskip("transformers")


# The published sizes (11,689,512 and 25,557,032), less the classifier of 1000 and two of three input channels.
@pytest.mark.parametrize(("depth", "width", "parameters"), [(18, 512, 11_689_512), (50, 2048, 25_557_032)])
def test_resnet_has_the_published_size(hf, depth, width, parameters):
    with torch.device("meta"):  # sizes alone
        encoder = ResNetEncoder(depth=depth, out_dim=4)
    assert count(encoder.model) == parameters - 1000 * (width + 1) - 2 * 64 * 7 * 7
    assert count(encoder.output) == 4 * (width + 1)


def test_default_bert_has_the_size_of_minilm(hf):
    with torch.device("meta"):
        encoder = BertEncoder()
    layer = 4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
    assert count(encoder.model) == (30522 + 512 + 2 + 2) * 384 + 6 * layer
    assert encoder.out_dim == 256


def test_bert_reads_the_first_token_and_ignores_padding(hf):
    encoder, ids = BertEncoder(config=BERT).eval(), torch.randint(0, 11, (3, 4))
    padded, mask = torch.cat([ids, torch.full((3, 2), 7)], 1), torch.arange(6).expand(3, 6) < 4
    torch.testing.assert_close(encoder(padded, mask), encoder(ids), atol=1e-5, rtol=1e-5)
    assert torch.equal(encoder(padded, mask), encoder(padded, mask.long()))
    expected = encoder.output(encoder.model(ids).last_hidden_state[:, 0])
    torch.testing.assert_close(encoder(ids), expected)


def test_pretrained_bert_is_rebuilt_without_its_folder(hf, tmp_path):
    torch.manual_seed(0)
    source = hf.BertModel(hf.BertConfig(**BERT, max_position_embeddings=9))
    source.save_pretrained(tmp_path)
    encoder = BertEncoder(pretrained=str(tmp_path), out_dim=5)
    assert encoder.model.training
    ids = torch.tensor([[1, 2, 3]])
    expected = source.eval()(ids).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder.eval().model(ids).last_hidden_state[:, 0], expected)
    for file in tmp_path.iterdir():
        file.unlink()
    rebuilt = build_encoder(encoder.settings)
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt.eval()(ids), encoder(ids))
    assert "pretrained" not in encoder.settings


def test_pretrained_colour_resnet_takes_grey_images(hf, tmp_path):
    torch.manual_seed(0)
    source = hf.ResNetModel(hf.ResNetConfig(**RESNET)).eval()
    source.save_pretrained(tmp_path)
    encoder = ResNetEncoder(pretrained=str(tmp_path), in_channels=1).eval()
    grey = torch.randn(2, 1, 20, 20)
    expected = source(grey.expand(2, 3, 20, 20)).pooler_output
    torch.testing.assert_close(encoder.model(grey).pooler_output, expected, atol=1e-5, rtol=1e-4)
    rebuilt = build_encoder(encoder.settings)
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt.eval()(grey), encoder(grey))
    with pytest.raises(ValueError, match="in_channels must be 3, as pretrained, or 1 for their sum; got 2"):
        ResNetEncoder(pretrained=str(tmp_path), in_channels=2)


def test_pretrained_of_another_family_is_refused(hf, tmp_path):
    hf.BertModel(hf.BertConfig(**BERT)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"pretrained must be a resnet model; .* is a bert model"):
        ResNetEncoder(pretrained=str(tmp_path))


def test_pickled_weights_are_refused(hf, tmp_path):
    model = hf.BertModel(hf.BertConfig(**BERT))
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        BertEncoder(pretrained=str(tmp_path))


def test_rebuilding_does_not_look_for_weights(hf, tmp_path, monkeypatch):
    hf.ResNetModel(hf.ResNetConfig(**RESNET)).half().save_pretrained(tmp_path)
    assert {p.dtype for p in ResNetEncoder(pretrained=str(tmp_path)).parameters()} == {torch.float32}
    settings = ResNetEncoder(pretrained=str(tmp_path)).settings

    def refuse(*_args, **_kwargs):
        raise AssertionError("looked for pretrained weights")

    monkeypatch.setattr("confu.nn.encoders.resnet_bert._pretrained", refuse)
    assert build_encoder(settings).settings == settings


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        (ResNetEncoder, {"depth": 34}, "depth must be one of 18, 50; got 34"),
        (ResNetEncoder, {"depth": 18, "config": RESNET}, "give one of depth, pretrained, config.*got depth and config"),
        (ResNetEncoder, {"in_channels": 3, "config": RESNET}, "in_channels is part of config"),
        (ResNetEncoder, {"in_channels": 0}, "in_channels must be a whole number"),
        (BertEncoder, {"layers": 2, "pretrained": "x"}, "give one of layers, pretrained, config"),
        (BertEncoder, {"hidden_size": 100}, "multiple of heads; got width 100 with 12 heads"),
        (BertEncoder, {"vocab_size": 0}, "vocab_size must be a whole number"),
    ],
)
def test_bad_settings_are_refused(hf, encoder, options, message):
    with pytest.raises(ValueError, match=message):
        encoder(**options)


def test_bad_inputs_are_refused(hf):
    with pytest.raises(ValueError, match=r"values must be \(batch, 3, height, width\); got shape \(2, 1, 9, 9\)"):
        ResNetEncoder(config=RESNET)(torch.zeros(2, 1, 9, 9))
    with pytest.raises(ValueError, match="input_ids must be 0 to 10; got 3 to 11"):
        BertEncoder(config=BERT)(torch.tensor([[3, 11]]))
