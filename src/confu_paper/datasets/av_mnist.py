"""AV-MNIST: weakened digits, spoken digits in noise, and captions. Reads MultiBench's files and our own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import confu.data

MODALITIES = ("image", "audio", "text")
_PIXELS = {"image": 28 * 28, "audio": 112 * 112}
_SHAPES = {"image": (1, 28, 28), "audio": (1, 112, 112)}


def num_validation(rows: int) -> int:
    """How many of the last training rows are for validation: 5,000 of 60,000, and the same share of a smaller set.

    >>> num_validation(60_000)
    5000
    """
    return max(1, rows // 12)


def load_av_mnist(
    folder: Path | str,
    mmap: bool = True,
    train_limit: int | None = None,
    validation_limit: int | None = None,
    test_limit: int | None = None,
    modalities: Sequence[str] = MODALITIES,
    deduplicate: bool = True,
    time_shift: int = 0,
) -> "confu.data.Splits":
    """Load AV-MNIST from a folder in MultiBench's layout, as published or as `build_av_mnist` writes it.

    `image/{train,test}_data.npy` (n, 784), `audio/{train,test}_data.npy` (n, 112, 112), `{train,test}_labels.npy`,
    numbers of any type from 0 to 255. Training is the first 55,000 of the 60,000, validation the last 5,000.

    Args:
        folder: of the files.
        mmap: read rows from disk as they are needed; False loads all (0.9 GB as built here).
        train_limit: keep only so many of the first training rows; likewise the other limits.
        validation_limit: see `train_limit`.
        test_limit: see `train_limit`.
        modalities: which to load.
        deduplicate: encode captions that repeat in a batch once; see `CaptionColumn`.
        time_shift: shift the training spectrograms at random by up to so many of their 112 frames (`shift_time`).

    Returns:
        Splits with `image` (n, 1, 28, 28) and `audio` (n, 1, 112, 112), float in 0 to 1, and `text` tokens.

    Raises:
        ValueError: a folder or file is missing, damaged, or of another shape; an unknown modality; a
            time shift outside the sound.

    Reference: section 5.2, appendices A.3 and D.3.
    """
    import torch

    from confu.data import ArrayDataset, Splits, TensorColumn
    from confu_paper.datasets.av_mnist_sound import shift_time
    from confu_paper.datasets.spoken_digits import DIGIT_WORDS, digit_captions

    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; build AV-MNIST there, or unpack MultiBench's files")
    unknown = [name for name in modalities if name not in MODALITIES]
    if unknown or not modalities:
        raise ValueError(f"modalities: expected some of {', '.join(MODALITIES)}; got {list(modalities)}")
    if not 0 <= time_shift <= 112:
        raise ValueError(f"time_shift: expected 0 to 112 frames; got {time_shift}")

    def shift_audio(values: torch.Tensor) -> torch.Tensor:
        return shift_time(values.reshape(-1, 112, 112), time_shift)

    def split(name: str, part: str, rows: slice, seed: int) -> ArrayDataset:
        arrays, all_labels = parts[part]
        labels = torch.from_numpy(all_labels[rows])
        columns = {}
        for modality in modalities:
            if modality == "text":
                columns[modality] = digit_captions(labels, (0, seed), deduplicate=deduplicate)
            else:
                augment = shift_audio if modality == "audio" and name == "train" and time_shift > 0 else None
                shape = _SHAPES[modality]
                columns[modality] = TensorColumn(arrays[modality][rows], scale=255, shape=shape, augment=augment)
        return ArrayDataset(columns, labels, [f"{name}-{row}" for row in range(len(labels))], DIGIT_WORDS)

    parts = {part: _read_part(folder, part, modalities, mmap) for part in ("train", "test")}
    total = len(parts["train"][1])
    first = total - num_validation(total)
    stop = first + _limit("validation", validation_limit, total - first)
    return Splits(
        train=split("train", "train", slice(0, _limit("train", train_limit, first)), 0),
        validation=split("validation", "train", slice(first, stop), 1),
        test=split("test", "test", slice(0, _limit("test", test_limit, len(parts["test"][1]))), 2),
    )


def _limit(name: str, limit: int | None, rows: int) -> int:
    if limit is not None and limit < 1:
        raise ValueError(f"{name}_limit: expected at least 1 row, or None for all; got {limit}")
    return rows if limit is None else min(limit, rows)


def _read_part(
    folder: Path, part: str, modalities: Sequence[str], mmap: bool
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    labels_file = folder / f"{part}_labels.npy"
    labels = _read_array(labels_file, mmap=False).squeeze()
    if labels.ndim != 1 or len(labels) < 2 or not np.isin(labels, np.arange(10)).all():
        raise ValueError(f"{labels_file}: expected one digit (0 to 9) a row, at least 2 rows; got shape {labels.shape}")
    values = {}
    for modality in modalities:
        if modality == "text":
            continue
        path = folder / modality / f"{part}_data.npy"
        array = values[modality] = _read_array(path, mmap)
        if array.ndim < 2 or len(array) != len(labels) or np.prod(array.shape[1:]) != _PIXELS[modality]:
            raise ValueError(f"{path}: expected {len(labels)} rows of {_PIXELS[modality]} pixels; got {array.shape}")
        if array.dtype.kind not in "fiu":
            raise ValueError(f"{path}: expected numbers; got {array.dtype}")
        if array.dtype.kind == "f" and array[:100].max() <= 1:
            raise ValueError(f"{path}: expected pixels from 0 to 255, but they end at 1: multiply them by 255")
    return values, labels.astype(np.int64)


def _read_array(path: Path, mmap: bool) -> np.ndarray:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; AV-MNIST is image/ and audio/ {{train,test}}_data.npy and the labels")
    try:
        return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: damaged, or no .npy file ({error}); build or fetch it again") from error
