"""A full disk ends a job with one clear message."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# torch, numpy and safetensors have errors of their own: torch's says only that its file is shorter than it should be,
# numpy's has no number.
_SAID = (
    *("os error 28", "No space left on device", "PytorchStreamWriter failed", ". unexpected pos "),
    "cannot write the cache",
)


@contextmanager
def room_on_disk(folder: Path) -> Iterator[None]:
    """Say what to do when the disk is full; every file is written whole or not at all, so nothing is lost."""
    try:
        yield
    except Exception as error:
        said = any(words in str(error) for words in _SAID)
        if not said and not (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
            raise
        raise ValueError(
            f"the disk is full, or cannot be written ({error}). Nothing that was finished is lost: make room, or give "
            f"another folder for decoded files with --set data.cache=FOLDER; the same command goes on with {folder}"
        ) from error
