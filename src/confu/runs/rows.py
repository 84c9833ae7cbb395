"""The rows of a run: which part of the data each belongs to, what it has, and why it was set aside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.data import Dataset
from confu.data.dataset import row_contents
from confu.data.manifest import Manifest, Problem, assign_splits
from confu.files import written_whole
from confu.runs.run_file import RunFile, run_plan

ROWS = "rows.parquet"
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class RowTable:
    """Every row of a manifest, in its order.

    Attributes:
        ids: their names.
        parts: "train", "validation" or "test"; None for a row that was set aside.
        present: modality -> (n,) bool, whether the manifest has something there.
        problems: why rows were set aside.
    """

    ids: tuple[str, ...]
    parts: tuple[str | None, ...]
    present: Mapping[str, Bool[Tensor, " n"]]
    problems: tuple[Problem, ...] = ()

    @property
    def kept(self) -> list[int]:
        """The rows that were not set aside."""
        return [row for row, part in enumerate(self.parts) if part is not None]

    def of(self, part: str) -> list[int]:
        """The rows of a part."""
        return [row for row, own in enumerate(self.parts) if own == part]

    def positions(self, part: str) -> Int[Tensor, " rows"]:
        """Where the rows of a part stand among those kept."""
        return torch.tensor([i for i, row in enumerate(self.kept) if self.parts[row] == part], dtype=torch.long)

    def without(self, problems: Sequence[Problem]) -> "RowTable":
        """The same with the rows of these problems set aside."""
        broken = {problem.row for problem in problems}
        parts = tuple(None if row in broken else part for row, part in enumerate(self.parts))
        return RowTable(self.ids, parts, self.present, (*self.problems, *problems))

    def save(self, folder: Path) -> None:
        """Write `rows.parquet`: row, id, part ("split"), has_MODALITY, and what is wrong with a row set aside."""
        wrong: dict[int, list[dict[str, str]]] = {}
        for problem in self.problems:
            fields = {"column": problem.column, "source": problem.source, "what": problem.what}
            wrong.setdefault(problem.row, []).append(fields)
        kind = pa.list_(pa.struct([(name, pa.string()) for name in ("column", "source", "what")]))
        table = pa.table(
            {
                "row": pa.array(range(len(self.ids)), pa.int64()),
                "id": pa.array(self.ids, pa.string()),
                "split": pa.array(self.parts, pa.string()),
                **{f"has_{name}": pa.array(mask.tolist(), pa.bool_()) for name, mask in self.present.items()},
                "problems": pa.array([wrong.get(row) for row in range(len(self.ids))], kind),
            }
        )
        with written_whole(folder / ROWS) as temporary:
            pq.write_table(table, temporary)

    @classmethod
    def load(cls, folder: Path) -> "RowTable":
        """Read what `save` wrote.

        Raises:
            ValueError: if the file is missing or damaged.
        """
        file = folder / ROWS
        try:
            columns = pq.read_table(file).to_pydict()
            ids = tuple(columns["id"])
            present = {
                name.removeprefix("has_"): torch.tensor(mask, dtype=torch.bool)
                for name, mask in columns.items()
                if name.startswith("has_")
            }
            problems = tuple(
                Problem(row, ids[row], **fields)
                for row, wrong in enumerate(columns["problems"])
                for fields in wrong or ()
            )
            return cls(ids, tuple(columns["split"]), present, problems)
        except (OSError, pa.ArrowException, KeyError, TypeError) as error:
            raise ValueError(f"{file}: not the rows of a run ({error}); train again") from error


def sampled(n: int, most: int) -> Int[Tensor, " rows"]:
    """All of n rows, or so many of them, always the same ones, in their order.

    >>> sampled(3, 5).tolist(), len(sampled(100, 5))
    ([0, 1, 2], 5)
    """
    if n <= most:
        return torch.arange(n)
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:most].sort().values


def run_contents(run: RunFile, data: Dataset) -> dict[str, Int[Tensor, " n"]] | None:
    """By modality, equal numbers for equal inputs; None for a run of before `loss.equal_inputs`, measured as then."""
    return row_contents(data) if "equal_inputs" in run.loss.model_fields_set else None


def assign_rows(run: RunFile, manifest: Manifest) -> tuple[RowTable, list[str]]:
    """Which row is learned from, which chooses the epoch, and which is kept for the test.

    The split column decides; where there is none, rows are drawn at random, and no group straddles two parts. Where
    that column has no validation rows, they are taken from the training rows in the same way.

    Returns:
        the rows, those whose split is empty or unknown without a part; and notes on how they were split.
    """
    present = {name: torch.as_tensor(manifest.present(modality.column)) for name, modality in run.modalities.items()}
    parts, note = assign_splits(manifest, run.seed, run.data.shares)
    return RowTable(tuple(manifest.ids), tuple(parts), present), [note] if note else []


def check_sizes(run: RunFile, rows: RowTable) -> None:
    """Check that there are enough rows for a batch, for validation, and for every term of the plan.

    Raises:
        ValueError: in the words of the run file.
    """
    masks = torch.stack(list(rows.present.values()))
    training, dropped = rows.of("train"), ""
    if run.data.gaps == "drop":
        training = [row for row in training if bool(masks[:, row].all())]
        dropped = " that have every modality (data.gaps: drop)"
    if len(training) < run.train.batch_size:
        raise ValueError(
            f"train has {len(training)} rows{dropped}, fewer than train.batch_size {run.train.batch_size}; lower it"
        )
    if (validation := len(rows.of("validation"))) < 2:
        raise ValueError(f"validation has {validation} rows, but 2 are needed; give it more")
    if run.data.gaps == "zeros":
        return
    for term in run_plan(run).terms:
        needed = [rows.present[name] for side in (term.left, term.right) for name in side]
        complete = int(torch.stack(needed).all(dim=0)[training].sum())
        if complete < 2:
            raise ValueError(
                f"the term '{term}' cannot be learned: {complete} training rows have all of it; add rows, or choose a "
                "plan without it (plan.terms)"
            )


def check_same_rows(folder: Path, run: RunFile, manifest: Manifest, rows: RowTable) -> None:
    """Check that a manifest has the rows that a run was trained on, in their order, with the same gaps.

    Raises:
        ValueError: saying what differs.
    """
    advice = f"{folder} was trained on other rows. Put the table back, or train again in another folder"
    if len(manifest) != len(rows.ids):
        raise ValueError(f"{manifest.address}: has {len(manifest)} rows, had {len(rows.ids)}; {advice}")
    for row, (now, then) in enumerate(zip(manifest.ids, rows.ids)):
        if now != then:
            raise ValueError(f"{manifest.address}: row {row} has the id {now!r}, had {then!r}; {advice}")
    for name, modality in run.modalities.items():
        differ = (torch.as_tensor(manifest.present(modality.column)) != rows.present[name]).nonzero().flatten()
        if len(differ):
            row = int(differ[0])
            was = "filled" if bool(rows.present[name][row]) else "empty"
            raise ValueError(f"{manifest.where(row, modality.column)}: the cell was {was} and is not now; {advice}")


def class_numbers(labels: Sequence[str | None] | None, names: Sequence[str] | None) -> Int[Tensor, " n"] | None:
    """The class of each row; None if the classes are not known, or not of every row."""
    if labels is None or names is None or any(label is None for label in labels):
        return None
    number = {name: position for position, name in enumerate(names)}
    return torch.tensor([number[str(label)] for label in labels], dtype=torch.long)


def group_numbers(groups: Sequence[str | None]) -> Int[Tensor, " n"]:
    """A number for each group; -1 for a row of no group.

    >>> group_numbers(["b", None, "a", "b"]).tolist()
    [1, -1, 0, 1]
    """
    number = {name: position for position, name in enumerate(sorted({name for name in groups if name is not None}))}
    return torch.tensor([-1 if name is None else number[name] for name in groups], dtype=torch.long)
