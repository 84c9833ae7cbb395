"""What one cell of a table may hold, its name in messages, and how its bytes or its numbers are reached.

A source is a file's address (a local path, or any that fsspec knows, such as "s3://bucket/a.png"), the bytes of a
file, or these in base64, an array, tensor or list of numbers, a number, a picture, or a text. Each reader says which
of them it takes. Tables are looked at without torch, so it is imported here only where tensors are made.
"""

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from confu.data.media import inline_content

Source: TypeAlias = Any
_IN_MEMORY = 32 * 2**20  # a longer file is read a second time rather than kept between hashing and decoding
_REMARKS: ContextVar[list[str] | None] = ContextVar("remarks", default=None)


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
    if is_tensor(source):
        return f"{str(source.dtype).removeprefix('torch.')} tensor {tuple(source.shape)}"
    if is_picture(source):
        return f"{source.mode} picture {source.size}"
    if isinstance(source, list | tuple):
        return f"{type(source).__name__} of {len(source)}"
    return repr(source)[:200]


def is_file(source: Source) -> TypeGuard[str | Path | bytes | Content]:
    """Whether a source is a file: its address or its bytes."""
    return isinstance(source, str | Path | bytes | Content)


def is_tensor(source: Source) -> bool:
    """Whether a source is a tensor; without torch there are none."""
    return "torch" in sys.modules and isinstance(source, sys.modules["torch"].Tensor)


def is_picture(source: Source) -> bool:
    """Whether a source is a Pillow image; without Pillow there are none."""
    return "PIL.Image" in sys.modules and isinstance(source, sys.modules["PIL.Image"].Image)


