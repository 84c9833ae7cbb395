"""File formats by suffix and by first bytes: the one table, with what to do about those that no reader decodes."""

import base64
import binascii
import re
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

KINDS = ("image", "audio", "video", "text", "vector", "sequence", "number", "table")
"""What a modality may hold."""

FILE_KINDS = ("image", "audio", "video")
ARRAY = "array"
"""A `.npy` or `.npz` file: a vector or a sequence, which only its shape can tell."""

HEAD = 64
"""Bytes from the start of a file that are enough to tell its format."""


class Format(NamedTuple):
    """A file format.

    Attributes:
        kind: what such a file holds.
        suffixes: of its files, the usual one first.
        content_type: for a browser.
        marks: alternatives; each is pairs of an offset and the bytes that stand there. None: only the suffix tells.
        help: how to make such a file readable; "" if a reader decodes it.
    """

    kind: str
    suffixes: tuple[str, ...]
    content_type: str
    marks: tuple[tuple[tuple[int, bytes], ...], ...] = ()
    help: str = ""

    @property
    def suffix(self) -> str:
        """The usual suffix."""
        return self.suffixes[0]

    @property
    def name(self) -> str:
        """For messages, e.g. "HEIC"."""
        return self.suffix[1:].upper()


_DOWNLOAD = "application/octet-stream"  # browsers show none of these


def _starts(*marks: bytes, at: int = 0) -> tuple[tuple[tuple[int, bytes], ...], ...]:
    return tuple(((at, mark),) for mark in marks)


def _riff(*forms: bytes, outer: bytes = b"RIFF") -> tuple[tuple[tuple[int, bytes], ...], ...]:
    return tuple(((0, outer), (8, form)) for form in forms)


def _to_png(suffix: str) -> str:
    return f"convert it: magick a{suffix} a.png"


def _to_flac(suffix: str) -> str:
    return f"convert it: ffmpeg -i a{suffix} a.flac"


_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"

