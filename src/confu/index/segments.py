"""One segment of an exact store: files that never change, memory-mapped."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from confu.embeddings import EmbeddingTable
from confu.index.columns import cast_columns
from confu.index.items import Items
from confu.index.segment_writing import ABOUT, ID_ROWS, IDS, ITEMS, METADATA, hash_ids
from confu.plan import Subset


class Segment:
    """Opened for reading; nothing is read until it is asked for.

    Args:
        folder: of the segment.

    Raises:
        FileNotFoundError: if it, or a file of it, is not there.
        ValueError: if a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            self.rows, self.dim = int(about["rows"]), int(about["dim"])
            self.files: dict[str, dict[str, Any]] = about["files"]
            self._vectors: dict[Subset, Tensor] = {}
            self._having: dict[Subset, np.ndarray] = {}
            for one in about["subsets"]:
                subset = Subset.parse(one["subset"])
                self._vectors[subset] = torch.from_numpy(_mapped(folder, one["vectors"], (one["count"], self.dim)))
                if one["rows"] is not None:
                    self._having[subset] = _mapped(folder, one["rows"], (one["count"],))
            self._hashes = _mapped(folder, IDS, (self.rows,))
            self._hash_rows = _mapped(folder, ID_ROWS, (self.rows,))
            # Mapped, too: of a million rows only those that are asked for are read.
            with pa.ipc.open_file(pa.memory_map(str(folder / ITEMS))) as opened:
                self._batches = [opened.get_batch(number) for number in range(opened.num_record_batches)]
                self._schema = opened.schema
        except (ValueError, KeyError, TypeError, EOFError, pa.ArrowException) as error:
            raise ValueError(f"{folder}: not readable as a part of an index ({error})") from error
        self._starts = np.cumsum([0, *(len(batch) for batch in self._batches)])

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """Those that are stored."""
        return tuple(self._vectors)

    def vectors(self, subset: Subset) -> Float[Tensor, "count dim"]:
        """The memory-mapped vectors of the rows that have this subset."""
        return self._vectors[subset]

    def having(self, subset: Subset) -> np.ndarray | None:
        """(count,) ascending: the rows whose vectors are stored; None if all rows have one."""
        return self._having.get(subset)

    def column(self, name: str, kind: pa.DataType) -> pa.ChunkedArray:
        """A column of metadata as this type, null where the segment does not have it."""
        stored = METADATA + name
        if stored not in self._schema.names:
            return pa.chunked_array([pa.nulls(self.rows, kind)])
        return pa.chunked_array(
            [batch.column(stored) for batch in self._batches], self._schema.field(stored).type
        ).cast(kind)

    def ids(self) -> pa.ChunkedArray:
        """The id of every row."""
        return pa.chunked_array([batch.column("id") for batch in self._batches], pa.string())

    def id_at(self, row: int) -> str:
        """The id of one row."""
        batch = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._batches[batch].column("id")[int(row - self._starts[batch])].as_py()

    def find(self, ids: Sequence[str], hashes: np.ndarray | None = None) -> dict[str, int]:
        """The rows of those of the ids that are here.

        Args:
            ids: to look for.
            hashes: of the ids, see `hash_ids`.
        """
        hashes = hash_ids(ids) if hashes is None else hashes
        starts = np.searchsorted(self._hashes, hashes, side="left")
        ends = np.searchsorted(self._hashes, hashes, side="right")
        found = {}
        for position in np.flatnonzero(starts < ends).tolist():
            for place in range(
                int(starts[position]), int(ends[position])
            ):  # more than one only where hashes fall together
                row = int(self._hash_rows[place])
                if self.id_at(row) == ids[position]:
                    found[ids[position]] = row
        return found

    def items(self, rows: np.ndarray, schema: pa.Schema) -> Items:
        """The items of these rows, in their order, with metadata of these columns."""
        table = self._taken(rows)
        vectors, complete = {}, {}
        for subset, stored in self._vectors.items():
            places, there = self._places(subset, rows)
            vectors[subset] = torch.zeros(len(rows), self.dim)
            vectors[subset][torch.from_numpy(there)] = stored[torch.from_numpy(places[there])]
            complete[subset] = torch.from_numpy(there)
        named = [name for name in table.column_names if name.startswith(METADATA)]
        metadata = table.select(named).rename_columns([name.removeprefix(METADATA) for name in named])
        pairs = [dict(one) for one in table["media"].to_pylist()]
        names = dict.fromkeys(name for pair in pairs for name in pair)
        return Items(
            EmbeddingTable(tuple(table["id"].to_pylist()), vectors, complete),
            cast_columns(metadata, schema, len(rows)),
            {name: [pair.get(name) for pair in pairs] for name in names},
        )

    def _places(self, subset: Subset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the vectors of rows stand, and which rows have one."""
        having = self.having(subset)
        if having is None:
            return rows, np.ones(len(rows), dtype=bool)
        places = np.searchsorted(having, rows)
        there = places < len(having)
        there[there] = having[places[there]] == rows[there]
        return places, there

    def _taken(self, rows: np.ndarray) -> pa.Table:
        of = np.searchsorted(self._starts, rows, side="right") - 1
        parts, order = [], []
        for number, batch in enumerate(self._batches):
            positions = np.flatnonzero(of == number)
            if len(positions):
                parts.append(batch.take(pa.array(rows[positions] - self._starts[number])))
                order.append(positions)
        table = pa.Table.from_batches(parts, self._schema)
        return table if len(parts) < 2 else table.take(pa.array(np.argsort(np.concatenate(order))))


def plain_name(name: str) -> str:
    """The name of a file in the folder at hand; an index may come from a stranger, and must not point elsewhere.

    Raises:
        ValueError: if it leads out of the folder.
    """
    if not name or name != Path(name).name or name in (".", ".."):
        raise ValueError(f"expected the name of a file in this folder; got {name!r}")
    return name


def _mapped(folder: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A `.npy` file, mapped so that a write to the array would not reach it (torch takes no read-only arrays)."""
    found = np.load(folder / plain_name(name), mmap_mode="c" if 0 not in shape else None, allow_pickle=False)
    if found.shape != shape:
        raise ValueError(f"{name} must have shape {shape}; got {found.shape}")
    return found
