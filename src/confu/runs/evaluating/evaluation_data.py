"""What an evaluation reads of an opened run: its rows, their classes and groups, what they have, how they are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.data import Dataset
from confu.data.manifest import Manifest
from confu.runs.columns import class_names_of
from confu.runs.evaluating.evaluation_page.media import Shown
from confu.runs.prepare import OpenedRun
from confu.runs.rows import RowTable, group_numbers


@dataclass(frozen=True, eq=False)
class EvaluationData:
    """The rows that are evaluated, and what is known of them.

    Attributes:
        rows: as the model reads them.
        labels: (n,) the class of each row, -1 where it is not known; None if the manifest has no labels.
        train_labels: (train rows,) the same of the training rows; empty without labels.
        names: of the classes.
        groups: (n,) rows of one group are right for one another; None if no two rows belong together.
        group_words: what they are, e.g. "rows with the same caption".
        splits: "train", ... -> modality -> which rows have it.
        shown: by modality, how its cells are shown.
        texts: the text modalities.
    """

    rows: Dataset
    labels: Int[Tensor, " n"] | None
    train_labels: Int[Tensor, " _"]
    names: tuple[str, ...]
    groups: Int[Tensor, " n"] | None
    group_words: str
    splits: Mapping[str, Mapping[str, Bool[Tensor, " _"]]]
    shown: Mapping[str, Shown]
    texts: tuple[str, ...]


def evaluation_data(opened: OpenedRun, part: str = "test") -> EvaluationData:
    """Gather it.

    Args:
        opened: the run.
        part: "test" or "validation".

    Raises:
        ValueError: if the part has no rows.
    """
    rows: Dataset = getattr(opened.splits, part)
    if len(rows) == 0:
        raise ValueError(
            f"{opened.folder}: the {part} split has no rows, so that there is nothing to evaluate. Evaluate the "
            "validation rows (part='validation'), or train with a share of test rows: data.shares, or a column split"
        )
    position = {id: row for row, id in enumerate(opened.manifest.ids)}
    chosen = [position[id] for id in rows.ids]
    labels, names = _labels(opened, chosen)
    train_labels = _labels(opened, [position[id] for id in opened.splits.train.ids])[0]
    texts = tuple(name for name, one in opened.run.modalities.items() if one.kind == "text")
    groups, group_words = _groups(opened, chosen, texts)
    stored = RowTable.load(opened.folder)
    splits = {
        name: {modality: mask[torch.tensor([one == name for one in stored.parts])]
               for modality, mask in stored.present.items()}
        for name in ("train", "validation", "test")
    }  # fmt: skip
    shown = {
        name: Shown(name, one.kind, opened.readers[name],
                    partial(_source, opened.manifest, position, one.column, one.kind))
        for name, one in opened.run.modalities.items()
    }  # fmt: skip
    return EvaluationData(rows, labels, torch.empty(0, dtype=torch.long) if train_labels is None else train_labels,
                          names, groups, group_words, splits, shown, texts)  # fmt: skip


def _source(manifest: Manifest, position: Mapping[str, int], column: str, kind: str, id: str) -> Any:
    return manifest.take([position[id]]).sources(column, kind)[0]


def _labels(opened: OpenedRun, rows: Sequence[int]) -> tuple[Tensor | None, tuple[str, ...]]:
    """The classes of rows, also where training did without labels because some are missing."""
    labels = opened.manifest.labels
    if labels is None:
        return None, ()
    aside = {one.row for one in opened.skipped}
    names = opened.splits.train.class_names
    if names is None:
        names = class_names_of([label for row, label in enumerate(labels) if row not in aside])
    number = {name: i for i, name in enumerate(names)}
    return torch.tensor([number.get(str(labels[row]), -1) for row in rows], dtype=torch.long), tuple(names)


def _groups(opened: OpenedRun, rows: Sequence[int], texts: Sequence[str]) -> tuple[Tensor | None, str]:
    """Those of the run file, else the column `group`, else rows whose text is the same."""
    given = opened.run.data.group
    kept = opened.manifest.take(rows)
    if given in (None, "group") and kept.groups is not None:
        candidates: list[tuple[Sequence[str | None], str]] = [(kept.groups, "rows of the same group")]
    else:
        names = [given] if given in opened.run.modalities else texts
        candidates = [
            ([None if one is None else str(one) for one in kept.sources(opened.run.modalities[name].column, "text")],
             f"rows with the same {name}") for name in names if name is not None
        ]  # fmt: skip
    for found, words in candidates:
        numbers = group_numbers(found)
        if bool((torch.bincount(numbers[numbers >= 0], minlength=1) > 1).any()):
            return numbers, words
    return None, ""
