"""What is said where a device runs out of memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SAID = ("can't allocate memory", "not enough memory", "MPS backend out of memory")
"""What torch says, in a plain RuntimeError, where the memory is the CPU's or an Apple chip's."""


@contextmanager
def memory_needed(batch_size: int, chunk: int | None) -> Iterator[None]:
    """Say which setting helps if what is done inside runs out of the device's memory.

    Args:
        batch_size: of the step.
        chunk: rows encoded at once, or None for all.

    Raises:
        ValueError: instead of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and not any(words in str(error) for words in _SAID):
            raise
        tried = "all its rows encoded at once" if chunk is None else f"{chunk} rows encoded at once"
        advice = (
            f"Set chunk, e.g. to {max(1, batch_size // 4)}: the same step with fewer rows in memory"
            if chunk is None
            else f"Lower chunk, e.g. to {max(1, min(chunk, batch_size) // 2)}"
        )
        # Of torch's text only the first sentences: the rest is about its allocator.
        said = ". ".join(str(error).split(". ")[:2])
        raise ValueError(
            f"a step of batch_size {batch_size} with {tried} does not fit in the device's memory ({said}). {advice}; "
            "or lower batch_size."
        ) from error
