"""Images: any file that Pillow reads safely, an array of pixels, or a Pillow image; to pixels of one size."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from confu.data.media import HEAD, why_unreadable
from confu.data.readers.scaling import Scale, Scaling
from confu.data.readers.source import Source, array_of, is_file, name_of, opened, plain, remark, stacked

# Not all that Pillow opens: EPS would start Ghostscript, and rare formats are rarely tried against hostile files.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_FLAT = 8  # levels of 256: pixels that differ by no more show nothing
_TWELVE_BITS = 4095
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
        if self.interpolation not in _RESAMPLING:
            raise ValueError(f"interpolation: expected one of {', '.join(_RESAMPLING)}; got {self.interpolation!r}")
        for name, value in (("mean", self.mean), ("std", self.std)):
            numbers = list(value) if isinstance(value, Sequence) else [value] * self.channels
            if len(numbers) != self.channels or not np.isfinite(numbers).all():
                raise ValueError(f"{name}: expected a number, or one for each of {self.channels} channels; got {value}")
            if name == "std" and min(numbers) <= 0:
                raise ValueError(f"std: expected positive numbers, for pixels from 0 to 1; got {value}")
            object.__setattr__(self, name, [float(number) for number in numbers])


class ImageReader:
    """Images as pixels of one size.

    A rotation that the camera noted (EXIF) is applied; of an animation the first frame is taken; a JPEG photo much
    larger than `size` is decoded at a half, a quarter or an eighth, never below twice the size that is asked for.

    Args: see `Picture`. The default mean and std of 0.5 give numbers from -1 to 1. With `scale` (see `Scaling`) those
        of each channel over the pixels of the training rows take their place.

    >>> reader = ImageReader(size=8)
    >>> item = reader.read(np.zeros((20, 30, 3), dtype=np.uint8))
    >>> item.dtype, reader.collate([item, item]).shape
    (torch.uint8, torch.Size([2, 3, 8, 8]))
    """

    stackable = True
    modality_kind = "image"

    def __init__(
        self,
        size: int,
        channels: int = 3,
        mean: Fill = 0.5,
        std: Fill = 0.5,
        resize: str = "crop",
        shorter: int | None = None,
        interpolation: str = "bilinear",
        scale: Scale = None,
    ) -> None:
        self.picture = Picture(size, channels, mean, std, resize, shorter, interpolation)
        self.scaling = Scaling(channels, 3, scale)
        self.settings: dict[str, Any] = {"kind": "image", **asdict(self.picture), **self.scaling.settings}

    def read(self, source: Source) -> UInt8[Tensor, "channels size size"]:
        """One image as pixels, of a file or its bytes, pixels (see `picture_from_array`), or a Pillow image.

        Raises:
            ValueError: no such file, no image, cut short, or too many pixels.
        """
        source = plain(source)
        name = name_of(source)
        if is_file(source):
            image = open_image(source, self.picture.shorter or self.picture.size)
        elif isinstance(source, Image.Image):
            image = _decoded(source, name)
        elif isinstance(source, np.ndarray | Tensor):
            image = picture_from_array(source, name)
        else:
            got = type(source).__name__
            raise ValueError(f"{name}: expected an image's file, bytes, pixels or a Pillow image; got {got}")
        pixels = pixels_of(image, self.picture, name)
        remark_if_flat(pixels)
        return pixels

    def collate(
        self, items: Sequence[Tensor] | UInt8[Tensor, "n channels size size"]
    ) -> Float[Tensor, "n channels size size"]:
        """What the encoder gets: `(pixels / 255 - mean) / std`."""
        size, channels = self.picture.size, self.picture.channels
        return normalised(stacked(items, (channels, size, size), torch.uint8), self.picture, self.scaling)


def open_image(source: Source, least: int) -> Image.Image:
    """Decode an image's file, upright; a JPEG may be decoded smaller, not below twice the `least` shorter side.

    Raises:
        ValueError: no such file, no image, cut short, or more pixels than `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    name = name_of(source)
    with opened(source) as file:
        try:
            image = Image.open(file, formats=readable_formats())
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ValueError(f"{name}: {error}") from error
        except Image.UnidentifiedImageError as error:
            file.seek(0)
            known = f"not an image of a known format, or damaged ({', '.join(readable_formats())})"
            raise ValueError(f"{name}: {why_unreadable('image', file.read(HEAD)) or known}") from error
        except Exception as error:
            raise _unreadable(name, error) from error
        return _decoded(image, name, least)


def _decoded(image: Image.Image, name: str, least: int | None = None) -> Image.Image:
    """Decode an image and turn it as its EXIF says; refuse one that is small as a file and would fill the memory."""
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(
            f"{name}: {width} x {height} pixels are more than the {Image.MAX_IMAGE_PIXELS} that are allowed; scale "
            "the image down, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        )
    if not width * height:
        raise ValueError(f"{name}: has no pixels")
    try:
        if least is not None:
            image.draft(image.mode, (2 * least, 2 * least))
        image.load()
        try:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        except SyntaxError:  # EXIF that cannot be read says nothing
            return image
        return image if orientation == 1 else ImageOps.exif_transpose(image)
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name}: damaged or cut short, not readable as an image ({type(error).__name__}: {error})")


@cache
def readable_formats() -> list[str]:
    """Those of `FORMATS` that are there: HEIF needs the package pillow-heif, AVIF a Pillow that was built with it."""
    Image.init()
    with suppress(ImportError):
        import_module("pillow_heif").register_heif_opener()
    return [name for name in FORMATS if name in Image.OPEN]


def pixels_of(image: Image.Image, picture: Picture, name: str) -> UInt8[Tensor, "channels size size"]:
    """Scale, cut and convert a picture of any size.

    A part that is transparent keeps the colour that is stored under it, unless the whole picture would then be of one
    colour, as a black logo is: that is seen on white if it is dark, else on black. 16-bit grey becomes 8-bit by
    division by 257, or, if no value is above 4095, as 12 bits that a camera or a microscope stored in 16.

    Raises:
        ValueError: pixels of 32 bits, whose range is not known.

    >>> pixels_of(Image.new("L", (20, 10), 7), Picture(size=4), "a.png").shape
    torch.Size([3, 4, 4])
    """
    if image.mode.startswith("I;16"):
        image = Image.fromarray(_from_16_bits(np.asarray(image)))
    elif image.mode in ("I", "F"):
        raise ValueError(f"{name}: has pixels of 32 bits (mode {image.mode}), whose range is not known; save 8 bits")
    elif image.mode in ("P", "PA", "LA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        image = _visible(image)
    image = image.convert("RGB" if picture.channels == 3 else "L")
    width, height = image.size
    box = (0.0, 0.0, float(width), float(height))
    if picture.resize == "crop":
        # The part that stays is cut while scaling, so that a long strip never becomes a huge picture in between.
        side = min(width, height) * picture.size / (picture.shorter or picture.size)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    if image.size != (picture.size, picture.size) or box != (0, 0, width, height):
        image = image.resize((picture.size, picture.size), _RESAMPLING[picture.interpolation], box=box)
    pixels = np.array(image, dtype=np.uint8).reshape(picture.size, picture.size, picture.channels)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _visible(image: Image.Image) -> Image.Image:
    """A picture with transparency without it, where its colours show nothing on a ground that they are seen on."""
    ranges: Any = image.getextrema()
    *colours, alpha = ranges
    if alpha[0] == alpha[1] or max(high - low for low, high in colours) > _FLAT:
        return image
    remark("is of one colour and partly transparent: seen on white, or on black if it is light")
    ground = (255, 255, 255, 255) if sum(low + high for low, high in colours) < 3 * 256 else (0, 0, 0, 255)
    return Image.alpha_composite(Image.new("RGBA", image.size, ground), image)


def _from_16_bits(values: np.ndarray) -> np.ndarray:
    scale = 257
    if 0 < values.max() <= _TWELVE_BITS:
        remark(f"has 16 bits a pixel and none above {_TWELVE_BITS}: read as 12 bits")
        scale = _TWELVE_BITS / 255
    return (values.astype(np.float32) / scale).round().astype(np.uint8)


def remark_if_flat(pixels: Tensor) -> None:
    """Remark on pixels that are all nearly alike, as of a picture that is black."""
    if int(pixels.max()) - int(pixels.min()) <= _FLAT:
        remark("shows nothing: its pixels are all nearly alike as the model gets them")


def picture_from_array(values: np.ndarray | Tensor, name: str) -> Image.Image:
    """A picture from pixels: (height, width), or with channels (1, 3 or 4) last or first.

    Pixels are whole numbers from 0 to 255; floats from 0 to 1, or, if one is larger, from 0 to 255; uint16 above 255 as
    of 16-bit files (see `pixels_of`); or booleans. Where both axes could be channels, they are last in an array and
    first in a tensor, as is usual for each.

    Raises:
        ValueError: another shape, or numbers outside of these ranges, such as pixels that are standardised already.

    >>> picture_from_array(np.zeros((5, 4, 3), np.uint8), "array").size
    (4, 5)
    """
    axes = (0, 2) if isinstance(values, Tensor) else (2, 0)
    pixels = _eight_bits(array_of(values), name)
    if pixels.ndim == 3:
        axis = next((axis for axis in axes if pixels.shape[axis] in (1, 3, 4)), None)
        if axis is None:
            raise ValueError(f"{name}: expected 1, 3 or 4 channels first or last; got shape {pixels.shape}")
        pixels = np.moveaxis(pixels, axis, 2)
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise ValueError(f"{name}: expected (height, width) or (height, width, channels) pixels; got {pixels.shape}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _eight_bits(pixels: np.ndarray, name: str) -> np.ndarray:
    if pixels.dtype == np.uint8 or not pixels.size:
        return pixels.astype(np.uint8)
    if pixels.dtype == np.bool_:
        return pixels * np.uint8(255)
    low, high = pixels.min(), pixels.max()
    if pixels.dtype == np.uint16 and high > 255:
        return _from_16_bits(pixels)
    if not (low >= 0 and high <= 255):  # False of NaN
        raise ValueError(
            f"{name}: expected pixels from 0 to 255, or floats from 0 to 1; got {pixels.dtype} from {low:.4g} to "
            f"{high:.4g}. Pixels that are standardised already have to be put back: pixels * std + mean"
        )
    scale = 255 if pixels.dtype.kind == "f" and high <= 1 else 1
    return (pixels * scale).round().astype(np.uint8)


def normalised(
    pixels: UInt8[Tensor, "*items channels height width"], picture: Picture, scaling: Scaling | None = None
) -> Float[Tensor, "*items channels height width"]:
    """`(pixels / 255 - mean) / std`, channel by channel, by the numbers of the picture or those of a scaling.

    >>> normalised(torch.tensor([[[0, 255]]], dtype=torch.uint8), Picture(size=2, channels=1)).tolist()
    [[[-1.0, 1.0]]]
    """
    values = torch.empty(pixels.shape)
    # Numbers instead of tensors along the channels: six times faster.
    scales: Any = zip(picture.mean, picture.std)  # pyright: ignore[reportArgumentType]
    if scaling is not None and scaling.scale is not None:
        scales = scaling.channels()
    for channel, (mean, std) in enumerate(scales):
        scaled = pixels[..., channel, :, :].to(torch.float32).mul_(1 / (255 * std))
        torch.sub(scaled, mean / std, out=values[..., channel, :, :])
    return values
