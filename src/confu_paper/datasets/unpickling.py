"""Pickles of numpy arrays, read without running what they ask for.

A pickle may name any function of any module and have it called. Here the few names that arrays and containers are
pickled with are answered by stand-ins of our own, which keep what they are given and check it; every other name is
refused. Not even numpy's own `__setstate__` is called, as it trusts what it is given.
"""

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_PLAIN_TYPE = re.compile(r"[<>=|]?[biufcSUO]\d*")


def read_numpy_pickle(path: Path | str) -> Any:
    """Read a pickle of numpy arrays, numbers, texts and Python's containers; anything else in it is refused.

    Pickles of any protocol and of Python 2 are read; texts of Python 2 as Latin-1. Arrays may be read-only, as they
    share the memory of the bytes that were read.

    Args:
        path: of the file.

    Returns:
        what was pickled, arrays as `numpy.ndarray`.

    Raises:
        ValueError: no such file, one cut short or no pickle, one that names anything but the above (with the name), or
            an array of objects, structures or dates in a form that is not read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "data.pkl"
        ...     _ = file.write_bytes(pickle.dumps({"train": np.arange(3)}))
        ...     read_numpy_pickle(file)
        {'train': array([0, 1, 2])}
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the pickle's path")
    try:
        with path.open("rb") as file:
            return _with_arrays(_NumpyUnpickler(file, encoding="latin1").load(), {})
    except _RefusedError as error:
        raise ValueError(f"{path}: {error}") from error
    except MemoryError as error:
        raise ValueError(f"{path}: does not fit in memory, or is damaged; check its size") from error
    except Exception as error:  # damaged bytes make the unpickler raise errors of almost any type
        raise ValueError(
            f"{path}: cut short, damaged, or no pickle ({type(error).__name__}: {error}); fetch it again"
        ) from error


class _RefusedError(pickle.UnpicklingError):
    """What the file asks for is not what a file of arrays needs."""


class _NumpyUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        package, _, rest = module.partition(".")
        if package == "numpy":
            module = f"numpy.{rest.removeprefix('_')}" if rest else package  # numpy 2 renamed core to _core
        allowed = _ALLOWED.get((module, name))
        if allowed is None:
            raise _RefusedError(
                f"the pickle holds {module}.{name}, and only numpy arrays and Python's containers are read, as "
                "anything else could run code. If you trust the file, load it elsewhere and pickle its arrays anew"
            )
        return allowed


class _Function:
    """A function that a pickle may call, and whose attributes it cannot change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise _RefusedError("the pickle changes a function; it was not written by numpy")


class _DType:
    """Stands in for `numpy.dtype`."""

    def __init__(self, text: object, *_: object) -> None:
        if not (isinstance(text, str) and _PLAIN_TYPE.fullmatch(text)):
            raise _RefusedError(f"the pickle holds an array of type {text!r}; numbers, texts and objects are read")
        self.value = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        if len(state) > 8 or any(part is not None for part in state[2:5]):
            raise _RefusedError("the pickle holds an array of structures or dates; numbers and texts are read")
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """Stands in for `numpy.ndarray`; `_with_arrays` puts `value` in its place."""

    value: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        if isinstance(content, str):  # bytes of Python 2
            content = content.encode("latin1")
        self.value = _array(content, dtype.value, shape, "F" if fortran else "C")


def _array(content: Any, dtype: np.dtype, shape: tuple[int, ...], order: Any = "C") -> np.ndarray:
    size = math.prod(shape)
    if dtype.hasobject:
        if not isinstance(content, list) or len(content) != size:
            raise _RefusedError(f"an array of {size} objects holds {type(content).__name__} in their place")
        return _objects(content).reshape(shape, order=order)
    if min(shape, default=0) < 0 or len(content) != size * dtype.itemsize:
        raise _RefusedError(
            f"an array of shape {shape} and type {dtype} holds {len(content)} bytes instead of {size * dtype.itemsize}"
        )
    if not len(content):
        return np.empty(shape, dtype)  # np.frombuffer refuses no bytes
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _objects(content: list[Any]) -> np.ndarray:
    flat = np.empty(len(content), dtype=object)
    for i, one in enumerate(content):  # all at once, numpy would look into objects that have a length
        flat[i] = one
    return flat


def _from_buffer(content: Any, dtype: _DType, shape: tuple[int, ...], order: str, axes: Any = None) -> _Array:
    array = _Array()
    if order == "K":
        array.value = _array(content, dtype.value, shape).transpose(axes)
    else:
        array.value = _array(content, dtype.value, shape, order)
    return array


def _scalar(dtype: _DType, content: Any) -> Any:
    if isinstance(content, str):
        content = content.encode("latin1")
    return _array(content, dtype.value, (1,))[0]


def _bytes(text: str, encoding: str) -> bytes:
    # How protocol 2 writes bytes. Other codecs are no texts: some decompress, without a limit.
    if encoding != "latin1":
        raise _RefusedError(f"the pickle encodes bytes with {encoding!r}; latin1 is what Python writes")
    return text.encode("latin1")


_CONTAINERS = {one.__name__: one for one in (set, frozenset, bytes, bytearray, complex)}
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _Function(lambda *_: _Array()),
    ("numpy.core.multiarray", "scalar"): _Function(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Function(_from_buffer),
    ("_codecs", "encode"): _Function(_bytes),
    **{(module, name): one for module in ("builtins", "__builtin__") for name, one in _CONTAINERS.items()},
}


def _with_arrays(value: Any, done: dict[int, Any]) -> Any:
    """The value with its arrays in place of the stand-ins; each object once, however often it is referred to."""
    if id(value) in done:
        return done[id(value)]
    new = done[id(value)] = value
    if isinstance(value, _Array):
        new = value.value
        if new.dtype.hasobject:
            new = _objects([_with_arrays(one, done) for one in new.flat]).reshape(new.shape)
    elif isinstance(value, _DType):
        new = value.value
    elif isinstance(value, list):
        value[:] = [_with_arrays(one, done) for one in value]
    elif isinstance(value, dict):
        value.update({key: _with_arrays(one, done) for key, one in value.items()})
    elif isinstance(value, tuple):
        new = tuple(_with_arrays(one, done) for one in value)
    done[id(value)] = new
    return new
