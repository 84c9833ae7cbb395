"""MOSI, UR-FUNNY, MUStARD and MOSEI: people seen, heard and read, from the manifest that `build_affect` makes once."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright cannot see them.

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from confu.checks import check_known
from confu.data.columns import Column, SequenceColumn, TensorColumn
from confu.data.dataset import ArrayDataset, Splits
from confu_paper.datasets.affect_pickle import AFFECT, MODALITIES, SPLITS

FACTS_KEY = b"confu.affect"
FORMAT = 1


def affect_facts(file: Path | str) -> dict[str, Any]:
    """What a manifest of affect data says of itself, without reading its rows.

    Returns:
        `name`, `classes`, `dims` (features of a step by modality), `max_steps`, `format`, and `sha256` of the pickle.

    Raises:
        ValueError: no such file (with the command that makes it), a damaged one, or one that `build_affect` did not
            write.
    """
    return _opened(Path(file))[1]


def load_affect(
    file: Path | str,
    modalities: Sequence[str] = MODALITIES,
    limits: Sequence[int | None] = (None, None, None),
    padded: bool = False,
) -> Splits:
    """Load what `build_affect` made: sequences of word-aligned steps for each modality.

    Args:
        file: the Parquet manifest.
        modalities: which to load, of vision, audio and text.
        limits: rows of train, validation and test at most, taken at even distances; None for all.
        padded: give plain tensors (batch, longest allowed, features) with zeros after the end and no mask, as the
            released code of ConFu does; by default a batch is as long as its longest row, with a mask.

    Returns:
        Splits with labels 0 and 1; a row lacks a modality that was broken in the pickle.

    Raises:
        ValueError: as `affect_facts`; an unknown modality; a limit below 1; numbers that are not finite.

    Reference: Liang et al. 2021 (MultiBench); section 5.3 and appendix D.2 of the ConFu paper.
    """
    for name in modalities:
        check_known("modality", name, MODALITIES)
    if len(limits) != len(SPLITS) or any(limit is not None and limit < 1 for limit in limits):
        raise ValueError(f"limits: expected three numbers of rows of at least 1, or None for all; got {tuple(limits)}")
    parquet, facts = _opened(Path(file))
    try:
        roles = parquet.read(columns=["id", "split", "label"]).to_pydict()
        split_of = np.array(roles["split"])
        wanted = {
            split: _spread(np.flatnonzero(split_of == split), limit) for split, limit in zip(SPLITS.values(), limits)
        }
        used = np.zeros(len(split_of), dtype=bool)
        used[np.concatenate(list(wanted.values()))] = True
        sequences = {name: _sequences(parquet, name, facts["dims"][name], used) for name in modalities}
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file}: damaged ({error}); build it again with `confu data affect`") from error
    if empty := [split for split, rows in wanted.items() if not len(rows)]:
        raise ValueError(f"{file}: holds no rows of {', '.join(empty)}; build it again from the whole pickle")

    def split_data(rows: np.ndarray) -> ArrayDataset:
        columns: dict[str, Column] = {}
        for name in modalities:
            chosen = [sequences[name][row] for row in rows]
            columns[name] = (
                _padded(chosen, facts["max_steps"], facts["dims"][name]) if padded else SequenceColumn(chosen)
            )
        labels = torch.tensor([int(roles["label"][row]) for row in rows])
        return ArrayDataset(columns, labels, [roles["id"][row] for row in rows], facts["classes"])

    return Splits(*(split_data(rows) for rows in wanted.values()))


def _opened(file: Path) -> tuple[pq.ParquetFile, dict[str, Any]]:
    if not file.is_file():
        pickles = sorted(file.parent.glob("*.pkl")) if file.parent.is_dir() else []
        known = file.stem if file.stem in AFFECT else "mosi"
        there = f"There is {', '.join(one.name for one in pickles)}, which is not read as it is. " if pickles else ""
        source = pickles[0] if len(pickles) == 1 else "FILE.pkl"
        raise ValueError(
            f"{file}: no such file. {there}Make it once from MultiBench's pickle:\n"
            f"  confu data affect {source} --name {known} --out {file.parent}"
        )
    try:
        parquet = pq.ParquetFile(file)
        stored: Mapping[bytes, bytes] = parquet.schema_arrow.metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{file}: not readable as Parquet ({error}); make it from MultiBench's pickle with `confu data affect`"
        ) from error
    if FACTS_KEY not in stored:
        raise ValueError(
            f"{file}: not written by `confu data affect`, so its classes are not known; make it from MultiBench's "
            "pickle, or use any other manifest with `confu init` and `confu train`"
        )
    facts = json.loads(stored[FACTS_KEY])
    if facts["format"] != FORMAT:
        raise ValueError(f"{file}: format {facts['format']}, this version reads {FORMAT}; build it again")
    return parquet, facts


def _spread(rows: np.ndarray, limit: int | None) -> np.ndarray:
    """At most so many of the rows, at even distances: files may be sorted, by speaker or by label."""
    if limit is None or limit >= len(rows):
        return rows
    return rows[np.arange(limit) * len(rows) // limit]


def _sequences(parquet: pq.ParquetFile, name: str, dim: int, used: np.ndarray) -> list[Tensor | None]:
    """(steps, dim) of each row of the file; None where it is missing or not among the used ones."""
    found: list[Tensor | None] = []
    for group in range(parquet.num_row_groups):
        rows = used[len(found) : len(found) + parquet.metadata.row_group(group).num_rows]
        if not rows.any():
            found += [None] * len(rows)
            continue
        column = parquet.read_row_group(group, columns=[name])[name].combine_chunks()
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        values = column.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
        if not rows.all():
            values, lengths = values[np.repeat(rows, lengths)], np.where(rows, lengths, 0)
        # A copy, as Arrow's memory is read-only; one row group at a time, so that the file is never held twice.
        steps = torch.from_numpy(values.copy()).split(lengths.tolist())
        found += [one if len(one) else None for one in steps]
    return found


def _padded(sequences: Sequence[Tensor | None], longest: int, dim: int) -> TensorColumn:
    values = torch.zeros(len(sequences), longest, dim)
    for row, sequence in enumerate(sequences):
        if sequence is not None:
            values[row, : len(sequence)] = sequence
    return TensorColumn(values, missing=torch.tensor([sequence is None for sequence in sequences]))
