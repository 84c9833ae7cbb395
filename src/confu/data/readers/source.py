"""What one cell of a table may hold, its name in messages, and how its bytes or its numbers are reached.

A source is a file's address (a local path, or any that fsspec knows, such as "s3://bucket/a.png"), the bytes of a
file, an array, tensor or list of numbers, a number, a picture, or a text. Each reader says which of them it takes.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import fsspec
import numpy as np
from PIL import Image
from torch import Tensor

Source: TypeAlias = Any
_IN_MEMORY = 32 * 2**20  # a longer file is read a second time rather than kept between hashing and decoding


@dataclass(frozen=True)
class Content:
    """The bytes of a file that was read already, with its name for messages."""

    name: str
    data: bytes


def name_of(source: Source) -> str:
    """How a message calls a source.

    >>> name_of("photos/a.png"), name_of(b"123"), name_of(np.zeros((2, 3)))
    ('photos/a.png', '3 bytes', 'float64 array (2, 3)')
    """
    if isinstance(source, Content):
        return source.name
    if isinstance(source, str | Path):
        text = str(source)
        return text if len(text) <= 200 else f"{text[:200]}..."
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    if isinstance(source, np.ndarray):
        return f"{source.dtype} array {source.shape}"
    if isinstance(source, Tensor):
        return f"{str(source.dtype).removeprefix('torch.')} tensor {tuple(source.shape)}"
    if isinstance(source, Image.Image):
        return f"{source.mode} picture {source.size}"
    if isinstance(source, list | tuple):
        return f"{type(source).__name__} of {len(source)}"
    return repr(source)[:200]


def is_file(source: Source) -> TypeGuard[str | Path | bytes | Content]:
    """Whether a source is a file: its address or its bytes."""
    return isinstance(source, str | Path | bytes | Content)


@contextmanager
def opened(source: str | Path | bytes | Content) -> Iterator[BufferedReader | BytesIO]:
    """A file to read and seek in. One that is not local is fetched whole.

    Args:
        source: a path, an address with a protocol ("memory://a.png"), or the bytes.

    Raises:
        ValueError: no such file, or one that cannot be read.
        ImportError: the address needs a package that is not installed.

    >>> with opened(b"abc") as file:
    ...     file.read()
    b'abc'
    """
    if isinstance(source, bytes | Content):
        yield BytesIO(source if isinstance(source, bytes) else source.data)
        return
    if isinstance(source, str) and ("://" in source or "::" in source):
        yield BytesIO(_fetched(source))
        return
    path = Path(source)
    try:
        if not path.is_file():  # a pipe would wait for ever
            raise ValueError("not a file" if path.exists() else "no such file")
        file = path.open("rb")
    except (OSError, ValueError) as error:  # ValueError too of a null character in a path
        raise ValueError(f"{name_of(source)}: cannot be read: {error}") from error
    with file:
        yield file


def _fetched(address: str) -> bytes:
    try:
        system, path = fsspec.url_to_fs(address)
        return system.cat_file(path)
    except FileNotFoundError as error:
        raise ValueError(f"{address}: cannot be read: no such file") from error
    except ImportError:
        raise
    except Exception as error:  # each storage has its own: all mean that this source cannot be had
        raise ValueError(f"{address}: cannot be read: {type(error).__name__}: {error}") from error


def array_of(source: Source) -> np.ndarray:
    """The numbers of a source: an array, a tensor, nested lists, a number, or a file `.npy` or `.npz` of one array.

    Raises:
        ValueError: no numbers, lists of differing length, or a file that numpy does not read without pickle.

    >>> array_of([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    name = name_of(source)
    if is_file(source):
        array = _stored_array(source, name)
    elif isinstance(source, Tensor):
        source = source.detach().cpu()
        array = (source.float() if source.is_floating_point() and source.itemsize < 4 else source).numpy()
    elif isinstance(source, np.ndarray | np.generic | list | tuple | int | float):
        try:
            array = np.asarray(source)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name}: its rows differ in length, or are no numbers ({error})") from error
    else:
        raise ValueError(f"{name}: expected an array, a list of numbers or a .npy file; got {type(source).__name__}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name}: expected numbers; got {array.dtype} (an empty value or a text among them?)")
    return array


def _stored_array(source: str | Path | bytes | Content, name: str) -> np.ndarray:
    with opened(source) as file:
        try:
            stored = np.load(file, allow_pickle=False)
            if not isinstance(stored, np.ndarray):
                names = stored.files
                stored = stored[names[0]] if len(names) == 1 else names
        except Exception as error:  # a damaged file raises whatever the bytes lead to
            raise ValueError(f"{name}: not readable as .npy or .npz ({error})") from error
    if isinstance(stored, list):
        raise ValueError(f"{name}: expected one array in the .npz file; it holds {len(stored)} ({', '.join(stored)})")
    return stored


def fingerprint(source: Source) -> tuple[str, Source]:
    """A hash of what a source holds, and the source, with the bytes of its file where they are not too many.

    A file has the same hash as its bytes, wherever it lies; an array's hash depends on its type and shape too.

    Returns:
        32 hexadecimal digits (128 bits of BLAKE2), and what the reader shall read.

    Raises:
        ValueError: a file that cannot be read, or numbers that are none.

    >>> fingerprint(b"abc")[0]
    '17b37822ccfa3c3014b660992049bd6f'
    """
    hasher = hashlib.blake2b(digest_size=16)
    if is_file(source):
        hasher.update(b"file\0")
        with opened(source) as file:
            start = file.read(_IN_MEMORY)
            hasher.update(start)
            if len(start) < _IN_MEMORY:
                return hasher.hexdigest(), Content(name_of(source), start)
            while block := file.read(2**20):
                hasher.update(block)
    elif isinstance(source, Image.Image):
        palette = (source.getpalette() or [], source.info.get("transparency"), source.getexif().get(0x0112))
        hasher.update(f"picture {source.mode} {source.size} {palette}\0".encode())
        hasher.update(source.tobytes())
    elif isinstance(source, tuple) and len(source) == 2 and not isinstance(source[0], int | float):
        array = array_of(source[0])
        hasher.update(f"sound {array.dtype.str} {array.shape} {source[1]}\0".encode())
        hasher.update(np.ascontiguousarray(array).data)
    else:
        array = array_of(source)
        kind = "tensor" if isinstance(source, Tensor) else "array"  # their axes may be read in another order
        hasher.update(f"{kind} {array.dtype.str} {array.shape}\0".encode())
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest(), source
