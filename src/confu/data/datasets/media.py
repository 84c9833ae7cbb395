"""A data set of pictures, sounds and texts from listed rows, in which a file that cannot be read is named."""

from collections.abc import Mapping
from pathlib import Path

from confu.data.dataset import ArrayDataset
from confu.data.datasets.birds import BirdRows
from confu.data.readers import Reader


def media_dataset(
    rows: BirdRows,
    readers: Mapping[str, Reader],
    cache: Path | str,
    workers: int = 0,
    progress: bool = True,
) -> tuple[ArrayDataset, list[str]]:
    """Still images, sounds and texts of listed rows, decoded once into the cache.

    Args:
        rows: with a source for each of the readers.
        readers: by modality, in the order that the data set shall have, e.g. {"image": ..., "audio": ..., "text": ...}.
        cache: as for `confu.data.cache.decoded_column`.
        workers: threads that read.
        progress: whether to draw a progress bar; the problems found are summed up beside it.

    Returns:
        The data set, and one line for each file that could not be read. Its row lacks that modality; a row of which
        nothing is left is not in the data set.

    Raises:
        ValueError: a modality without a source, or nothing that can be read.
    """
    raise NotImplementedError
