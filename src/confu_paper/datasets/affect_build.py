"""From MultiBench's pickles of affect data to one Parquet manifest a data set, with an account of what was changed.

Shapes: n rows, t steps, s real steps of all rows one after the other, d features.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from confu.checks import check_known
from confu.data.manifest.manifest import role_text
from confu.data.parallel import tracked
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
        arrays: by modality, (n, t, d) numbers; text is zero where a row has not begun yet.
        labels: (n,) 0 or 1.
        ids: (n,) names that no other row of any split has.
    """

    arrays: dict[str, np.ndarray]
    labels: np.ndarray
    ids: list[str]


def read_affect_pickle(path: Path, name: str) -> dict[str, Part]:
    """Read a pickle in the layout that MultiBench distributes.

    That is a dict of `train`, `valid` and `test`, each a dict of arrays with one row a sample: `vision`, `audio`,
    `text` (n, t, d), aligned step by step, `labels` (n,), (n, 1) or (n, 1, 1), and `id`.

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
    ids = {split: _names(raw[split].get("id"), len(labels[split]), split, path) for split in SPLITS}
    if len({one for of_split in ids.values() for one in of_split}) < sum(map(len, ids.values())):
        # Segments of one video share its name in some files; the split and the row tell them apart.
        ids = {split: [f"{SPLITS[split]}-{row}-{one}" for row, one in enumerate(given)] for split, given in ids.items()}
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
    for modality, array in arrays.items():
        if array.ndim != 3 or array.dtype.kind not in "fiu" or 0 in array.shape[1:]:
            raise ValueError(
                f"{where}: {modality} must be an array (rows, steps, features) of numbers; "
                f"got shape {array.shape} of type {array.dtype}"
            )
    shapes = {modality: array.shape for modality, array in arrays.items()}
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
    low = -1 if any((labels == -1).any() for labels in numbers.values()) else 0
    known = "from -3 to 3" if affect.scored else f"{low} or 1"
    for split, labels in numbers.items():
        wrong = np.flatnonzero(~(np.abs(labels) <= 3 if affect.scored else np.isin(labels, [low, 1])))  # NaN too
        if len(wrong):
            raise ValueError(
                f"{path}, {split}: {len(wrong)} of {len(labels)} labels are not {known}, as in {affect.title}; "
                f"the first is {labels[wrong[0]]:g} of row {wrong[0]}. Is it the pickle of another data set?"
            )
    # As ConFu's released code: a score of exactly 0 is positive. MultiBench's own code calls it negative.
    return {split: (one >= 0 if affect.scored else one > 0).astype(np.int64) for split, one in numbers.items()}


def _names(ids: Any, rows: int, split: str, path: Path) -> list[str]:
    """Ids are bytes, texts or numbers, or several of them: a video and where its segment begins and ends."""
    if ids is None:
        return [f"{SPLITS[split]}-{row}" for row in range(rows)]
    ids = _array(ids, f"{path}, {split}: id")
    if not ids.ndim or len(ids) != rows:
        raise ValueError(f"{path}, {split}: id must have {rows} rows as the features; got shape {ids.shape}")
    return [
        "_".join(one.decode("utf-8", "replace") if isinstance(one, bytes) else role_text(one) or "" for one in parts)
        for parts in ids.reshape(rows, -1).tolist()
    ]


@dataclass(frozen=True, eq=False)
class Window:
    """Which steps of some rows are kept: those from the first word on, at most `MAX_STEPS`; the same in all modalities.

    Attributes:
        kept: (n, t) bool.
        spoken: (n,) bool, rows with a word.
        cut: (n,) bool, rows that went on after the last step kept.
    """

    kept: np.ndarray
    spoken: np.ndarray
    cut: np.ndarray

    @classmethod
    def of(cls, text: np.ndarray) -> "Window":
        """From the words (n, t, d)."""
        words = (text != 0).any(axis=2)  # NaN is a word that is broken
        spoken, begins = words.any(axis=1), words.argmax(axis=1)
        place = np.arange(words.shape[1]) - begins[:, None]
        kept = (place >= 0) & (place < MAX_STEPS) & spoken[:, None]
        return cls(kept, spoken, spoken & (words.shape[1] - begins > MAX_STEPS))

    @property
    def row(self) -> np.ndarray:
        """(s,) the row of each kept step."""
        return np.nonzero(self.kept)[0]

    def any_of_row(self, of_step: Any) -> np.ndarray:
        """(n,) bool, rows in which any kept step is True."""
        return np.bincount(self.row[of_step], minlength=len(self.kept)) > 0

    def values(self, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of a modality (n, t, d) the kept steps (s, d) in float32, and (n,) which rows are broken.

        Those hold NaN, +infinity or a number that float32 cannot hold; -infinity is the logarithm of nothing.
        """
        stored = array[self.kept]
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
            values = stored.astype(np.float32)
        return values, self.any_of_row(~(np.isfinite(values) | np.isneginf(stored)).all(axis=1))


