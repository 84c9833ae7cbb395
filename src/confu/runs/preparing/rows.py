"""What became of each row of a manifest: its part of the data, what it has, and why it was set aside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from confu.data.manifest import Problem
from confu.files import written_whole

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
        return [row for row, one in enumerate(self.parts) if one == part]

    def positions(self, part: str) -> Int[Tensor, " rows"]:
        """Where the rows of a part stand among those kept."""
        return torch.tensor([i for i, row in enumerate(self.kept) if self.parts[row] == part], dtype=torch.long)

    def count(self, part: str) -> int:
        """How many rows a part has."""
        return len(self.of(part))

    def without(self, problems: Sequence[Problem]) -> "RowTable":
        """The same with the rows of these problems set aside."""
        broken = {problem.row for problem in problems}
        parts = tuple(None if row in broken else part for row, part in enumerate(self.parts))
        return RowTable(self.ids, parts, self.present, (*self.problems, *problems))

    def save(self, folder: Path) -> None:
        """Write `rows.parquet`: row, id, part ("split"), has_MODALITY, and what is wrong with a row set aside."""
        wrong: dict[int, list[dict[str, str]]] = {}
        for one in self.problems:
            wrong.setdefault(one.row, []).append({"column": one.column, "source": one.source, "what": one.what})
        problem = pa.struct([(name, pa.string()) for name in ("column", "source", "what")])
        table = pa.table(
            {
                "row": pa.array(range(len(self.ids)), pa.int64()),
                "id": pa.array(self.ids, pa.string()),
                "split": pa.array(self.parts, pa.string()),
                **{f"has_{name}": pa.array(mask.tolist(), pa.bool_()) for name, mask in self.present.items()},
                "problems": pa.array([wrong.get(row) for row in range(len(self.ids))], pa.list_(problem)),
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
                Problem(row, ids[row], **one) for row, found in enumerate(columns["problems"]) for one in found or ()
            )
            return cls(ids, tuple(columns["split"]), present, problems)
        except (OSError, pa.ArrowException, KeyError, TypeError) as error:
            raise ValueError(f"{file}: not the rows of a run ({error}); train again") from error
