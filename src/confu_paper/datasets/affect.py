"""MOSI, UR-FUNNY, MUStARD and MOSEI: people seen, heard and read, from the manifest that `build_affect` makes once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from confu.checks import check_known

if TYPE_CHECKING:
    import confu.data

MODALITIES = ("vision", "audio", "text")
SPLITS = {"train": "train", "valid": "validation", "test": "test"}
"""The pickle's names, and ours."""
FACTS_KEY = b"confu.affect"
FORMAT = 1


@dataclass(frozen=True)
class AffectSet:
    """How the labels of one of the data sets are read.

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


def affect_facts(file: Path | str) -> dict[str, Any]:
    """The description in a manifest of affect data, without its rows.

    Returns:
        `name`, `classes`, `dims` (features of a step by modality), `max_steps`, `format`, and `sha256` of the pickle.

    Raises:
        ValueError: no such file (with the command that makes it), a damaged one, or one that `build_affect` did not
            write.
    """
    return _open(Path(file))[1]


def load_affect(
    file: Path | str,
    modalities: Sequence[str] = MODALITIES,
    limits: Sequence[int | None] = (None, None, None),
    padded: bool = False,
) -> "confu.data.Splits":
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
    import pyarrow as pa
    import torch

    from confu.data import ArrayDataset, SequenceColumn, Splits

    for name in modalities:
        check_known("modality", name, MODALITIES)
    if len(limits) != len(SPLITS) or any(limit is not None and limit < 1 for limit in limits):
        raise ValueError(f"limits: expected three numbers of rows of at least 1, or None for all; got {tuple(limits)}")
    parquet, facts = _open(Path(file))
    try:
        roles = parquet.read(columns=["id", "split", "label"]).to_pydict()
        split_of = np.array(roles["split"])
        rows_of = {
            split: _spread(np.flatnonzero(split_of == split), limit) for split, limit in zip(SPLITS.values(), limits)
        }
        used = np.zeros(len(split_of), dtype=bool)
        used[np.concatenate(list(rows_of.values()))] = True
        sequences = {name: _sequences(parquet, name, facts["dims"][name], used) for name in modalities}
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file}: damaged ({error}); build it again with `confu data affect`") from error
    if empty := [split for split, rows in rows_of.items() if not len(rows)]:
        raise ValueError(f"{file}: holds no rows of {', '.join(empty)}; build it again from the whole pickle")

    def part(rows: np.ndarray) -> ArrayDataset:
        columns = {}
        for name in modalities:
            of_rows = [sequences[name][row] for row in rows]
            size = (facts["max_steps"], facts["dims"][name])
            columns[name] = _padded(of_rows, *size) if padded else SequenceColumn(of_rows)
        labels = torch.tensor([int(roles["label"][row]) for row in rows])
        return ArrayDataset(columns, labels, [roles["id"][row] for row in rows], facts["classes"])

    return Splits(*map(part, rows_of.values()))


def _open(file: Path) -> tuple[Any, dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.is_file():
        pickles = sorted(file.parent.glob("*.pkl")) if file.parent.is_dir() else []
        known = file.stem if file.stem in AFFECT else "mosi"
        names = ", ".join(pickle.name for pickle in pickles)
        hint = f"There is {names}, which is not read as it is. " if pickles else ""
        source = pickles[0] if len(pickles) == 1 else "FILE.pkl"
        raise ValueError(
            f"{file}: no such file. {hint}Make it once from MultiBench's pickle:\n"
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


def _sequences(parquet: Any, name: str, dim: int, used: np.ndarray) -> list[Any]:
    """The tensor (steps, dim) of each row of the file; None where it is missing or not among the used ones."""
    import pyarrow.compute as pc
    import torch

    sequences: list[torch.Tensor | None] = []
    for group in range(parquet.num_row_groups):
        rows = used[len(sequences) : len(sequences) + parquet.metadata.row_group(group).num_rows]
        if not rows.any():
            sequences += [None] * len(rows)
            continue
        column = parquet.read_row_group(group, columns=[name])[name].combine_chunks()
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
        values = column.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
        if not rows.all():
            values, lengths = values[np.repeat(rows, lengths)], np.where(rows, lengths, 0)
        # A copy, as Arrow's memory is read-only; one row group at a time, so that the file is never held twice.
        steps = torch.from_numpy(values.copy()).split(lengths.tolist())
        sequences += [sequence if len(sequence) else None for sequence in steps]
    return sequences


def _padded(sequences: Sequence[Any], longest: int, dim: int) -> "confu.data.TensorColumn":
    import torch

    from confu.data import TensorColumn

    values = torch.zeros(len(sequences), longest, dim)
    for row, sequence in enumerate(sequences):
        if sequence is not None:
            values[row, : len(sequence)] = sequence
    return TensorColumn(values, missing=torch.tensor([sequence is None for sequence in sequences]))