# The first that fits decides. Few formats stand for many: any other `ftyp` is a film.
_FORMATS = (
    Format("image", (".png", ".apng"), "image/png", _starts(b"\x89PNG\r\n\x1a\n")),
    Format("image", (".jpg", ".jpeg", ".jfif", ".jpe"), "image/jpeg", _starts(b"\xff\xd8\xff")),
    Format("image", (".gif",), "image/gif", _starts(b"GIF8")),
    Format("image", (".webp",), "image/webp", _riff(b"WEBP")),
    Format("image", (".tif", ".tiff"), "image/tiff", _starts(b"II*\0", b"MM\0*")),
    Format("image", (".bmp", ".dib"), "image/bmp", (((0, b"BM"), (6, b"\0\0\0\0")),)),  # a text may begin with BM too
    Format("image", (".avif", ".avifs"), "image/avif", _starts(b"ftypavif", b"ftypavis", at=4)),
    Format(
        *("image", (".jp2", ".j2k", ".jpf", ".jpx", ".j2c"), "image/jp2"),
        _starts(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    ),
    Format("image", (".ppm", ".pgm", ".pbm", ".pnm"), _DOWNLOAD, _starts(b"P4\n", b"P5\n", b"P6\n")),
    Format(
        *("image", (".heic", ".heif", ".hif"), "image/heic"),
        _starts(*(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1")), at=4),
        "" if find_spec("pillow_heif") else "pip install pillow-heif, or convert it: magick a.heic a.png",
    ),
    Format("image", (".jxl",), "image/jxl", _starts(b"\xff\x0a", b"\0\0\0\x0cJXL "), _to_png(".jxl")),
    Format("image", (".svg",), _DOWNLOAD, _starts(b"<svg"), _to_png(".svg")),
    Format("image", (".psd",), _DOWNLOAD, _starts(b"8BPS"), _to_png(".psd")),
    Format("image", (".ico",), _DOWNLOAD, _starts(b"\0\0\1\0"), _to_png(".ico")),
    Format("image", (".exr",), _DOWNLOAD, _starts(b"v/1\x01"), _to_png(".exr")),
    Format("audio", (".wav", ".wave", ".bwf"), "audio/wav", (*_riff(b"WAVE"), *_riff(b"WAVE", outer=b"RF64"))),
    Format("audio", (".aiff", ".aif", ".aifc"), _DOWNLOAD, _riff(b"AIFF", b"AIFC", outer=b"FORM")),
    Format("audio", (".flac",), "audio/flac", _starts(b"fLaC")),
    Format("audio", (".ogg", ".oga", ".opus"), "audio/ogg", _starts(b"OggS")),
    # Frames of MPEG 1, 2 and 2.5, layer III, with and without a checksum.
    Format(
        *("audio", (".mp3",), "audio/mpeg"),
        _starts(b"ID3", *(bytes([0xFF, byte]) for byte in (0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2))),
    ),
    Format("audio", (".w64",), _DOWNLOAD, _starts(b"riff\x2e\x91\xcf\x11")),
    Format("audio", (".caf",), _DOWNLOAD, _starts(b"caff")),
    Format("audio", (".au", ".snd"), _DOWNLOAD, _starts(b".snd")),
    Format("audio", (".m4a", ".m4b"), "audio/mp4", _starts(b"ftypM4A", b"ftypM4B", at=4), _to_flac(".m4a")),
    Format("audio", (".aac",), "audio/aac", _starts(b"\xff\xf1", b"\xff\xf9"), _to_flac(".aac")),
    Format("audio", (".amr", ".awb"), _DOWNLOAD, _starts(b"#!AMR"), _to_flac(".amr")),
    Format("audio", (".wv",), _DOWNLOAD, _starts(b"wvpk"), _to_flac(".wv")),
    Format("audio", (".ape",), _DOWNLOAD, _starts(b"MAC "), _to_flac(".ape")),
    # Containers of films and of sounds alike: only the suffix tells.
    Format("audio", (".wma",), _DOWNLOAD, (), _to_flac(".wma")),
    Format("audio", (".mka", ".weba"), _DOWNLOAD, (), _to_flac(".mka")),
    Format("video", (".mp4", ".m4v", ".mov", ".3gp"), "video/mp4", _starts(b"ftyp", at=4)),
    Format("video", (".avi",), _DOWNLOAD, _riff(b"AVI ")),
    Format("video", (".webm", ".mkv"), "video/webm", _starts(b"\x1aE\xdf\xa3")),
    Format("video", (".wmv", ".asf"), _DOWNLOAD, _starts(_ASF)),
    Format("video", (".flv",), _DOWNLOAD, _starts(b"FLV\x01")),
    Format("video", (".mpg", ".mpeg"), _DOWNLOAD, _starts(b"\0\0\1\xba", b"\0\0\1\xb3")),
    Format("video", (".ogv",), "video/ogg"),
    Format(ARRAY, (".npy",), "application/x-npy", _starts(b"\x93NUMPY")),
    Format(ARRAY, (".npz",), _DOWNLOAD, _starts(b"PK\x03\x04")),
)
_FORMAT_OF_SUFFIX = {suffix: known for known in _FORMATS for suffix in known.suffixes}

_NO_MEDIA = (
    (b"<!doctype html", "is a web page: the download failed, fetch the file again"),
    (b"<html", "is a web page: the download failed, fetch the file again"),
    (b"version https://git-lfs", "is a pointer of Git LFS and not the file: run git lfs pull"),
    (b"%pdf", "is a PDF; convert it: pdftoppm -png a.pdf a"),
)
_LEAST_BASE64 = 64  # letters: shorter ones may be names
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-]+={0,2}")


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case, `""` if it has none or if the name is more like a sentence.

    >>> [suffix_of(name) for name in ("photos/Cat.PNG", "https://a.org/cat.png?w=200", "A cat. It sleeps.", "1.50")]
    ['.png', '.png', '', '']
    """
    if "://" in name:
        name = name.partition("::")[0]  # of a file in an archive
    if name[:8].lower().startswith(("http://", "https://")):
        try:
            name = urlsplit(name).path
        except ValueError:  # brackets where a host should be
            return ""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix[1:].isalnum() and not suffix[1:].isdecimal() and "\n" not in name else ""


def format_of_name(name: str) -> Format | None:
    """The format that a file's suffix tells of; None for any other."""
    return _FORMAT_OF_SUFFIX.get(suffix_of(name))


def kind_of_name(name: str) -> str | None:
    """The kind that a file's suffix tells of, `"array"` for `.npy` and `.npz`, None for any other.

    >>> kind_of_name("a.png"), kind_of_name("b.npy"), kind_of_name("a cat")
    ('image', 'array', None)
    """
    known = format_of_name(name)
    return None if known is None else known.kind


def format_of(content: bytes) -> Format | None:
    """The format of a file by its first 16 bytes, or more of them; None for one that is not known.

    >>> format_of(b"RIFF....WAVEfmt ").content_type
    'audio/wav'
    """
    for known in _FORMATS:
        if any(all(content.startswith(mark, offset) for offset, mark in marks) for marks in known.marks):
            return known
    return None


def kind_of_bytes(content: bytes) -> str | None:
    r"""The kind that a file's bytes tell of, `"array"` for `.npy` and `.npz`; text if it is UTF-8.

    >>> kind_of_bytes(b"RIFF....WAVEfmt "), kind_of_bytes("Zoë".encode()), kind_of_bytes(b"\x80\x04\x95")
    ('audio', 'text', None)
    """
    known = format_of(content)
    if known is not None:
        return known.kind
    try:
        content.decode()
    except UnicodeDecodeError:
        return None
    return None if b"\0" in content else "text"


def why_unreadable(kind: str, content: bytes) -> str:
    r"""Why a file that begins so is not read as a kind, and what to do; "" where its first bytes do not tell.

    >>> why_unreadable("image", b"8BPS")
    'is PSD, which is not read; convert it: magick a.psd a.png'
    >>> why_unreadable("image", b"RIFF....WAVEfmt ")
    'is WAV, a format of audio; expected image'
    """
    if not content:
        return "is empty; fetch the file again, or remove it"
    start = content.lstrip().lower()
    for mark, why in _NO_MEDIA:
        if start.startswith(mark):
            return why
    known = format_of(content)
    if known is None or (known.kind == kind and not known.help):
        return ""
    if known.kind == kind:
        return f"is {known.name}, which is not read; {known.help}"
    if (kind, known.kind) == ("audio", "video"):  # or a sound in a container of films
        suffix = ".wma" if known.suffix == ".wmv" else known.suffix
        return f"is {suffix[1:].upper()}, which is not read as sound; {_to_flac(suffix)}"
    return f"is {known.name}, a format of {'arrays' if known.kind == ARRAY else known.kind}; expected {kind}"


def inline_content(text: str) -> bytes | None:
    """The bytes of a file that stands in a text itself: a `data:` URI, or base64 of a known format; else None.

    Raises:
        ValueError: a `data:` URI whose base64 is damaged.

    >>> inline_content("data:text/plain,a%20cat"), inline_content("photos/cat.png")
    (b'a cat', None)
    """
    if text[:5].lower() == "data:" and "," in text:
        head, _, payload = text.partition(",")
        content = unquote_to_bytes(payload)
        if not head.lower().endswith(";base64"):
            return content
        try:
            return _decoded(content)
        except binascii.Error as error:
            raise ValueError(f"{text[:40]}...: not readable as base64 ({error})") from error
    if len(text) < _LEAST_BASE64 or format_of(_start_of_base64(text)) is None:
        return None
    letters = "".join(text.split())
    if not _BASE64.fullmatch(letters):
        return None
    try:
        return _decoded(letters.encode())
    except binascii.Error:
        return None


def _start_of_base64(text: str) -> bytes:
    start = text[:_LEAST_BASE64].lstrip()[:32]
    return _decoded(start.encode()) if len(start) == 32 and _BASE64.fullmatch(start) else b""


def _decoded(letters: bytes) -> bytes:
    """Base64 of either alphabet, with or without the `=` at its end."""
    letters = b"".join(letters.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
