"""From MultiBench's pickles of affect data to one Parquet manifest a data set, with an account of what was changed.

Shapes: n rows, s real steps of all of them one after the other, d features.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from confu.checks import check_known
from confu.data.manifest.manifest import role_text
from confu.files import write_json, written_whole
from confu_paper.datasets.affect import AFFECT, AFFECT_SETS, FACTS_KEY, FORMAT, MODALITIES, SPLITS, AffectSet
from confu_paper.datasets.unpickling import read_numpy_pickle

MAX_STEPS = 50
_CHUNK = 512  # rows at a time, and in a row group: 77 MB of UR-FUNNY
_SHOWN = 5


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
    if not isinstance(content, dict) or split not in content:
        got = f"a dict of {', '.join(map(str, content))}" if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{where}, each a dict of arrays; got {got}")
    if not isinstance(content[split], dict):
        raise ValueError(f"{where}, each a dict of arrays; {split} is of the type {type(content[split]).__name__}")
    parts = [name for name, part in content.items() if isinstance(part, dict) and {*MODALITIES} <= part.keys()]
    if more := [str(name) for name in parts if name not in SPLITS]:
        raise ValueError(f"{where}; it has {', '.join(more)} too, whose rows would be lost. Put them into one of these")
    if missing := [key for key in (*MODALITIES, "labels") if key not in content[split]]:
        raise ValueError(f"{where}; {split} lacks {', '.join(missing)}, it has {', '.join(map(str, content[split]))}")
    return content[split]


def _features(fields: Mapping[str, Any], where: str) -> dict[str, np.ndarray]:
    arrays = {modality: _array(fields[modality], f"{where}: {modality}") for modality in MODALITIES}
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


def _array(values: Any, where: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of differing length
        raise ValueError(f"{where}: its rows differ in length ({error})") from error


def _numbers(labels: Any, rows: int, where: str) -> np.ndarray:
    labels = _array(labels, f"{where}: labels")
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
        right = {split: np.abs(labels) <= 3 for split, labels in numbers.items()}  # False of NaN
    else:
        negative = any((labels == -1).any() for labels in numbers.values())
        known = "-1 or 1" if negative else "0 or 1"
        right = {split: np.isin(labels, [-1, 1] if negative else [0, 1]) for split, labels in numbers.items()}
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
        ids = _array(ids, f"{path}, {split}: id")
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


@dataclass(frozen=True, eq=False)
class Steps:
    """The real steps of some rows.

    Attributes:
        values: (s, d) float32.
        lengths: (n,) steps of each row; 0 for a row that is not there.
        begins: (n,) where the first word stands; -1 where there is none.
        cut: (n,) bool, rows that went on after the last step kept.
        broken: (n,) bool, rows with NaN, +infinity or a number that float32 cannot hold.
    """

    values: np.ndarray
    lengths: np.ndarray
    begins: np.ndarray
    cut: np.ndarray
    broken: np.ndarray

    @property
    def all_zero(self) -> np.ndarray:
        """(n,) bool, rows that have steps, of nothing but zeros."""
        return (self.lengths > 0) & ~_any_of_row((self.values != 0).any(axis=1), self.lengths)

    def of(self, rows: np.ndarray) -> "Steps":
        """The same with the steps of these rows only, (n,) bool."""
        values = self.values[np.repeat(rows, self.lengths)]
        return Steps(values, np.where(rows, self.lengths, 0), self.begins, self.cut, self.broken & rows)


def real_steps(part: Part, modality: str, rows: slice, max_steps: int) -> Steps:
    """The steps from a row's first word on, at most so many; the same for every modality, as they are aligned.

    Args:
        part: of a pickle.
        modality: whose features.
        rows: of the part.
        max_steps: later steps are left out.
    """
    words = (part.arrays["text"][rows] != 0).any(axis=2)  # NaN is a word that is broken
    begins = np.where(words.any(axis=1), words.argmax(axis=1), -1)
    total = words.shape[1]
    place = np.arange(total) - begins[:, None]
    kept = (place >= 0) & (place < max_steps) & (begins >= 0)[:, None]
    stored = part.arrays[modality][rows][kept]
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
        values = stored.astype(np.float32)
    lengths = kept.sum(axis=1)
    sound = np.isfinite(values) | np.isneginf(stored)
    broken = _any_of_row(~sound.all(axis=1), lengths)
    return Steps(values, lengths, begins, (begins >= 0) & (total - begins > max_steps), broken)


def least_values(part: Part, max_steps: int, chunk: int) -> dict[str, np.ndarray]:
    """By modality, (d,) the least finite value of each feature in the rows that are not broken.

    A feature that is never finite gets the least of all features.
    """
    least = {modality: np.full(part.arrays[modality].shape[2], np.inf, dtype=np.float32) for modality in MODALITIES}
    for start in range(0, len(part), chunk):
        rows = slice(start, min(start + chunk, len(part)))
        for modality in MODALITIES:
            steps = real_steps(part, modality, rows, max_steps)
            values = steps.of(~steps.broken).values
            finite = np.where(np.isfinite(values), values, np.inf)
            least[modality] = np.minimum(least[modality], finite.min(axis=0, initial=np.inf))
    return {modality: np.where(np.isfinite(values), values, values.min()) for modality, values in least.items()}


def without_infinity(found: Steps, least: np.ndarray) -> Steps:
    """-infinity, the logarithm of nothing, as the least value (d,) of its feature.

    Raises:
        ValueError: if there is no least value, as the training rows hold no finite number.
    """
    infinite = np.isneginf(found.values)
    if not infinite.any():
        return found
    if not np.isfinite(least).all():
        raise ValueError("a modality holds -infinity, and no finite number in the training rows to take in its place")
    values = np.where(infinite, least, found.values)
    return Steps(values, found.lengths, found.begins, found.cut, found.broken)


def _any_of_row(of_step: np.ndarray | np.bool, lengths: np.ndarray) -> np.ndarray:
    row = np.repeat(np.arange(len(lengths)), lengths)
    return np.bincount(row[np.asarray(of_step)], minlength=len(lengths)) > 0


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
        "name": name,
        "format": FORMAT,
        "classes": AFFECT_SETS[name].classes,
        "dims": dims,
        "max_steps": MAX_STEPS,
        "sha256": digest,
    }
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
    _report(file, accounts, problems)
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
    broken = {modality: of_modality.broken for modality, of_modality in steps.items()}
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
    for modality, of_modality in steps.items():
        for i in np.flatnonzero(spoken & broken[modality]):
            problems.append(
                f"{split} row {rows.start + i} (id {ids[i]}): {modality} holds NaN, +infinity or a number too "
                "large for float32; taken as missing"
            )
        account.missing[modality] += int((kept & broken[modality]).sum())
        sound = of_modality.of(kept & ~broken[modality])
        infinite = np.isneginf(sound.values)
        account.infinite_steps[modality] += int(infinite.any(axis=1).sum())
        account.infinite_values[modality] += int(infinite.sum())
        account.all_zero[modality] += int(sound.all_zero.sum())
        columns[modality] = _lists(without_infinity(sound, least[modality]), kept)
    return pa.table(columns)


def _schema() -> pa.Schema:
    texts = [pa.field(name, pa.string()) for name in ("id", "split", "label")]
    return pa.schema([*texts, *(pa.field(name, pa.list_(pa.list_(pa.float32()))) for name in MODALITIES)])


def _lists(steps: Steps, kept: np.ndarray) -> pa.Array:
    """A list of steps for each kept row, null where it has none."""
    lengths = steps.lengths[kept]
    count, dim = steps.values.shape
    inner = pa.ListArray.from_arrays(
        pa.array(np.arange(count + 1, dtype=np.int32) * dim), pa.array(steps.values.ravel())
    )
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), inner, mask=pa.array(lengths == 0))


def _report(file: Path, accounts: dict[str, Account], problems: list[str]) -> None:
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
