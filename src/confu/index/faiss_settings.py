"""How FAISS is to search: by comparing every vector, through a graph, or among compressed vectors in cells."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from confu.checks import check_known

_OF_KIND = {
    "flat": (),
    "hnsw": ("m", "ef_build", "ef"),
    "ivfpq": ("m", "bits", "nlist", "nprobe", "refine", "seed"),
}
_OF_ALL = ("kind", "least")


@dataclass(frozen=True)
class Settings:
    """Options of the FAISS store.

    Attributes:
        kind: "flat" compares every vector; "hnsw" walks a graph; "ivfpq" compares compressed vectors of a few cells.
        least: vectors of a segment below which it is searched exactly.
        m: hnsw: neighbours of a vector, 16 if 0. ivfpq: parts that a vector is compressed in, which must divide its
            dim; if 0 the most that do so with four numbers or more a part.
        ef_build: hnsw: vectors looked at when one is put into the graph.
        ef: hnsw: vectors looked at in a search; more find more, and take longer.
        bits: ivfpq: of each part, 4 to 12.
        nlist: ivfpq: cells; four times the root of the number of vectors if 0.
        nprobe: ivfpq: cells looked into; more find more, and take longer.
        refine: ivfpq: so many times k candidates are compared again by their true vectors; 0 for none, and then scores
            are those of the compressed vectors.
        seed: ivfpq: of the vectors that the cells are learned from.

    Raises:
        ValueError: for an option that is out of bounds.
    """

    kind: str = "hnsw"
    least: int = 10_000
    m: int = 0
    ef_build: int = 100
    ef: int = 64
    bits: int = 8
    nlist: int = 0
    nprobe: int = 32
    refine: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check_known("option kind", self.kind, _OF_KIND)
        limits = {
            "least": (1, 1 << 40), "m": (0, 1 << 16), "ef_build": (1, 1 << 16), "ef": (1, 1 << 20), "bits": (4, 12),
            "nlist": (0, 1 << 20), "nprobe": (1, 1 << 20), "refine": (0, 1000), "seed": (0, 1 << 31),
        }  # fmt: skip
        for name, (lowest, highest) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
                raise ValueError(f"option {name} must be a whole number from {lowest} to {highest}; got {value!r}")

    @classmethod
    def of(cls, options: Mapping[str, Any], dim: int) -> "Settings":
        """Read options.

        Raises:
            ValueError: for one that is not known, is of another kind, or does not fit to vectors of this dim.
        """
        for name in options:
            check_known("option of the faiss store", name, [field.name for field in fields(cls)])
        settings = cls(**options)
        if other := [name for name in options if name not in (*_OF_ALL, *_OF_KIND[settings.kind])]:
            kinds = ", ".join(kind for kind, known in _OF_KIND.items() if other[0] in known)
            raise ValueError(f"option {other[0]} is of kind {kinds}; the kind is {settings.kind}")
        if settings.kind == "ivfpq" and dim % settings.parts(dim):
            raise ValueError(f"option m must divide the dim of the vectors, {dim}; got {settings.m}")
        if settings.kind == "hnsw" and settings.m == 1:
            raise ValueError("option m must be at least 2; got 1")
        return settings

    def parts(self, dim: int) -> int:
        """`m`, or what stands for 0."""
        if self.kind == "hnsw":
            return self.m or 16
        return self.m or next(count for count in range(max(1, dim // 4), 0, -1) if dim % count == 0)

    def cells(self, rows: int) -> int:
        """`nlist`, or what stands for 0."""
        return self.nlist or max(1, min(int(4 * rows**0.5), rows // 39))  # FAISS wants 39 vectors a cell to learn from

    def has_file(self, rows: int) -> bool:
        """Whether so many vectors get an index file."""
        if self.kind == "flat" or rows < self.least:
            return False
        return self.kind == "hnsw" or rows >= max(self.cells(rows), 1 << self.bits)

    def of_file(self) -> dict[str, Any]:
        """The options that a file is made with; the others may differ from search to search."""
        only_search = ("ef", "nprobe", "refine", "least")
        return {name: getattr(self, name) for name in ("kind", *_OF_KIND[self.kind]) if name not in only_search}
