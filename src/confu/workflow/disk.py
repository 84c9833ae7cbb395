"""A full disk ends a job with one clear message."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def room_on_disk(folder: Path) -> Iterator[None]:
    """Say what to do when the disk is full; every file is written whole or not at all, so nothing is lost."""
    try:
        yield
    except Exception as error:
        # torch and safetensors have errors of their own, and say in the text what the system said.
        said = any(words in str(error) for words in ("os error 28", "No space left on device"))
        if not said and not (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
            raise
        raise ValueError(
            f"the disk is full ({error}). Nothing that was finished is lost: make room, or give another folder for "
            f"decoded files with --set data.cache=FOLDER; the same command goes on with {folder}"
        ) from error
