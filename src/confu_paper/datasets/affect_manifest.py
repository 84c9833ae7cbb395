"""From MultiBench's pickles of affect data to one Parquet manifest a data set, with an account of what was changed."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from confu.files import write_json, written_whole
from confu_paper.datasets.affect import FACTS_KEY, FORMAT
from confu_paper.datasets.affect_pickle import AFFECT_SETS, MODALITIES, Part, read_affect_pickle
from confu_paper.datasets.affect_steps import Steps, least_values, real_steps, without_infinity

MAX_STEPS = 50
_CHUNK = 512  # rows at a time, and in a row group: 77 MB of UR-FUNNY
_SHOWN = 5


@dataclass
class Account:
    """What became of the rows of a split.

    Attributes:
        rows: that are in the manifest.
        without_text: dropped, as in MultiBench, as no step has a word.
        with_nothing: dropped, as every modality was broken.
        longer: of the rows, cut to `MAX_STEPS` steps.
        missing: by modality, rows that hold NaN, +infinity or a number too large for float32, and so lack it.
        infinite_steps: by modality, steps with -infinity.
        infinite_values: by modality, how many -infinity were replaced by the least finite value of their feature.
        all_zero: by modality, rows whose every step is zero in the pickle (no face, silence); kept as they are.
    """

    rows: int = 0
    without_text: int = 0
    with_nothing: int = 0
    longer: int = 0
    missing: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MODALITIES, 0))
    infinite_steps: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MODALITIES, 0))
    infinite_values: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MODALITIES, 0))
    all_zero: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MODALITIES, 0))


def build_affect(pickle: Path | str, name: str, out: Path | str, progress: bool = True) -> Path:
    """Write `OUT/NAME.parquet` from MultiBench's pickle, and `OUT/NAME.json` with what was changed on the way.

    One row a sample: id, split, label "0" or "1", and vision, audio and text as lists of steps. As in MultiBench, rows
    without text are dropped, the steps before the first word are stripped from all three, and 50 steps are kept.
    -infinity, the logarithm of silence, becomes the least finite value of its feature among the training rows, where
    MultiBench writes 0, which is loud. A modality with NaN or +infinity is missing in that row.

    Args:
        pickle: e.g. `mosi_data.pkl`, `humor.pkl`, `sarcasm.pkl`.
        name: one of `AFFECT`.
        out: folder of the manifest, made if there is none; a manifest that is there is replaced.
        progress: whether to draw a bar.

    Returns:
        the Parquet file, which `load_affect`, and `confu init` as any manifest, reads.

    Raises:
        ValueError: as `read_affect_pickle`.
    """
    pickle, out = Path(pickle), Path(out)
    parts = read_affect_pickle(pickle, name)
    least = least_values(parts["train"], MAX_STEPS, _CHUNK)
    dims = {modality: parts["train"].arrays[modality].shape[2] for modality in MODALITIES}
    with pickle.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = {
        "name": name, "format": FORMAT, "classes": AFFECT_SETS[name].classes, "dims": dims, "max_steps": MAX_STEPS,
        "sha256": digest,
    }  # fmt: skip
    accounts = {split: Account() for split in parts}
    problems: list[str] = []
    file = out / f"{name}.parquet"
    schema = _schema().with_metadata({FACTS_KEY: json.dumps(facts).encode()})
    with (
        written_whole(file) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=False) as writer,
    ):
        for split, start in _tracked(parts, f"writing {file.name}", progress):
            part = parts[split]
            rows = slice(start, min(start + _CHUNK, len(part)))
            table = _table(part, split, rows, least, accounts[split], problems)
            if table.num_rows:
                writer.write_table(table.cast(schema))
    account = {split: asdict(one) for split, one in accounts.items()}
    write_json(out / f"{name}.json", {**facts, "pickle": pickle.name, "splits": account, "problems": problems})
    _tell(file, accounts, problems)
    return file


def _tracked(parts: dict[str, Part], what: str, progress: bool) -> Iterator[tuple[str, int]]:
    chunks = [(split, start) for split, part in parts.items() for start in range(0, len(part), _CHUNK)]
    console = Console(stderr=True)  # in a file or a pipe a bar is a line of nothing
    yield from track(chunks, what, console=console, transient=True, disable=not (progress and console.is_terminal))


def _table(
    part: Part, split: str, rows: slice, least: dict[str, np.ndarray], account: Account, problems: list[str]
) -> pa.Table:
    steps = {modality: real_steps(part, modality, rows, MAX_STEPS) for modality in MODALITIES}
    ids = part.ids[rows]
    spoken = steps["text"].begins >= 0
    broken = {modality: found.broken for modality, found in steps.items()}
    kept = spoken & ~np.logical_and.reduce(list(broken.values()))
    account.rows += int(kept.sum())
    account.without_text += int((~spoken).sum())
    account.with_nothing += int((spoken & ~kept).sum())
    account.longer += int((kept & steps["text"].cut).sum())
    problems += [
        f"{split} row {rows.start + i} (id {ids[i]}): no word in any step; left out" for i in np.flatnonzero(~spoken)
    ]
    columns: dict[str, Any] = {
        "id": [one for one, keep in zip(ids, kept) if keep],
        "split": [split] * int(kept.sum()),
        "label": [str(label) for label in part.labels[rows][kept]],
    }
    for modality, found in steps.items():
        for i in np.flatnonzero(spoken & broken[modality]):
            problems.append(
                f"{split} row {rows.start + i} (id {ids[i]}): {modality} holds NaN, +infinity or a number too "
                "large for float32; taken as missing"
            )
        account.missing[modality] += int((kept & broken[modality]).sum())
        sound = found.of(kept & ~broken[modality])
        infinite = np.isneginf(sound.values)
        account.infinite_steps[modality] += int(infinite.any(axis=1).sum())
        account.infinite_values[modality] += int(infinite.sum())
        account.all_zero[modality] += int(sound.all_zero.sum())
        columns[modality] = _lists(without_infinity(sound, least[modality]), kept)
    return pa.table(columns)


def _schema() -> pa.Schema:
    texts = [pa.field(name, pa.string()) for name in ("id", "split", "label")]
    return pa.schema([*texts, *(pa.field(name, pa.list_(pa.list_(pa.float32()))) for name in MODALITIES)])


def _lists(found: Steps, kept: np.ndarray) -> pa.Array:
    """A list of steps for each kept row, null where it has none."""
    lengths = found.lengths[kept]
    count, dim = found.values.shape
    inner = pa.ListArray.from_arrays(
        pa.array(np.arange(count + 1, dtype=np.int32) * dim), pa.array(found.values.ravel())
    )
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), inner, mask=pa.array(lengths == 0))


def _tell(file: Path, accounts: dict[str, Account], problems: list[str]) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    rows = ", ".join(f"{one.rows} {split}" for split, one in accounts.items())
    console.print(f"{file}: {rows} rows")
    for modality in MODALITIES:
        infinite = sum(one.infinite_values[modality] for one in accounts.values())
        steps = sum(one.infinite_steps[modality] for one in accounts.values())
        if infinite:
            console.print(
                f"{modality}: {infinite} values in {steps} steps were -infinity, and are now the least finite value of "
                "their feature among the training rows"
            )
    if problems:
        console.print(f"{len(problems)} problems:")
        for problem in problems[:_SHOWN]:
            console.print(f"  {problem}", markup=False)
        if len(problems) > _SHOWN:
            console.print(f"  ... all are in {file.with_suffix('.json')}")
