"""What kind of data a file's suffix or its first bytes tell of."""

from pathlib import PurePosixPath

KINDS = ("image", "audio", "video", "text", "vector", "sequence", "number")
"""What a modality may hold."""

ROLES = ("id", "label", "split", "group")
"""Columns that are no modality, known by these names."""

ARRAY = "array"
"""A `.npy` or `.npz` file: a vector or a sequence, which only its shape can tell."""

_SUFFIXES = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
    "audio": (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".m4a", ".aac"),
    "video": (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"),
    ARRAY: (".npy", ".npz"),
}
_KIND_OF_SUFFIX = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes}

# (offset, bytes found there, kind); the first that fits decides
_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "image"),
    (0, b"\xff\xd8\xff", "image"),
    (0, b"GIF8", "image"),
    (0, b"II*\x00", "image"),
    (0, b"MM\x00*", "image"),
    (8, b"WEBP", "image"),
    (8, b"WAVE", "audio"),
    (8, b"AIFF", "audio"),
    (8, b"AVI ", "video"),
    (0, b"fLaC", "audio"),
    (0, b"OggS", "audio"),
    (0, b"ID3", "audio"),
    (0, b"\xff\xfb", "audio"),
    (0, b"\xff\xf3", "audio"),
    (4, b"ftypM4A", "audio"),
    (4, b"ftyp", "video"),
    (0, b"\x1aE\xdf\xa3", "video"),
    (0, b"\x93NUMPY", ARRAY),
    (0, b"PK\x03\x04", ARRAY),
)


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


def kind_of_bytes(content: bytes) -> str | None:
    r"""The kind that a file's first bytes tell of, `"array"` for `.npy` and `.npz`; text if it is UTF-8.

    >>> kind_of_bytes(b"RIFF....WAVEfmt "), kind_of_bytes("Zoë".encode()), kind_of_bytes(b"\x80\x04\x95")
    ('audio', 'text', None)
    """
    for offset, signature, kind in _SIGNATURES:
        if content[offset : offset + len(signature)] == signature:
            return kind
    try:
        content.decode()
    except UnicodeDecodeError:
        return None
    return None if b"\0" in content else "text"
