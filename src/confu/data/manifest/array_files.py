"""The shape of an array in a `.npy` or `.npz` file; nothing is unpickled."""

import io
import zipfile

import numpy as np

from confu.data.manifest.address import BinaryFile, file_system


def shape_of_file(source: str | bytes) -> tuple[int, ...]:
    """The shape of the array in a `.npy`, or of the only one in a `.npz`.

    Args:
        source: a full address, or the file's content.

    Raises:
        ValueError: no such file, no array of numbers, or several arrays.
    """
    if isinstance(source, bytes):
        return _shape(io.BytesIO(source), "bytes")
    files, path = file_system(source)
    try:
        with files.open(path, "rb") as file:
            return _shape(file, source)
    except OSError as error:
        raise ValueError(f"{source}: cannot be read ({error})") from error


def _shape(file: BinaryFile, what: str) -> tuple[int, ...]:
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded.shape
        with loaded:
            if len(loaded.files) != 1:
                raise ValueError(f"expected one array; got {', '.join(loaded.files) or 'none'}")
            return loaded[loaded.files[0]].shape
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{what}: not readable as an array of numbers ({error})") from error
