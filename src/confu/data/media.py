"""Kinds of media by a file's suffix and by its first bytes: the one table of both."""

from pathlib import PurePosixPath
from typing import NamedTuple

KINDS = ("image", "audio", "video", "text", "vector", "sequence", "number")
"""What a modality may hold."""

FILE_KINDS = ("image", "audio", "video")
ARRAY = "array"
"""A `.npy` or `.npz` file: a vector or a sequence, which only its shape can tell."""


class Format(NamedTuple):
    """A file format: its kind, the usual suffix, its content type, and bytes that begin such a file at their places."""

    kind: str
    suffix: str
    content_type: str
    marks: tuple[tuple[int, bytes], ...]


_DOWNLOAD = "application/octet-stream"  # browsers show none of these

# The first that fits decides. Few formats stand for many: any other `ftyp` is a film.
_FORMATS = (
    Format("image", ".png", "image/png", ((0, b"\x89PNG\r\n\x1a\n"),)),
    Format("image", ".jpg", "image/jpeg", ((0, b"\xff\xd8\xff"),)),
    Format("image", ".gif", "image/gif", ((0, b"GIF8"),)),
    Format("image", ".webp", "image/webp", ((8, b"WEBP"),)),
    Format("image", ".tif", "image/tiff", ((0, b"II*\0"),)),
    Format("image", ".tif", "image/tiff", ((0, b"MM\0*"),)),
    Format("image", ".bmp", "image/bmp", ((0, b"BM"), (6, b"\0\0\0\0"))),  # a text may begin with BM too
    Format("image", ".avif", "image/avif", ((4, b"ftypavif"),)),
    Format("audio", ".wav", "audio/wav", ((8, b"WAVE"),)),
    Format("audio", ".aiff", _DOWNLOAD, ((8, b"AIFF"),)),
    Format("audio", ".aiff", _DOWNLOAD, ((8, b"AIFC"),)),
    Format("audio", ".flac", "audio/flac", ((0, b"fLaC"),)),
    Format("audio", ".ogg", "audio/ogg", ((0, b"OggS"),)),
    Format("audio", ".mp3", "audio/mpeg", ((0, b"ID3"),)),
    Format("audio", ".mp3", "audio/mpeg", ((0, b"\xff\xfb"),)),
    Format("audio", ".mp3", "audio/mpeg", ((0, b"\xff\xf3"),)),
    Format("audio", ".m4a", "audio/mp4", ((4, b"ftypM4A"),)),
    Format("video", ".mp4", "video/mp4", ((4, b"ftyp"),)),
    Format("video", ".avi", _DOWNLOAD, ((8, b"AVI "),)),
    Format("video", ".webm", "video/webm", ((0, b"\x1aE\xdf\xa3"),)),
    Format(ARRAY, ".npy", "application/x-npy", ((0, b"\x93NUMPY"),)),
    Format(ARRAY, ".npz", _DOWNLOAD, ((0, b"PK\x03\x04"),)),
)
_MORE_SUFFIXES = {
    "image": (".jpeg", ".tiff", ".ppm", ".pgm"),
    "audio": (".oga", ".opus", ".aif", ".aac"),
    "video": (".m4v", ".mov", ".mkv", ".mpg", ".mpeg"),
}
_KIND_OF_SUFFIX = {
    **{known.suffix: known.kind for known in _FORMATS},
    **{suffix: kind for kind, suffixes in _MORE_SUFFIXES.items() for suffix in suffixes},
}


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case, `""` if it has none or if the name is more like a sentence.

    >>> suffix_of("photos/Cat.PNG"), suffix_of("A cat. It sleeps.")
    ('.png', '')
    """
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix[1:].isalnum() and "\n" not in name else ""


def kind_of_name(name: str) -> str | None:
    """The kind that a file's suffix tells of, `"array"` for `.npy` and `.npz`, None for any other.

    >>> kind_of_name("a.png"), kind_of_name("b.npy"), kind_of_name("a cat")
    ('image', 'array', None)
    """
    return _KIND_OF_SUFFIX.get(suffix_of(name))


def format_of(content: bytes) -> Format | None:
    """The format of a file by its first 16 bytes, or more of them; None for one that is not known.

    >>> format_of(b"RIFF....WAVEfmt ").content_type
    'audio/wav'
    """
    for known in _FORMATS:
        if all(content[offset : offset + len(mark)] == mark for offset, mark in known.marks):
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
