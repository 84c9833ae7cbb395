"""An encoder for images and spectrograms of any size."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from confu.checks import check_known
from confu.nn.encoders.build import settings_from
from confu.nn.layers import FeatureNorm, check_positive

_GRID = 4

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    # As many groups as divide the channels, 8 at most.
    "group": lambda channels: nn.GroupNorm(next(n for n in range(8, 0, -1) if channels % n == 0), channels),
    "none": lambda _: nn.Identity(),
}


class ConvEncoder(nn.Module):
    """A small strided convolutional network with a pooled end.

        x -> mean of first_pool x first_pool -> [Conv -> Norm -> ReLU] for each of `channels` -> pooling -> Linear

    The activations lie in memory with the channels last, which is faster on CPU; the weights stay as they are, so
    that they are saved like any others.

    >>> ConvEncoder(channels=(8, 16), out_dim=32)(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 32])

    Args:
        in_channels: 1 for grey images and spectrograms, 3 for colour.
        channels: output channels of each convolution.
        out_dim: size of the features.
        kernel: odd size of the convolutions after the first.
        stride: their stride.
        first_kernel: odd size of the first convolution; for wide spectrograms 7 with a stride of 4 saves much time.
        first_stride: its stride.
        norm: "batch" (its statistics mix the rows of a batch in training), "group" or "none".
        first_pool: average so many pixels each way before the first convolution: most of the time goes into it.
        pooling: "mean" over height and width; "grid", the means of 4 x 4 parts, where it matters what stands where;
            or "max-time", the maximum over the width alone: in a spectrogram it does not matter when something
            sounds, but how high. It needs `height`.
        height: of the inputs; only for "max-time".
        dropout: of the pooled maps.
        feature_norm: normalise the features over the batch and rectify them, so that what reads them starts from one
            scale; a training that has to find something faint starts much faster.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = (32, 64, 128),
        out_dim: int = 128,
        kernel: int = 3,
        stride: int = 2,
        first_kernel: int = 3,
        first_stride: int = 2,
        norm: str = "batch",
        first_pool: int = 1,
        pooling: str = "mean",
        height: int | None = None,
        dropout: float = 0.0,
        feature_norm: bool = False,
    ):
        super().__init__()
        self.settings = settings_from("conv", locals())
        check_positive(in_channels=in_channels, out_dim=out_dim, stride=stride, first_stride=first_stride)
        check_positive(first_pool=first_pool, **{f"channels[{i}]": size for i, size in enumerate(channels)})
        check_known("norm", norm, NORMS)
        check_known("pooling", pooling, ("mean", "grid", "max-time"))
        if (height is None) == (pooling == "max-time"):
            raise ValueError(f"height (of the inputs) goes with pooling 'max-time'; got {height} with {pooling!r}")
        if not channels:
            raise ValueError("channels must name at least one convolution's output channels; got none")
        for name, size in (("kernel", kernel), ("first_kernel", first_kernel)):
            if size < 1 or size % 2 == 0:
                raise ValueError(
                    f"{name} must be odd and positive, so that padding can be equal on both sides; got {size}"
                )
        self.pooling, self.height = pooling, height
        self.in_channels, self.out_dim = in_channels, out_dim
        layers: list[nn.Module] = [nn.AvgPool2d(first_pool, ceil_mode=True)] if first_pool > 1 else []
        before, size, step = in_channels, first_kernel, first_stride
        rows = {"mean": 1, "grid": _GRID**2}.get(pooling, -(-(height or 0) // first_pool))
        for after in channels:
            # A normalisation takes the mean away, and a bias with it.
            convolution = nn.Conv2d(before, after, size, step, size // 2, bias=norm == "none")
            layers += [convolution, NORMS[norm](after), nn.ReLU()]
            rows = (rows - 1) // step + 1 if pooling == "max-time" else rows
            before, size, step = after, kernel, stride
        self.layers = nn.Sequential(*layers)
        last = [FeatureNorm(out_dim), nn.ReLU()] if feature_norm else []
        # Without a bias before the normalisation, which would take it away.
        linear = nn.Linear(before * rows, out_dim, bias=not feature_norm)
        self.output = nn.Sequential(nn.Dropout(dropout), linear, *last)

    def forward(
        self, values: Float[Tensor, "batch channels height width"] | Float[Tensor, "batch height width"]
    ) -> Float[Tensor, "batch out_dim"]:
        """The features of each image; the axis of channels may be left out if there is one channel."""
        values = as_images(values, self.in_channels)
        if self.height is not None and values.shape[2] != self.height:
            raise ValueError(f"values must have the height {self.height}; got shape {tuple(values.shape)}")
        maps = self.layers(values)
        if self.pooling == "grid":
            return self.output(adaptive_avg_pool2d(maps, _GRID).flatten(1))
        return self.output(maps.mean(dim=(2, 3)) if self.pooling == "mean" else maps.amax(dim=3).flatten(1))


def as_images(values: Tensor, channels: int) -> Float[Tensor, "batch channels height width"]:
    """Images with an axis of channels, which lie last in memory; refuse those of another number of channels."""
    if values.ndim == 3 and channels == 1:
        values = values.unsqueeze(1)
    if values.ndim != 4 or values.shape[1] != channels:
        raise ValueError(f"values must be (batch, {channels}, height, width); got shape {tuple(values.shape)}")
    return values.to(memory_format=torch.channels_last)
