"""Check uploads by their content, not by their name, before a reader decodes them."""

import io
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from confu.data.media import why_unreadable
from confu.data.readers import Reader
from confu.data.readers.image import readable_formats
from confu.data.readers.sound import sound_header
from confu.serve.errors import RequestError
from confu.serve.settings import ServeSettings

_RATE, _CHANNELS = 96_000, 2  # a sound may have as many samples as one of these at the longest time
_NPY = b"\x93NUMPY"
_HOW = {
    "image": 'a picture file (JPEG, PNG, WebP, GIF, BMP, TIFF), or in JSON {"base64": "..."}',
    "audio": 'a sound file (WAV, FLAC, OGG, MP3), or in JSON {"base64": "..."}',
    "video": 'a video file (MP4, WebM, MKV), or in JSON {"base64": "..."}',
    "text": "a text",
    "vector": "numbers as JSON, [0.1, 0.2, ...], or a .npy file",
    "sequence": "steps of numbers as JSON, [[0.1, 0.2], ...], or a .npy file",
    "number": "a number",
    "table": 'a record as JSON, {"column": 1.5, "other column": "a text"}',
}


def check_upload(name: str, value: Any, reader: Reader, settings: ServeSettings) -> Any:
    """What a reader can be given: bytes of a file within limits, a text, or numbers. Never a path or an address.

    Args:
        name: of the modality.
        value: bytes of a file; or a text, number or list.
        reader: that will read it.
        settings: with the limits.

    Raises:
        RequestError: 422 for something else, 413 for too much of it.
    """
    kind = reader.modality_kind
    if kind in _FILES:
        if isinstance(value, list) and value and "list" in reader.settings:
            return [_file(name, one, kind, settings) for one in value]
        return _file(name, value, kind, settings)
    if kind == "text":
        return _text(name, value, settings)
    if kind == "table":
        return _record(name, value, settings)
    return _numbers(name, value, reader, settings)


def _file(name: str, value: Any, kind: str, settings: ServeSettings) -> bytes:
    if not isinstance(value, bytes):
        raise _wrong(name, kind, f"{type(value).__name__} came")
    if not value:
        raise _wrong(name, kind, "the file is empty", "empty")
    _FILES[kind](name, value, settings)
    return value


def _image(name: str, content: bytes, settings: ServeSettings) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is our own
            with Image.open(io.BytesIO(content), formats=readable_formats()) as image:
                width, height = image.size
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(name, "far more", settings) from error
    except Exception as error:  # a damaged header raises whatever its bytes lead to
        raise _undecodable(name, "image", content, "not_an_image") from error
    if width * height > settings.max_pixels:
        raise _too_many_pixels(name, f"{width} x {height}", settings)


def _audio(name: str, content: bytes, settings: ServeSettings) -> None:
    most = settings.max_seconds_audio
    try:
        rate, channels, samples = sound_header(io.BytesIO(content), name, most)
    except Exception as error:  # a damaged header raises whatever its bytes lead to
        raise _undecodable(name, "audio", content, "not_a_sound") from error
    seconds = samples / max(1, rate)
    if seconds > most:
        raise RequestError(413, "audio_too_long", f"{name}: {_time(seconds)} of sound; send {most:g} s at most", name)
    if samples * channels > most * _RATE * _CHANNELS:
        raise RequestError(
            413,
            "audio_too_long",
            f"{name}: {channels} channels of {rate} Hz are too many samples; send "
            f"{_CHANNELS} channels of {_RATE} Hz at most",
            name,
        )


def _video(name: str, content: bytes, settings: ServeSettings) -> None:
    try:
        import av
    except ImportError as error:
        raise RequestError(
            501, "no_video", f"{name}: this server cannot read videos; PyAV is not installed", name
        ) from error
    try:
        with av.open(io.BytesIO(content), mode="r") as container:
            stream = container.streams.video[0]
            width, height = stream.width, stream.height
            seconds = float(container.duration or 0) / 1e6
    except Exception as error:
        raise _undecodable(name, "video", content, "not_a_video") from error
    if seconds > settings.max_seconds_video:
        most = settings.max_seconds_video
        raise RequestError(413, "video_too_long", f"{name}: {_time(seconds)} of video; send {most:g} s at most", name)
    if width * height > settings.max_pixels:
        raise _too_many_pixels(name, f"{width} x {height}", settings)


def _text(name: str, value: Any, settings: ServeSettings) -> str:
    if isinstance(value, bytes):
        if len(value) > 4 * settings.max_text:
            raise _too_long(name, settings)
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise _wrong(name, "text", "the bytes are not UTF-8", "not_a_text") from error
    if not isinstance(value, str):
        raise _wrong(name, "text", f"{type(value).__name__} came", "not_a_text")
    if len(value) > settings.max_text:
        raise _too_long(name, settings)
    if not value.strip():
        raise _wrong(name, "text", "the text is empty", "empty")
    return value