def is_missing(value: Any) -> bool:
    """Whether a cell says that there is nothing: None, NaN, and pandas' NaT and NA."""
    if isinstance(value, float | np.floating | np.datetime64):
        return bool(value != value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def remark(text: str) -> None:
    """Note something of the source that is being read, which is no error; the same words for all of a kind."""
    if (texts := _REMARKS.get()) is not None:
        texts.append(text)


@contextmanager
def remarks() -> Iterator[list[str]]:
    """Collect what readers remark in the block, in this thread.

    >>> with remarks() as texts:
    ...     remark("is silent")
    >>> texts
    ['is silent']
    """
    texts: list[str] = []
    token = _REMARKS.set(texts)
    try:
        yield texts
    finally:
        _REMARKS.reset(token)


def plain(source: Source) -> Source:
    """A source in one of the forms that readers know: of an open file its `Content`, of a dict its file or its samples.

    Taken are files opened in binary mode, bytearrays and memoryviews; the dicts `{"bytes", "path"}` and `{"array",
    "sampling_rate"}` and the audio decoders of Hugging Face data sets; what numpy can make an array of. Others stay.

    Raises:
        ValueError: a file that is opened as text, or a dict of other keys.

    >>> plain(BytesIO(b"abc")), plain({"bytes": None, "path": "a.png"})
    (Content(name='3 bytes', data=b'abc'), 'a.png')
    """
    if (
        source is None
        or isinstance(source, str | bytes | Path | Content | np.ndarray | np.generic)
        or is_tensor(source)
    ):
        return source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if hasattr(source, "read"):
        if source.seekable():
            source.seek(0)
        data = source.read()
        if not isinstance(data, bytes):
            raise ValueError(f"{name_of(source)}: is opened as text; open it in binary mode, open(name, 'rb')")
        return Content(str(getattr(source, "name", f"{len(data)} bytes")), data)
    if isinstance(source, Mapping):
        if source.get("array") is not None:
            return (source["array"], source["sampling_rate"]) if "sampling_rate" in source else source["array"]
        if source.get("bytes") is not None:
            return Content(source.get("path") or name_of(source["bytes"]), bytes(source["bytes"]))
        if source.get("path") is not None:
            return source["path"]
        raise ValueError(
            "expected a dict of bytes or path, or of array and, for a sound, sampling_rate, as Hugging Face data sets "
            f"have them; got the keys {', '.join(map(str, source))}"
        )
    if hasattr(source, "get_all_samples"):  # a decoder of torchcodec
        samples = source.get_all_samples()
        return samples.data, samples.sample_rate
    if hasattr(source, "__array__") and not is_picture(source):
        return np.asarray(source)
    return source


@contextmanager
def opened(source: str | Path | bytes | Content) -> Iterator[BufferedReader | BytesIO]:
    """A file to read and seek in; one that is not local is fetched whole.

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
    if isinstance(source, str) and (content := inline_content(source)) is not None:
        yield BytesIO(content)
        return
    if isinstance(source, str) and "://" in source:
        yield BytesIO(_fetch(source))
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


def _fetch(address: str) -> bytes:
    import fsspec

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
    source = plain(source)
    name = name_of(source)
    if is_file(source):
        array = _load_array(source, name)
    elif is_tensor(source):
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


def _load_array(source: str | Path | bytes | Content, name: str) -> np.ndarray:
    with opened(source) as file:
        try:
            stored = np.load(file, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                return stored
            names = stored.files
            if len(names) == 1:
                return stored[names[0]]
        except Exception as error:  # a damaged file raises whatever the bytes lead to
            raise ValueError(f"{name}: not readable as .npy or .npz ({error})") from error
    raise ValueError(f"{name}: expected one array in the .npz file; it holds {len(names)} ({', '.join(names)})")


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
    source = plain(source)
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
        return hasher.hexdigest(), source
    if _is_list_of_files(source):
        keys, contents = zip(*map(fingerprint, source))
        return hashlib.blake2b(repr(keys).encode(), digest_size=16).hexdigest(), list(contents)
    if is_picture(source):
        from PIL.ExifTags import Base

        palette = (source.getpalette() or [], source.info.get("transparency"), source.getexif().get(Base.Orientation))
        header, content = f"picture {source.mode} {source.size} {palette}", source.tobytes()
    elif isinstance(source, tuple) and len(source) == 2 and not isinstance(source[0], int | float):
        array = array_of(source[0])
        header, content = f"sound {array.dtype.str} {array.shape} {source[1]}", np.ascontiguousarray(array).data
    else:
        array = array_of(source)
        kind = "tensor" if is_tensor(source) else "array"  # their axes may be read in another order
        header, content = f"{kind} {array.dtype.str} {array.shape}", np.ascontiguousarray(array).data
    hasher.update(f"{header}\0".encode())
    hasher.update(content)
    return hasher.hexdigest(), source


def _is_list_of_files(source: Source) -> bool:
    return isinstance(source, list) and len(source) > 0 and all(is_file(plain(one)) for one in source)


def stacked(items: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
    """Items of one shape as one tensor; no item gives (0, *shape) of a type, float32 if it is None."""
    import torch

    if isinstance(items, torch.Tensor):
        return items
    return torch.stack(list(items)) if len(items) else torch.zeros(0, *shape, dtype=dtype or torch.float32)


def padded(items: Any, shape: tuple[int, ...] = ()) -> dict[str, Any]:
    """Items (length, *shape) that differ in length, with zeros to the longest.

    Returns:
        `values` (n, longest, *shape), and `mask` (n, longest), True at real steps.

    >>> import torch
    >>> padded([torch.ones(2), torch.ones(1)])["values"].tolist()
    [[1.0, 1.0], [1.0, 0.0]]
    """
    import torch

    lengths = [len(item) for item in items]
    values = torch.zeros(len(lengths), max(lengths, default=0), *shape)
    mask = torch.zeros(values.shape[:2], dtype=torch.bool)
    for row, (item, length) in enumerate(zip(items, lengths)):
        values[row, :length] = item
        mask[row, :length] = True
    return {"values": values, "mask": mask}
