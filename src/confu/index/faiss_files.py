"""The files of FAISS beside an exact store: one for each segment and subset, made of the segment and of nothing else.

DIR/faiss/<segment>-<key>.faiss    what FAISS wrote
DIR/faiss/<segment>-<key>.json     what it was made of, its size and SHA-256; written last
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from confu.files import write_json, written_whole
from confu.index.faiss_settings import Settings
from confu.index.segment_writing import file_entry
from confu.index.snapshot import Part
from confu.plan import Subset

FOLDER = "faiss"
_AT_ONCE = 1 << 16  # vectors in memory
_A_CELL = 64  # vectors that a cell is learned from


def library() -> Any:
    """The package faiss.

    Raises:
        ImportError: saying what to install.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            'an index of FAISS needs faiss, which is not installed: pip install "contrastive-fusion[faiss]"'
        ) from error
    return faiss


@dataclass(frozen=True, eq=False)
class File:
    """An index file, there or not.

    Attributes:
        path: of what FAISS writes.
        made_of: what tells it from every other file.
        rows: vectors in it.
    """

    path: Path
    made_of: dict[str, Any]
    rows: int

    @property
    def about(self) -> Path:
        """The small file beside it."""
        return self.path.with_suffix(".json")

    def is_there(self) -> bool:
        """Whether it was written whole."""
        return self.about.is_file() and self.path.is_file()


def file_of(folder: Path, part: Part, subset: Subset, settings: Settings) -> File | None:
    """The file of a subset of a segment; None where there is to be none.

    Args:
        folder: of the index.
        part: the segment.
        subset: stored in it.
        settings: of the store.
    """
    rows = len(part.segment.vectors(subset))
    if not settings.has_file(rows):
        return None
    made_of = {"segment": part.entry["sha256"], "subset": sorted(subset), **settings.of_file()}
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
    return File(folder / FOLDER / f"{part.segment.name}-{key}.faiss", made_of, rows)


def write(file: File, vectors: Float[Tensor, "rows dim"], settings: Settings) -> None:
    """Make an index of vectors and write it, whole or not at all."""
    made = build(vectors, settings)
    with written_whole(file.path) as temporary:
        library().write_index(made, str(temporary))
    write_json(file.about, {"made_of": file.made_of, "rows": file.rows, **file_entry(file.path)})


def build(vectors: Float[Tensor, "rows dim"], settings: Settings) -> Any:
    """An index of FAISS over vectors, which may be memory-mapped."""
    faiss = library()
    rows, dim = vectors.shape
    parts = settings.parts(dim)
    if settings.kind == "hnsw":
        made = faiss.IndexHNSWFlat(dim, parts, faiss.METRIC_INNER_PRODUCT)
        made.hnsw.efConstruction = settings.ef_build
    else:
        cells = settings.cells(rows)
        coarse = faiss.IndexFlatIP(dim)
        made = faiss.IndexIVFPQ(coarse, dim, cells, parts, settings.bits, faiss.METRIC_INNER_PRODUCT)
        for learning in (made.cp, made.pq.cp):
            learning.min_points_per_centroid = 1  # few are the user's choice: no warning on the terminal
            learning.seed = settings.seed + 1
        count = min(rows, max(_A_CELL * cells, _A_CELL << settings.bits))
        chosen = np.sort(np.random.default_rng(settings.seed).choice(rows, count, replace=False))
        made.train(np.ascontiguousarray(vectors.numpy()[chosen]))
    for piece in vectors.split(_AT_ONCE):
        made.add(np.ascontiguousarray(piece.numpy()))
    return made


def read(file: File) -> Any:
    """The index of a file, memory-mapped where FAISS can.

    Raises:
        ValueError: if it is not as it was written.
    """
    faiss = library()
    about = json.loads(file.about.read_text(encoding="utf-8"))
    if file.path.stat().st_size != about["bytes"]:
        raise ValueError(_damaged(file))
    try:
        found = faiss.read_index(str(file.path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise ValueError(_damaged(file)) from error
    if found.ntotal != file.rows:
        raise ValueError(_damaged(file))
    return found


def check(file: File) -> list[str]:
    """What is wrong with a file that is there."""
    try:
        about = json.loads(file.about.read_text(encoding="utf-8"))
        right = about["made_of"] == file.made_of and file_entry(file.path)["sha256"] == about["sha256"]
    except (ValueError, KeyError, TypeError):
        right = False
    return [] if right else [_damaged(file)]


def _damaged(file: File) -> str:
    return f"{file.path} is not as it was written; remove it, and the next one to write to the index makes it again"
