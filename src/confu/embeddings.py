"""A table of embeddings: what a model made of a data set, by row id and subset, readable without the model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from confu.files import written_whole
from confu.plan import Subset
from confu.types import SCORES

FORMAT = "confu.embeddings"
FORMAT_VERSION = 1
_METADATA_KEY = b"confu"
_ID, _LABEL = "id", "label"


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Unit vectors of each row, by subset.

    A row that lacks a modality of a subset is not complete there; its vector is stored as zeros.

    Attributes:
        ids: one per row, unique; kept as a tuple.
        vectors: subset -> (n, dim) float32; all subsets have one dim.
        complete: subset -> (n,) bool; a subset that is not listed is complete in every row.
        labels: (n,) class indices, or None.
        model: the name of the model that made them.
        plan: the plan that it was trained with, as JSON text.
        score: how the method compares embeddings: `"cosine"` those of two subsets; `"multilinear"`, `"volume"` and
            `"area"` those of all modalities at once, so that such a table holds single modalities only.

    Raises:
        ValueError: if ids repeat, sizes, types or dims do not fit, or the score is unknown or not for these subsets.

    Example:
        >>> table = EmbeddingTable(("a", "b"), {Subset("image"): torch.eye(2)})
        >>> len(table), table.dim, table.subsets
        (2, 2, (Subset('image'),))
        >>> table.select(torch.tensor([1])).ids
        ('b',)
    """

    ids: Sequence[str]
    vectors: dict[Subset, Float[Tensor, "_ _"]]
    complete: dict[Subset, Bool[Tensor, " _"]] = field(default_factory=dict)
    labels: Int[Tensor, " _"] | None = None
    model: str = ""
    plan: str = ""
    score: str = "cosine"

    def __post_init__(self) -> None:
        n = len(self.ids)
        if len(set(self.ids)) != n:
            seen: set[str] = set()
            twice = next(one for one in self.ids if one in seen or seen.add(one))
            raise ValueError(f"ids must be unique; {twice!r} appears more than once in {n} rows")
        if not self.vectors:
            raise ValueError("vectors must hold at least one subset; got none")
        for subset, vectors in self.vectors.items():
            if str(subset) in (_ID, _LABEL):
                raise ValueError(f"a modality may not be called {str(subset)!r}: that names a column of the file")
            if vectors.ndim != 2 or len(vectors) != n or vectors.dtype != torch.float32:
                raise ValueError(
                    f"vectors[{str(subset)!r}] must be float32 of shape ({n}, dim), one row per id; "
                    f"got {vectors.dtype} {tuple(vectors.shape)}"
                )
        dims = {str(subset): vectors.shape[1] for subset, vectors in self.vectors.items()}
        if len(set(dims.values())) != 1 or 0 in dims.values():
            raise ValueError(f"all subsets must have the same dim, at least 1; got {dims}")
        if unknown := [str(subset) for subset in self.complete if subset not in self.vectors]:
            raise ValueError(f"complete names subsets without vectors: {', '.join(unknown)}")
        masks = {
            subset: self.complete.get(subset, torch.ones(n, dtype=torch.bool, device=vectors.device))
            for subset, vectors in self.vectors.items()
        }
        for subset, mask in masks.items():
            if mask.shape != (n,) or mask.dtype != torch.bool:
                raise ValueError(
                    f"complete[{str(subset)!r}] must be bool of shape ({n},); got {mask.dtype} {tuple(mask.shape)}"
                )
        if self.labels is not None and self.labels.shape != (n,):
            raise ValueError(f"labels must have shape ({n},), one per id; got {tuple(self.labels.shape)}")
        if self.score not in SCORES:
            raise ValueError(f"score must be one of {', '.join(map(repr, SCORES))}; got {self.score!r}")
        fused = [str(subset) for subset in self.vectors if subset.is_fused]
        if self.score != "cosine" and fused:
            raise ValueError(
                f"a table with the score {self.score!r} holds single modalities only, for these are what the method "
                f"compares; got {', '.join(fused)}. Leave them out, or set score='cosine'"
            )
        # Zeros where there is no embedding, so that a table is bitwise the same before and after the disk.
        zeroed = {
            subset: vectors if bool(masks[subset].all()) else vectors.masked_fill(~masks[subset][:, None], 0.0)
            for subset, vectors in self.vectors.items()
        }
        object.__setattr__(self, "ids", tuple(self.ids))
        object.__setattr__(self, "vectors", zeroed)
        object.__setattr__(self, "complete", masks)

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """The subsets of the table, in its order."""
        return tuple(self.vectors)

    @property
    def dim(self) -> int:
        """The size of an embedding."""
        return next(iter(self.vectors.values())).shape[1]

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, subset: object) -> bool:
        return (Subset.parse(subset) if isinstance(subset, str) else subset) in self.vectors

    def __getitem__(self, subset: Subset | str) -> Tensor:
        return self.vectors[self._known(subset)]

    def _known(self, subset: Subset | str) -> Subset:
        subset = Subset.parse(subset)
        if subset not in self.vectors:
            raise ValueError(f"the table has no subset {str(subset)!r}; it has {', '.join(map(str, self.subsets))}")
        return subset

    def rows_with(self, *subsets: Subset | str) -> Int[Tensor, " rows"]:
        """The indices of the rows that are complete for all of these subsets."""
        mask = torch.ones(len(self), dtype=torch.bool)
        for subset in subsets:
            mask &= self.complete[self._known(subset)].cpu()
        return mask.nonzero().squeeze(1)

    def select(self, indices: Tensor) -> "EmbeddingTable":
        """The rows of these indices, in their order.

        Args:
            indices: (rows,) integers, none twice, or an (n,) bool mask.
        """
        indices = indices.nonzero().squeeze(1) if indices.dtype == torch.bool else indices
        return EmbeddingTable(
            tuple(self.ids[int(i)] for i in indices),
            {subset: vectors[indices] for subset, vectors in self.vectors.items()},
            {subset: mask[indices] for subset, mask in self.complete.items()},
            None if self.labels is None else self.labels[indices],
            self.model,
            self.plan,
            self.score,
        )

    def save(self, path: str | Path) -> None:
        """Write one Parquet file: `id`, `label` and a fixed-size list of float32 per subset, null where incomplete.

        Args:
            path: the file; it is written whole or not at all.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, Any] = {_ID: pa.array(self.ids, pa.string())}
        if self.labels is not None:
            columns[_LABEL] = pa.array(self.labels.cpu().numpy(), pa.int64())
        for subset, vectors in self.vectors.items():
            flat = pa.array(vectors.cpu().contiguous().numpy().reshape(-1), pa.float32())
            missing = pa.array((~self.complete[subset]).cpu().numpy())
            columns[str(subset)] = pa.FixedSizeListArray.from_arrays(flat, self.dim, mask=missing)
        about = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "model": self.model,
            "plan": self.plan,
            "score": self.score,
            "dim": self.dim,
            "subsets": [str(subset) for subset in self.vectors],
        }
        table = pa.table(columns).replace_schema_metadata({_METADATA_KEY: json.dumps(about).encode()})
        with written_whole(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    @classmethod
    def load(cls, path: str | Path) -> "EmbeddingTable":
        """Read what `save` wrote, bitwise the same; no model is needed.

        Raises:
            ValueError: if there is no such file, or it is cut short, of another kind or of a newer version.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = Path(path)
        if not path.is_file():
            raise ValueError(f"there is no embedding table at {path}; write one with EmbeddingTable.save")
        try:
            table = pq.ParquetFile(path).read()
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} is not a whole Parquet file ({error}); write it again") from error
        about = _about(path, table.schema)
        vectors, complete = {}, {}
        for name in about["subsets"]:
            subset = Subset.parse(name)
            vectors[subset], complete[subset] = _read_column(path, table, name, about["dim"])
        labels = torch.from_numpy(table[_LABEL].to_numpy().copy()) if _LABEL in table.column_names else None
        score = about.get("score", "cosine")  # the only one when files did not say
        return cls(tuple(table[_ID].to_pylist()), vectors, complete, labels, about["model"], about["plan"], score)


