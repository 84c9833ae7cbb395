"""Images: any file that Pillow reads safely, an array of pixels, or a Pillow image."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from confu.data.readers.picture import Fill, Picture, least_side, normalised, picture_from_array, pixels_of
from confu.data.readers.source import Content, Source, is_file, name_of, opened
from confu.data.readers.stacking import stacked

# Not all that Pillow opens: EPS would start Ghostscript, and rare formats are rarely tried against hostile files.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_ORIENTATION = 0x0112


class ImageReader:
    """Images as pixels of one size.

    A rotation that the camera noted (EXIF) is applied; of an animation the first frame is taken; a JPEG photo much
    larger than `size` is decoded at a half, a quarter or an eighth, never below twice the size that is asked for.

    Args: see `Picture`. The default mean and std of 0.5 give numbers from -1 to 1.

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
    ) -> None:
        self.picture = Picture(size, channels, mean, std, resize, shorter, interpolation)
        self.settings: dict[str, Any] = {"kind": "image", **asdict(self.picture)}

    def read(self, source: Source) -> UInt8[Tensor, "channels size size"]:
        """One image as pixels.

        Args:
            source: a file or its bytes, uint8 pixels (see `picture_from_array`), or a Pillow image.

        Raises:
            ValueError: no such file, no image, cut short, or too many pixels.
        """
        name = name_of(source)
        if is_file(source):
            image = open_image(source, least_side(self.picture))
        elif isinstance(source, Image.Image):
            check_pixels(source, name)
            image = _upright(source, name)
        elif isinstance(source, np.ndarray | Tensor):
            image = picture_from_array(source, name)
        else:
            got = type(source).__name__
            raise ValueError(f"{name}: expected an image's file, bytes, pixels or a Pillow image; got {got}")
        return pixels_of(image, self.picture, name)

    def collate(
        self, items: Sequence[Tensor] | UInt8[Tensor, "n channels size size"]
    ) -> Float[Tensor, "n channels size size"]:
        """What the encoder gets: `(pixels / 255 - mean) / std`."""
        size, channels = self.picture.size, self.picture.channels
        return normalised(stacked(items, (channels, size, size), torch.uint8), self.picture)


def open_image(source: str | Path | bytes | Content, least: int) -> Image.Image:
    """Decode an image's file.

    Args:
        source: the file or its bytes.
        least: the shorter side that is needed, in pixels; a JPEG may be decoded smaller than it is, not below twice it.

    Raises:
        ValueError: no such file, no image, cut short, or more pixels than `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    name = name_of(source)
    with opened(source) as file:
        try:
            image = Image.open(file, formats=_formats())
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ValueError(f"{name}: {error}") from error
        except Image.UnidentifiedImageError as error:
            raise ValueError(f"{name}: not an image of a known format, or damaged ({', '.join(_formats())})") from error
        except Exception as error:
            raise ValueError(_unreadable(name, error)) from error
        check_pixels(image, name)
        image.draft(image.mode, (2 * least, 2 * least))
        return _upright(image, name)


def check_pixels(image: Image.Image, name: str) -> None:
    """Refuse a picture that is small as a file and would fill the memory.

    Raises:
        ValueError: more than `PIL.Image.MAX_IMAGE_PIXELS`, or none at all.
    """
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(
            f"{name}: {width} x {height} pixels are more than the {Image.MAX_IMAGE_PIXELS} that are allowed; scale "
            "the image down, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        )
    if not width * height:
        raise ValueError(f"{name}: has no pixels")


def _upright(image: Image.Image, name: str) -> Image.Image:
    """Decode an image and turn it as its EXIF says; EXIF that cannot be read says nothing."""
    try:
        image.load()
        try:
            orientation = image.getexif().get(_ORIENTATION, 1)
        except SyntaxError:
            return image
        return image if orientation == 1 else ImageOps.exif_transpose(image)
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise ValueError(_unreadable(name, error)) from error


def _unreadable(name: str, error: Exception) -> str:
    return f"{name}: damaged or cut short, not readable as an image ({type(error).__name__}: {error})"


@cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]
