"""What MultiBench's pickles of affect data hold, checked: arrays by split, labels as classes, a name for each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from confu.checks import check_known
from confu.data.manifest.manifest import role_text
from confu_paper.datasets.unpickling import read_numpy_pickle

MODALITIES = ("vision", "audio", "text")
SPLITS = {"train": "train", "valid": "validation", "test": "test"}
"""The pickle's names, and ours."""


@dataclass(frozen=True)
class AffectSet:
    """One of the data sets.

    Attributes:
        title: as people write it.
        classes: what label 0 and label 1 mean.
        scored: whether its labels are numbers from -3 to 3, class 0 below 0; else they are -1 or 0, and 1.
    """

    title: str
    classes: tuple[str, str]
    scored: bool


AFFECT_SETS: dict[str, AffectSet] = {
    "mosi": AffectSet("MOSI", ("negative", "positive"), scored=True),
    "ur-funny": AffectSet("UR-FUNNY", ("not funny", "funny"), scored=False),
    "mustard": AffectSet("MUStARD", ("not sarcastic", "sarcastic"), scored=False),
    "mosei": AffectSet("MOSEI", ("negative", "positive"), scored=True),
}
AFFECT = tuple(AFFECT_SETS)


@dataclass(frozen=True, eq=False)
class Part:
    """One split of a pickle.

    Attributes:
        arrays: by modality, (n, steps, features) of numbers; text is zero where a row has not begun yet.
        labels: (n,) 0 or 1.
        ids: (n,) names that no other row of any split has.
    """

    arrays: dict[str, np.ndarray]
    labels: np.ndarray
    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)


def read_affect_pickle(path: Path, name: str) -> dict[str, Part]:
    """Read a pickle in the layout that MultiBench distributes.

    That is a dict of `train`, `valid` and `test`, each a dict of arrays with one row a sample: `vision`, `audio`,
    `text` (n, steps, features), aligned step by step, `labels` (n,), (n, 1) or (n, 1, 1), and `id`.

    Args:
        path: of the pickle.
        name: one of `AFFECT`.

    Returns:
        the parts by our names of the splits.

    Raises:
        ValueError: as `read_numpy_pickle`; another layout, arrays of unequal length, or a label outside the known set,
            naming the split, the row and how many there are.
    """
    check_known("affect data set", name, AFFECT)
    content = read_numpy_pickle(path)
    raw = {split: _fields(content, split, path) for split in SPLITS}
    arrays = {split: _features(raw[split], f"{path}, {split}") for split in SPLITS}
    for modality in MODALITIES:
        widths = {split: arrays[split][modality].shape[2] for split in SPLITS}
        if len(set(widths.values())) > 1:
            raise ValueError(f"{path}: {modality} must have as many features in every split; got {widths}")
    numbers = {
        split: _numbers(raw[split]["labels"], len(arrays[split]["text"]), f"{path}, {split}") for split in SPLITS
    }
    labels = _classes(numbers, AFFECT_SETS[name], path)
    ids = _names(
        {split: raw[split].get("id") for split in SPLITS}, {split: len(labels[split]) for split in SPLITS}, path
    )
    return {ours: Part(arrays[theirs], labels[theirs], ids[theirs]) for theirs, ours in SPLITS.items()}


def _fields(content: Any, split: str, path: Path) -> Mapping[str, Any]:
    where = f"{path}: expected MultiBench's layout, a dict of {', '.join(SPLITS)}"
    if not isinstance(content, dict) or not isinstance(content.get(split), dict):
        got = f"a dict of {', '.join(map(str, content))}" if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{where}, each a dict of arrays; got {got}")
    if missing := [key for key in (*MODALITIES, "labels") if key not in content[split]]:
        raise ValueError(f"{where}; {split} lacks {', '.join(missing)}, it has {', '.join(map(str, content[split]))}")
    return content[split]


def _features(fields: Mapping[str, Any], where: str) -> dict[str, np.ndarray]:
    arrays = {modality: np.asarray(fields[modality]) for modality in MODALITIES}
    shapes = {modality: array.shape for modality, array in arrays.items()}
    for modality, array in arrays.items():
        if array.ndim != 3 or array.dtype.kind not in "fiu" or 0 in array.shape[1:]:
            raise ValueError(
                f"{where}: {modality} must be an array (rows, steps, features) of numbers; "
                f"got shape {array.shape} of type {array.dtype}"
            )
    if len({shape[:2] for shape in shapes.values()}) > 1:
        raise ValueError(
            f"{where}: vision, audio and text must have as many rows and steps, as they are aligned word by word; "
            f"got {shapes}. The raw, unaligned pickles are not read"
        )
    if not len(arrays["text"]):
        raise ValueError(f"{where}: holds no rows")
    return arrays


def _numbers(labels: Any, rows: int, where: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.size != rows or labels.shape[:1] != (rows,):
        raise ValueError(
            f"{where}: labels must be one number a row, shape ({rows},), ({rows}, 1) or ({rows}, 1, 1), as vision, "
            f"audio and text have {rows} rows; got shape {labels.shape}"
        )
    try:
        return labels.reshape(rows).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: labels must be numbers; got {labels.reshape(rows)[0]!r} ({error})") from error


def _classes(numbers: Mapping[str, np.ndarray], affect: AffectSet, path: Path) -> dict[str, np.ndarray]:
    if affect.scored:
        known = "from -3 to 3"
        right = {split: np.abs(found) <= 3 for split, found in numbers.items()}  # False of NaN
    else:
        negative = any((found == -1).any() for found in numbers.values())
        known = "-1 or 1" if negative else "0 or 1"
        right = {split: np.isin(found, [-1, 1] if negative else [0, 1]) for split, found in numbers.items()}
    for split, sound in right.items():
        if not sound.all():
            wrong = np.flatnonzero(~sound)
            raise ValueError(
                f"{path}, {split}: {len(wrong)} of {len(sound)} labels are not {known}, as in {affect.title}; "
                f"the first is {numbers[split][wrong[0]]:g} of row {wrong[0]}. Is it the pickle of another data set?"
            )
    # As ConFu's released code: a score of exactly 0 is positive. MultiBench's own code calls it negative.
    return {split: (found >= 0 if affect.scored else found > 0).astype(np.int64) for split, found in numbers.items()}


def _names(given: Mapping[str, Any], rows: Mapping[str, int], path: Path) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for split, ids in given.items():
        if ids is None:
            names[split] = [f"{SPLITS[split]}-{row}" for row in range(rows[split])]
            continue
        ids = np.asarray(ids)
        if not ids.ndim or len(ids) != rows[split]:
            raise ValueError(f"{path}, {split}: id must have {rows[split]} rows as the features; got shape {ids.shape}")
        names[split] = [_name(row) for row in ids.reshape(rows[split], -1).tolist()]
    everyone = [name for split in names.values() for name in split]
    if len(set(everyone)) == len(everyone):
        return names
    # Segments of one video share its name in some files; the split and the row tell them apart.
    return {split: [f"{SPLITS[split]}-{row}-{one}" for row, one in enumerate(found)] for split, found in names.items()}


def _name(parts: Sequence[Any]) -> str:
    """Ids are bytes, texts or numbers, or several of them: a video and where its segment begins and ends."""
    texts = [part.decode("utf-8", "replace") if isinstance(part, bytes) else role_text(part) or "" for part in parts]
    return "_".join(texts)