def _about(path: Path, schema: Any) -> dict[str, Any]:
    text = (schema.metadata or {}).get(_METADATA_KEY)
    try:
        about = json.loads(text) if text is not None else None
    except ValueError as error:
        raise ValueError(f"{path} has unreadable metadata ({error}); write the table again") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"{path} is a Parquet file but not an embedding table of confu; write one with confu")
    if about.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {about.get('version')}, this confu reads version {FORMAT_VERSION}; "
            "update confu or embed again"
        )
    if missing := [key for key in ("model", "plan", "dim", "subsets") if key not in about]:
        raise ValueError(f"{path} lacks {', '.join(missing)} in its metadata; embed again")
    if missing := [name for name in (_ID, *about["subsets"]) if name not in schema.names]:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; embed again")
    return about


def _read_column(path: Path, table: Any, name: str, dim: int) -> tuple[Tensor, Tensor]:
    import pyarrow as pa

    column = table[name].combine_chunks()
    if column.type != pa.list_(pa.float32(), dim):
        raise ValueError(f"column {name!r} of {path} must be a list of {dim} float32; got {column.type}; embed again")
    mask = torch.from_numpy(column.is_valid().to_numpy(zero_copy_only=False).copy())
    vectors = torch.zeros(len(mask), dim)
    vectors[mask] = torch.from_numpy(column.flatten().to_numpy().copy()).reshape(-1, dim)  # flatten() leaves out nulls
    return vectors, mask
