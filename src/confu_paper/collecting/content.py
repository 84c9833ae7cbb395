"""What came over the wire, told from its first bytes and from what the server calls it."""

from typing import Literal

Kind = Literal["image", "audio"]
HEAD = 16  # bytes that are enough to tell

# Where the bytes stand, what they are, and the suffix of such files. The formats' own specifications say so.
_IMAGES = ((0, b"\xff\xd8\xff", ".jpg"), (0, b"\x89PNG\r\n\x1a\n", ".png"), (0, b"GIF8", ".gif"), (8, b"WEBP", ".webp"))
_AUDIO = (
    (8, b"WAVE", ".wav"), (0, b"ID3", ".mp3"), (0, b"fLaC", ".flac"), (0, b"OggS", ".ogg"), (4, b"ftyp", ".m4a"),
    (8, b"AIFF", ".aiff"), (8, b"AIFC", ".aiff"),
)  # fmt: skip
_UNSPECIFIC = ("", "application/octet-stream", "binary/octet-stream")  # S3 calls objects so that nobody described
_ALSO = {"audio": ("application/ogg", "video/ogg", "video/mp4", "application/x-flac"), "image": ()}


def suffix_of(head: bytes, kind: Kind) -> str | None:
    """The suffix of the file that begins with these bytes; None for anything that is not of this kind.

    Args:
        head: the first 16 bytes, or all of a shorter file.
        kind: "image" or "audio".

    >>> suffix_of(b"RIFF....WAVEfmt ", "audio"), suffix_of(b"<!DOCTYPE html><", "audio")
    ('.wav', None)
    """
    for start, mark, suffix in _IMAGES if kind == "image" else _AUDIO:
        if head[start : start + len(mark)] == mark:
            return suffix
    # An MP3 without a tag begins with a frame: eleven bits set, then a version and a layer that exist.
    bare = kind == "audio" and len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return ".mp3" if bare and head[1] & 0x18 != 0x08 and head[1] & 0x06 == 0x02 else None


def media_type(header: str | None) -> str:
    """A `Content-Type` without its parameters.

    >>> media_type("Text/HTML; charset=utf-8"), media_type(None)
    ('text/html', '')
    """
    return (header or "").split(";")[0].strip().lower()


def is_page(header: str | None, head: bytes) -> bool:
    """Whether a text stands where a file was asked for: an error page, often a passing one, whatever its status."""
    named = media_type(header)
    return named.startswith("text/") or named.endswith(("json", "xml", "html")) or head.lstrip()[:1] == b"<"


def is_called(header: str | None, kind: Kind) -> bool:
    """Whether the server calls its answer something that may be of this kind."""
    named = media_type(header)
    return named in _UNSPECIFIC or named.startswith(f"{kind}/") or named in _ALSO[kind]
