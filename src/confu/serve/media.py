"""The files of items: only those that the index names, typed by their content, never run by a browser."""

import io
import json
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image, ImageOps
from starlette.responses import FileResponse, Response

from confu.data.media import HEAD, format_of
from confu.data.readers.image import readable_formats
from confu.serve.errors import RequestError

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=300",
    "Cross-Origin-Resource-Policy": "same-origin",
}
SIZES = (16, 1024)
_MOST_NUMBERS = 1_000_000


def local_file(address: str, folder: Path) -> Path:
    """Where a file of an item lies.

    Args:
        address: as the index has it: a path, one from the index's folder, or `file://`.
        folder: of the index.

    Raises:
        RequestError: 404 if it is gone, or not on this machine.
    """
    parts = urlsplit(address)
    if "://" in address and parts.scheme != "file":
        raise RequestError(404, "elsewhere", "this file lies on another machine, and the server fetches nothing")
    path = folder / (unquote(parts.path) if parts.scheme == "file" else address)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):  # a name that no file can have
        pass
    raise RequestError(404, "file_is_gone", "the file of this item is no longer where it was when it was indexed")


def file_response(path: Path) -> Response:
    """A file as it is, in ranges if they are asked for.

    Raises:
        RequestError: 404 if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            known = format_of(file.read(HEAD))
        # What a browser could run is no known format.
        kind = known.content_type if known else "application/octet-stream"
        return FileResponse(path, media_type=kind, headers=HEADERS, stat_result=path.stat())
    except OSError as error:
        raise RequestError(404, "file_is_gone", "the file of this item cannot be read") from error


def numbers_response(address: str, folder: Path) -> Response:
    """The numbers of a vector or a sequence, as JSON: of a `.npy` file, or as the index has them itself.

    Raises:
        RequestError: 404 if they cannot be had.
    """
    if address.lstrip()[:1] in ("[", "-", *"0123456789"):
        try:
            return Response(json.dumps(json.loads(address)), media_type="application/json", headers=HEADERS)
        except (ValueError, RecursionError):
            pass  # a file whose name begins so
    path = local_file(address, folder)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.size > _MOST_NUMBERS or array.dtype.kind not in "biuf":
            raise ValueError
        return Response(json.dumps(array.tolist()), media_type="application/json", headers=HEADERS)
    except Exception as error:
        raise RequestError(404, "file_is_damaged", "the numbers of this item cannot be read") from error


def thumbnail(path: Path, size: int, max_pixels: int) -> Response:
    """A picture that fits into a square, upright, as PNG or JPEG.

    Args:
        path: of the picture.
        size: of the square, in pixels.
        max_pixels: most of the picture itself.

    Raises:
        RequestError: 404 if it cannot be read.
    """
    content, kind = _thumbnail(path, size, max_pixels, path.stat().st_mtime_ns)
    return Response(content, media_type=kind, headers=HEADERS)


@lru_cache(maxsize=512)
def _thumbnail(path: Path, size: int, max_pixels: int, changed: int) -> tuple[bytes, str]:
    try:
        with Image.open(path, formats=readable_formats()) as image:
            if image.width * image.height > max_pixels:
                raise ValueError
            image.draft("RGB", (size, size))
            picture = ImageOps.exif_transpose(image)
            picture = picture.convert("RGBA" if picture.mode in ("RGBA", "LA", "P", "PA") else "RGB")
            picture.thumbnail((size, size))
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise RequestError(404, "file_is_damaged", "the picture of this item cannot be read") from error
    file = io.BytesIO()
    kind = "PNG" if picture.mode == "RGBA" or max(picture.size) <= 64 else "JPEG"
    picture.save(file, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return file.getvalue(), f"image/{kind.lower()}"
