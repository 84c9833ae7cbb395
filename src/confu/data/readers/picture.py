"""From a picture to pixels of one size, and from pixels to the numbers of an encoder. Shared by images and videos."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
Fill = float | Sequence[float]


@dataclass(frozen=True)
class Picture:
    """What pictures are made to be.

    Attributes:
        size: pixels of each side.
        channels: 3 for colour, 1 for grey.
        mean: of each channel, or of all, where the pixels run from 0 to 1; subtracted.
        std: likewise; divided by.
        resize: "crop" scales the shorter side and cuts the centre; "stretch" gives up the proportions.
        shorter: what "crop" scales the shorter side to, `size` or more, e.g. 256 for size 224; None is `size`.
        interpolation: "bilinear", "bicubic", "lanczos" (all of them antialiased) or "nearest".
    """

    size: int
    channels: int = 3
    mean: Fill = 0.5
    std: Fill = 0.5
    resize: str = "crop"
    shorter: int | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels: expected 3 (colour) or 1 (grey); got {self.channels}")
        if self.size < 1:
            raise ValueError(f"size: expected 1 pixel or more; got {self.size}")
        if self.resize not in ("crop", "stretch"):
            raise ValueError(f"resize: expected 'crop' or 'stretch'; got {self.resize!r}")
        if self.shorter is not None and (self.resize != "crop" or self.shorter < self.size):
            raise ValueError(f"shorter: goes with resize='crop' and is at least size ({self.size}); got {self.shorter}")
        if self.interpolation not in RESAMPLING:
            raise ValueError(f"interpolation: expected one of {', '.join(RESAMPLING)}; got {self.interpolation!r}")
        for name, value in (("mean", self.mean), ("std", self.std)):
            numbers = _per_channel(value, self.channels)
            if len(numbers) != self.channels or not np.isfinite(numbers).all():
                raise ValueError(f"{name}: expected a number, or one for each of {self.channels} channels; got {value}")
            if name == "std" and min(numbers) <= 0:
                raise ValueError(f"std: expected positive numbers, for pixels from 0 to 1; got {value}")
            object.__setattr__(self, name, [float(number) for number in numbers])


def _per_channel(value: Fill, channels: int) -> list[float]:
    return list(value) if isinstance(value, Sequence) else [value] * channels


def least_side(picture: Picture) -> int:
    """The shorter side, in pixels, to which a picture is scaled before it is cut."""
    return picture.shorter or picture.size


def pixels_of(image: Image.Image, picture: Picture, name: str) -> UInt8[Tensor, "channels size size"]:
    """Scale, cut and convert a picture.

    A part that is transparent keeps the colour that is stored under it. 16-bit grey becomes 8-bit by division by 257.

    Args:
        image: of any size.
        picture: what it shall be.
        name: for the message.

    Raises:
        ValueError: pixels of 32 bits, whose range is not known.

    >>> pixels_of(Image.new("L", (20, 10), 7), Picture(size=4), "a.png").shape
    torch.Size([3, 4, 4])
    """
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.float32) / 257).round().astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"{name}: has pixels of 32 bits (mode {image.mode}), whose range is not known; save 8 bits")
    elif image.mode in ("P", "PA", "LA") or "transparency" in image.info:
        image = image.convert("RGBA")
    image = image.convert("RGB" if picture.channels == 3 else "L")
    width, height = image.size
    box = (0.0, 0.0, float(width), float(height))
    if picture.resize == "crop":
        # The part that stays is cut while scaling, so that a long strip never becomes a huge picture in between.
        side = min(width, height) * picture.size / least_side(picture)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    if image.size != (picture.size, picture.size) or box != (0, 0, width, height):
        image = image.resize((picture.size, picture.size), RESAMPLING[picture.interpolation], box=box)
    pixels = np.array(image, dtype=np.uint8).reshape(picture.size, picture.size, picture.channels)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def picture_from_array(values: np.ndarray | Tensor, name: str) -> Image.Image:
    """A picture from 8-bit pixels: (height, width), or with channels (1, 3 or 4) last or first.

    Where both could be channels, they are last in an array and first in a tensor, as is usual for each.

    Raises:
        ValueError: another shape, or numbers that are not uint8.

    >>> picture_from_array(np.zeros((5, 4, 3), np.uint8), "array").size
    (4, 5)
    """
    first = isinstance(values, Tensor)
    pixels = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    if pixels.dtype != np.uint8:
        raise ValueError(f"{name}: expected pixels as uint8, 0 to 255; got {pixels.dtype}. Scale and convert them")
    if pixels.ndim == 3:
        channels = [axis for axis in ((0, 2) if first else (2, 0)) if pixels.shape[axis] in (1, 3, 4)]
        if not channels:
            raise ValueError(f"{name}: expected 1, 3 or 4 channels first or last; got shape {pixels.shape}")
        pixels = np.moveaxis(pixels, channels[0], 2)
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise ValueError(f"{name}: expected (height, width) or (height, width, channels) pixels; got {pixels.shape}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def normalised(
    pixels: UInt8[Tensor, "*items channels height width"], picture: Picture
) -> Float[Tensor, "*items channels height width"]:
    """`(pixels / 255 - mean) / std`, channel by channel.

    >>> normalised(torch.tensor([[[0, 255]]], dtype=torch.uint8), Picture(size=2, channels=1)).tolist()
    [[[-1.0, 1.0]]]
    """
    values = torch.empty(pixels.shape)
    for channel in range(picture.channels):  # numbers instead of tensors along the channels: six times faster
        mean, std = (_per_channel(value, picture.channels)[channel] for value in (picture.mean, picture.std))
        scaled = pixels[..., channel, :, :].to(torch.float32).mul_(1 / (255 * std))
        torch.sub(scaled, mean / std, out=values[..., channel, :, :])
    return values
