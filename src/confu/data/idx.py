"""The IDX files that MNIST comes in, plain or gzipped."""

import zlib
from pathlib import Path

import numpy as np

_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08


def read_idx(path: Path | str) -> np.ndarray:
    """Read one IDX file of unsigned bytes.

    The header is two zero bytes, the type, the number of dimensions, and each dimension as four bytes, high byte first.
    Whether the file is gzipped is read from its first bytes, not from its name.

    Raises:
        ValueError: no such file; no IDX file; no unsigned bytes; more or fewer bytes than the header says.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    content = path.read_bytes()
    note = ""
    if content[:2] == _GZIP:
        stream = zlib.decompressobj(wbits=31)  # `gzip` itself would drop the part that it read
        try:
            content = stream.decompress(content)
        except zlib.error as error:
            raise ValueError(f"{path}: the gzip stream is damaged ({error}); fetch the file again") from error
        note = "" if stream.eof else " (the gzip stream ends early)"
    if len(content) < 4 or content[:2] != b"\0\0" or not content[3]:
        raise ValueError(f"{path}: no IDX file: expected it to start with two zero bytes, got {content[:4].hex(' ')!r}")
    if content[2] != _UNSIGNED_BYTE:
        raise ValueError(f"{path}: expected unsigned bytes (type 0x08), got type 0x{content[2]:02x}")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start].ljust(start - 4, b"\0"), dtype=">u4").tolist())
    expected = start + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected or note:
        raise ValueError(
            f"{path}: expected {expected} bytes for dimensions {shape}, found {len(content)}{note}; fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def read_mnist(folder: Path | str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the four files of MNIST.

    Args:
        folder: holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
            `t10k-labels-idx1-ubyte`, each with or without `.gz`.

    Returns:
        "train" and "test": images (n, 28, 28) and labels (n,), both uint8.

    Raises:
        ValueError: a folder or file is missing, damaged or of another size.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; expected the four IDX files of MNIST in it")
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images_file = _find(folder, f"{prefix}-images-idx3-ubyte")
        labels_file = _find(folder, f"{prefix}-labels-idx1-ubyte")
        images, labels = read_idx(images_file), read_idx(labels_file)
        if images.shape[1:] != (28, 28):
            raise ValueError(f"{images_file}: expected images of 28 x 28, got dimensions {images.shape}")
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{labels_file}: expected {len(images)} labels, one an image, got {labels.shape}")
        if len(labels) and labels.max() > 9:
            raise ValueError(f"{labels_file}: expected digits 0 to 9, got {labels.max()}")
        parts[part] = (images, labels)
    return parts


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise ValueError(f"{folder}: holds neither {name} nor {name}.gz, a file of MNIST")
