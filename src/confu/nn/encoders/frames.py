"""An image encoder over the frames of a video."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from confu.nn.encoders.features import check_features


class FramesEncoder(nn.Module):
    """The mean of what an image encoder makes of each frame.

        h = 1/F sum_f encoder(x_f)

    >>> import torch
    >>> from confu.nn.encoders import build_encoder
    >>> video = build_encoder({"kind": "frames", "encoder": {"kind": "conv", "in_channels": 3, "out_dim": 6}})
    >>> video(torch.zeros(2, 8, 3, 16, 16)).shape
    torch.Size([2, 6])

    Args:
        encoder: of an image, (n, channels, height, width) to (n, out_dim).
        frames: that its reader takes from a video; the encoder itself takes any number.
    """

    def __init__(self, encoder: Any, frames: int = 8):
        super().__init__()
        self.encoder, self.frames = encoder, frames
        self.out_dim: int = encoder.out_dim
        self.settings: dict[str, Any] = {
            "kind": "frames", "encoder": getattr(encoder, "settings", None), "frames": frames,
        }  # fmt: skip
        self.frozen: bool = getattr(encoder, "frozen", False)
        self.feature_dim: int | None = getattr(encoder, "feature_dim", None)
        image: Mapping[str, Any] | None = getattr(encoder, "reader", None)
        self.reader: dict[str, Any] | None = None
        if image is not None:
            self.reader = {**image, "kind": "video", "frames": frames}

    def features(
        self, values: Float[Tensor, "batch frames channels height width"]
    ) -> Float[Tensor, "batch feature_dim"]:
        """The mean of the frames' features."""
        return self._mean(self.encoder.features, values)

    def forward(
        self,
        values: Float[Tensor, "batch ..."] | None = None,
        features: Float[Tensor, "batch feature_dim"] | None = None,
    ) -> Float[Tensor, "batch out_dim"]:
        """The features of each video, or what the encoder makes of `features` computed before."""
        if values is None:  # what follows the features is a Linear, which may as well come after the mean
            return self.encoder(features=check_features(self, features))
        return self._mean(self.encoder, values)

    def _mean(self, encode: Any, values: Tensor) -> Tensor:
        if values.ndim != 5 or not values.shape[1]:
            raise ValueError(
                f"values must be (batch, frames, channels, height, width) with at least one frame; got shape "
                f"{tuple(values.shape)}"
            )
        return encode(values.flatten(0, 1)).unflatten(0, values.shape[:2]).mean(dim=1)
