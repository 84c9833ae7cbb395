"""From a manifest, its rows and its readers to the three parts of a data set."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from confu.data import ArrayDataset, Column, Splits
from confu.data.cache import decoded_column, feature_column
from confu.data.gaps import FilledDataset
from confu.data.manifest import Manifest
from confu.data.readers import Reader
from confu.data.sources import SourceColumn
from confu.data.view import RowsOf
from confu.nn.encoders.features import features_fingerprint, frozen_features
from confu.runs.preparing.classes import class_numbers, group_numbers
from confu.runs.preparing.rows import RowTable
from confu.runs.run_files.run_file import RunFile

_FEATURE_BATCH = 64


def cache_folder(run: RunFile) -> Path | None:
    """Where decoded files and features are kept: beside the run folder, unless the run file says otherwise."""
    if run.data.cache is False:
        return None
    return Path(run.out).parent / "cache" if run.data.cache is None else Path(run.data.cache)


def build_splits(
    run: RunFile,
    manifest: Manifest,
    rows: RowTable,
    readers: Mapping[str, Reader],
    class_names: tuple[str, ...] | None,
    encoders: Mapping[str, nn.Module],
    progress: bool = True,
) -> Splits:
    """The data of a run; what is decoded once is read from the cache the next time.

    A frozen encoder's features stand in place of its inputs: they never change.

    Args:
        run: its `data` says what gaps mean and which rows belong together.
        manifest: the whole table.
        rows: which of its rows are kept, and in which part.
        readers: by modality.
        class_names: what labels mean.
        encoders: by modality, as they are trained or were.
        progress: show progress bars.
    """
    kept = manifest.take(rows.kept)
    columns = {
        name: _column(run, manifest, kept, rows, name, readers[name], encoders[name], progress) for name in readers
    }
    groups = group_numbers(grouped) if (grouped := group_names(run, kept)) is not None else None
    labels = class_numbers(kept.labels, class_names)
    whole = ArrayDataset(columns, labels, kept.ids, class_names, groups)
    train = RowsOf(whole, _train_positions(run, whole, rows))
    validation, test = (RowsOf(whole, rows.positions(part)) for part in ("validation", "test"))
    if run.data.gaps == "zeros":  # a baseline of training; what is measured on the test keeps its gaps
        return Splits(FilledDataset(train), FilledDataset(validation), test)
    return Splits(train, validation, test)


def group_names(run: RunFile, kept: Manifest) -> list[str | None] | None:
    """What each row belongs to: the column `group`, or its text in a modality; None if rows stand for themselves."""
    if run.data.group is None:
        return None
    if run.data.group == "group":
        return kept.groups
    modality = run.modalities[run.data.group]
    return [None if text is None else str(text) for text in kept.sources(modality.column, modality.kind)]


def _train_positions(run: RunFile, whole: ArrayDataset, rows: RowTable) -> Tensor:
    positions = rows.positions("train")
    if run.data.gaps != "drop":
        return positions
    complete = torch.stack(list(whole.present.values())).all(dim=0)
    return positions[complete[positions]]


def _column(
    run: RunFile,
    manifest: Manifest,
    kept: Manifest,
    rows: RowTable,
    name: str,
    reader: Reader,
    encoder: nn.Module,
    progress: bool,
) -> Column:
    modality = run.modalities[name]
    sources = kept.sources(modality.column, modality.kind)
    numbers = rows.kept  # a message names the row of the manifest, not that of what was kept

    def where(row: int) -> str:
        return manifest.where(numbers[row], modality.column)

    cache, workers = cache_folder(run), run.data.workers
    if cache is None:
        return SourceColumn(sources, reader, workers, where)
    if getattr(encoder, "frozen", False) and getattr(encoder, "feature_dim", None) is not None:
        column = SourceColumn(sources, reader, workers, where)
        key = features_fingerprint(encoder)
        with frozen_features(encoder) as embed:
            return feature_column(column, sources, embed, key, cache, _FEATURE_BATCH, progress, where)
    return decoded_column(sources, reader, cache, workers, progress, where)