def _record(name: str, value: Any, settings: ServeSettings) -> dict[str, Any]:
    if isinstance(value, bytes):
        if len(value) > 4 * settings.max_text:
            raise _too_long(name, settings)
        try:
            value = json.loads(value.decode())
        except (ValueError, RecursionError) as error:
            raise _wrong(name, "table", "it is no JSON", "not_a_record") from error
    if not isinstance(value, dict) or any(isinstance(one, list | dict) for one in value.values()):
        raise _wrong(name, "table", "it is no object of texts, numbers, true, false and null", "not_a_record")
    if sum(len(str(one)) for one in value.values()) > settings.max_text:
        raise _too_long(name, settings)
    return value


def _numbers(name: str, value: Any, reader: Reader, settings: ServeSettings) -> Any:
    kind = reader.modality_kind
    most = reader.settings.get("dim", 1) if kind != "sequence" else settings.max_numbers
    gaps = reader.settings.get("missing") == "mean"
    if isinstance(value, bytes) and value.startswith(_NPY):
        return _array(name, value, kind, settings, gaps)
    if isinstance(value, bytes):
        if len(value) > 32 * max(most, 1000):
            raise _too_many_numbers(name, most)
        try:
            value = json.loads(value.decode())
        except (ValueError, RecursionError) as error:
            raise _wrong(name, kind, "it is neither JSON nor a .npy file", "not_numbers") from error
    if isinstance(value, bool) or not isinstance(value, int | float | list):
        raise _wrong(name, kind, f"{type(value).__name__} came", "not_numbers")
    rows = value if isinstance(value, list) else [value]
    flat = [one for row in rows for one in (row if isinstance(row, list) else [row])]
    if gaps:  # null is a number that is missing
        flat = [one for one in flat if one is not None]
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in flat):
        raise _wrong(name, kind, "not all of it are numbers", "not_numbers")
    if len(flat) > max(most, settings.max_numbers):
        raise _too_many_numbers(name, most)
    if not all(abs(one) < 1e38 for one in flat):  # of int and float alike, NaN included
        raise _wrong(name, kind, "NaN, infinity or a number too large for float32 is among them", "not_finite")
    if not flat:
        raise _wrong(name, kind, "there is none", "empty")
    return value


def _array(name: str, content: bytes, kind: str, settings: ServeSettings, gaps: bool) -> np.ndarray:
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        count = math.prod(shape)
        if dtype.kind not in "iuf":
            raise _wrong(name, kind, f"the .npy file holds {dtype.kind!r} data, not numbers", "not_numbers")
        if count > settings.max_numbers:
            raise _too_many_numbers(name, settings.max_numbers)
        if not 0 < count * dtype.itemsize <= len(content):
            raise _wrong(name, kind, "the .npy file is empty or cut short", "not_numbers")
        file.seek(0)
        array = np.load(file, allow_pickle=False)
    except RequestError:
        raise
    except Exception as error:  # a damaged header raises whatever its bytes lead to
        raise _wrong(name, kind, "the .npy file is damaged", "not_numbers") from error
    if not (np.isfinite(array) | (gaps & np.isnan(array))).all():
        raise _wrong(name, kind, "NaN or infinity is among them", "not_finite")
    return array


_FILES: dict[str, Callable[[str, bytes, ServeSettings], None]] = {"image": _image, "audio": _audio, "video": _video}


def _wrong(name: str, kind: str, why: str, code: str | None = None) -> RequestError:
    return RequestError(422, code or f"bad_{kind}", f"{name}: {why}; send {_HOW[kind]}", name)


def _undecodable(name: str, kind: str, content: bytes, code: str) -> RequestError:
    return _wrong(name, kind, f"the file {why_unreadable(kind, content) or 'is none, or it is damaged'}", code)


def _too_many_pixels(name: str, info: str, settings: ServeSettings) -> RequestError:
    return RequestError(
        413, "image_too_large", f"{name}: {info} pixels; send {settings.max_pixels:,} at most, scaled down", name
    )


def _too_long(name: str, settings: ServeSettings) -> RequestError:
    return RequestError(
        413, "text_too_long", f"{name}: the text is too long; send {settings.max_text} characters at most", name
    )


def _too_many_numbers(name: str, most: int) -> RequestError:
    return RequestError(413, "too_many_numbers", f"{name}: too many numbers; send {most} at most", name)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} minutes"