def least_values(part: Part) -> dict[str, np.ndarray]:
    """By modality, (d,) the least finite value of each feature in the rows that are not broken.

    A feature that is never finite gets the least of all features.
    """
    least = {modality: np.full(array.shape[2], np.inf, np.float32) for modality, array in part.arrays.items()}
    for start in range(0, len(part.ids), _CHUNK):
        rows = slice(start, start + _CHUNK)
        window = Window.of(part.arrays["text"][rows])
        for modality, array in part.arrays.items():
            values, broken = window.values(array[rows])
            finite = np.where(np.isfinite(values) & ~broken[window.row, None], values, np.inf)
            least[modality] = np.minimum(least[modality], finite.min(axis=0, initial=np.inf))
    return {modality: np.where(np.isfinite(values), values, values.min()) for modality, values in least.items()}


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
        progress: draw a bar.

    Returns:
        the Parquet file, which `load_affect`, and `confu init` as any manifest, reads.

    Raises:
        ValueError: as `read_affect_pickle`.
    """
    pickle, out = Path(pickle), Path(out)
    parts = read_affect_pickle(pickle, name)
    least = least_values(parts["train"])
    with pickle.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = {
        "name": name,
        "format": FORMAT,
        "classes": AFFECT_SETS[name].classes,
        "dims": {modality: array.shape[2] for modality, array in parts["train"].arrays.items()},
        "max_steps": MAX_STEPS,
        "sha256": digest,
    }
    accounts = {split: Account() for split in parts}
    problems: list[str] = []
    file = out / f"{name}.parquet"
    columns = dict.fromkeys(("id", "split", "label"), pa.string())
    columns |= dict.fromkeys(MODALITIES, pa.list_(pa.list_(pa.float32())))
    schema = pa.schema(columns).with_metadata({FACTS_KEY: json.dumps(facts).encode()})
    chunks = [(split, start) for split, part in parts.items() for start in range(0, len(part.ids), _CHUNK)]
    with (
        written_whole(file) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=False) as writer,
    ):
        for split, start in tracked(chunks, f"writing {file.name}", chunks, progress):
            table = _table(parts[split], split, start, least, accounts[split], problems)
            if table.num_rows:
                writer.write_table(table.cast(schema))
    account = {split: asdict(one) for split, one in accounts.items()}
    write_json(out / f"{name}.json", {**facts, "pickle": pickle.name, "splits": account, "problems": problems})
    _report(file, accounts, problems)
    return file


def _table(
    part: Part, split: str, start: int, least: dict[str, np.ndarray], account: Account, problems: list[str]
) -> pa.Table:
    """The rows of a chunk; what was changed is counted and named."""
    rows = slice(start, start + _CHUNK)
    window, ids = Window.of(part.arrays["text"][rows]), part.ids[rows]
    steps = {modality: window.values(array[rows]) for modality, array in part.arrays.items()}
    kept = window.spoken & ~np.logical_and.reduce([broken for _, broken in steps.values()])
    account.rows += int(kept.sum())
    account.without_text += int((~window.spoken).sum())
    account.with_nothing += int((window.spoken & ~kept).sum())
    account.longer += int((kept & window.cut).sum())

    def name(row: int, problem: str) -> None:
        problems.append(f"{split} row {start + row} (id {ids[row]}): {problem}")

    for row in np.flatnonzero(~window.spoken).tolist():
        name(row, "no word in any step; left out")
    columns: dict[str, Any] = {
        "id": [one for one, keep in zip(ids, kept) if keep],
        "split": [split] * int(kept.sum()),
        "label": [str(label) for label in part.labels[rows][kept]],
    }
    for modality, (values, broken) in steps.items():
        for row in np.flatnonzero(window.spoken & broken).tolist():
            name(row, f"{modality} holds NaN, +infinity or a number too large for float32; taken as missing")
        account.missing[modality] += int((kept & broken).sum())
        sound = kept & ~broken
        account.all_zero[modality] += int((sound & ~window.any_of_row((values != 0).any(axis=1))).sum())
        values = values[sound[window.row]]
        infinite = np.isneginf(values)
        account.infinite_steps[modality] += int(infinite.any(axis=1).sum())
        account.infinite_values[modality] += int(infinite.sum())
        if infinite.any() and not np.isfinite(least[modality]).all():
            raise ValueError(
                "a modality holds -infinity, and no finite number in the training rows to take in its place"
            )
        lengths = np.where(sound, window.kept.sum(axis=1), 0)[kept]
        columns[modality] = _lists(np.where(infinite, least[modality], values), lengths)
    return pa.table(columns)


def _lists(values: np.ndarray, lengths: np.ndarray) -> pa.Array:
    """A list of steps for each row, null where it has none."""
    count, dim = values.shape
    ends = pa.array(np.arange(count + 1, dtype=np.int32) * dim)
    inner = pa.ListArray.from_arrays(ends, pa.array(values.ravel()))
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), inner, mask=pa.array(lengths == 0))


def _report(file: Path, accounts: dict[str, Account], problems: list[str]) -> None:
    lines = [f"{file}: {', '.join(f'{one.rows} {split}' for split, one in accounts.items())} rows"]
    for modality in MODALITIES:
        infinite, steps = (
            sum(getattr(one, counts)[modality] for one in accounts.values())
            for counts in ("infinite_values", "infinite_steps")
        )
        if infinite:
            lines.append(
                f"{modality}: {infinite} values in {steps} steps were -infinity, and are now the least finite value of "
                "their feature among the training rows"
            )
    if problems:
        lines += [f"{len(problems)} problems:", *(f"  {problem}" for problem in problems[:_SHOWN])]
    if len(problems) > _SHOWN:
        lines.append(f"  ... all are in {file.with_suffix('.json')}")
    Console(stderr=True).print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
