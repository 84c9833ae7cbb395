"""FAISS beside an exact store, which holds the items; index files of ranges of its vectors find nearly all, faster.

    faiss/<generation>-<subset>-<start>-<end>-<key>.faiss    an index of the vectors from start to end
    faiss/<generation>-<subset>-<start>-<end>-<key>.json     its size and SHA-256; written last

The key is a hash of the vectors and of the options, so that a file is never used for others. Where there is no file
(fewer than `least` new vectors, or one could not be written) vectors are compared exactly.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from confu.checks import check_known
from confu.files import write_json, written_whole
from confu.index import exact
from confu.index.backend import Change, number_options
from confu.index.catalog import About
from confu.index.items import Items
from confu.index.scan import Nearest, merge, nearest

_PIECE = 1 << 16  # vectors in memory
_CANDIDATES = 1 << 26  # numbers of candidates in memory
_PER_CELL = 64  # vectors that a cell is learned from
# Option -> default, minimum, maximum; m and nlist of 0 are chosen by the vectors.
_ALL = {"least": (10_000, 1, 1 << 40)}
_KINDS = {
    "flat": {},
    "hnsw": {"m": (0, 0, 1 << 16), "ef_build": (100, 1, 1 << 16), "ef": (64, 1, 1 << 20)},
    "ivfpq": {
        "m": (0, 0, 1 << 16),
        "bits": (8, 4, 12),
        "nlist": (0, 0, 1 << 20),
        "nprobe": (32, 1, 1 << 20),
        "refine": (10, 0, 1000),
        "seed": (0, 0, 1 << 31),
    },
}
_ONLY_SEARCH = ("ef", "nprobe", "refine", "least")
_DIALS = {"hnsw": "ef", "ivfpq": "nprobe"}


def create(folder: Path, about: About, options: Mapping[str, Any]) -> "FaissStore":
    """An empty store in a folder that is new or empty.

    Options: `kind` "hnsw" walks a graph, "ivfpq" compares compressed vectors of a few cells, "flat" all vectors;
    `least` vectors for an index file. hnsw: `m` neighbours of a vector, `ef_build` and `ef` vectors looked at when one
    is added and in a search. ivfpq: `m` parts that a vector is compressed in, `bits` of each, `nlist` cells, `nprobe`
    cells looked into, `refine` times k candidates compared again by their true vectors, `seed` of the training sample.

    Raises:
        ImportError: if FAISS is not installed.
        ValueError: if an option is wrong.
    """
    settings = _checked(options, about.dim)
    return FaissStore(exact.create(folder, about, {}), dict(options), settings)


def open_(folder: Path, about: About, options: Mapping[str, Any], writable: bool) -> "FaissStore":
    """The store of a folder; a writer first makes the index files that are not there."""
    settings = _checked(options, about.dim)
    store = FaissStore(exact.open_(folder, about, {}, writable), dict(options), settings)
    if writable:
        store.build()
    return store


def _library() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            'an index of FAISS needs faiss, which is not installed: pip install "contrastive-fusion[faiss]"'
        ) from error
    return faiss


def _checked(options: Mapping[str, Any], dim: int) -> dict[str, Any]:
    _library()
    kind = options.get("kind", "hnsw")
    check_known("option kind", kind, _KINDS)
    for name in options:
        check_known(
            "option of the faiss store", name, ["kind", *_ALL, *dict.fromkeys(n for o in _KINDS.values() for n in o)]
        )
        if name not in ("kind", *_ALL, *_KINDS[kind]):
            kinds = ", ".join(other for other, known in _KINDS.items() if name in known)
            raise ValueError(f"option {name} is of kind {kinds}; the kind is {kind}")
    settings = {"kind": kind, **number_options(options, {**_ALL, **_KINDS[kind]})}
    if kind == "ivfpq" and dim % _parts(settings, dim):
        raise ValueError(f"option m must divide the dim of the vectors, {dim}; got {settings['m']}")
    if kind == "hnsw" and settings["m"] == 1:
        raise ValueError("option m must be at least 2; got 1")
    return settings


def _parts(settings: Mapping[str, Any], dim: int) -> int:
    """`m`; for ivfpq by default the most parts of four numbers or more that divide the vector."""
    if settings["m"] or settings["kind"] == "hnsw":
        return settings["m"] or 16
    return next(count for count in range(max(1, dim // 4), 0, -1) if dim % count == 0)


def _cells(settings: Mapping[str, Any], rows: int) -> int:
    """`nlist`; by default four times the root of the rows, of 39 or more to learn from, as FAISS wants."""
    return settings["nlist"] or max(1, min(int(4 * rows**0.5), rows // 39))


@dataclass(frozen=True)
class _File:
    """An index file of the vectors from `start` to `end` of a subset."""

    path: Path
    start: int
    end: int

    @property
    def about(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def damage(self) -> str:
        return f"{self.path} is not as it was written; remove it, and the next one to write to the index makes it again"

    def is_whole(self) -> bool:
        try:
            return json.loads(self.about.read_text(encoding="utf-8")) == _size_and_digest(self.path)
        except (ValueError, OSError):
            return False


class FaissStore(exact.ExactStore):
    """An exact store that searches by FAISS, and sorts what it finds by true cosines.

    Conditions and deleted items are left out while FAISS searches, so that k come of those that fit; where few fit,
    these are compared one by one.
    """

    def __init__(self, store: exact.ExactStore, options: dict[str, Any], settings: dict[str, Any]) -> None:
        super().__init__(store.about, store.storage)
        self.options, self.settings, self.folder = options, settings, store.storage.folder / "faiss"
        self._opened: dict[Path, Any] = {}
        self._covers: dict[int, tuple[int, list[_File]]] = {}  # subset -> number of vectors, files

    @property
    def dial(self) -> tuple[str, int] | None:
        """The option that trades time for recall."""
        name = _DIALS.get(self.settings["kind"])
        return None if name is None else (name, self.settings[name])

    def with_dial(self, value: int | None) -> exact.ExactStore:
        """The same store with the dial at another value; the exact one for None."""
        if value is None or self.dial is None:
            return exact.ExactStore(self.about, self.storage)
        other = FaissStore(self, self.options, {**self.settings, self.dial[0]: value})
        other._opened = self._opened
        return other

    def add(self, parts: Iterable[Items], replace: bool = False, source: dict[str, Any] | None = None) -> Change:
        """Store items, all of them or none, and make their index files."""
        change = super().add(parts, replace, source)
        self.build()
        return change

    def compact(self) -> None:
        """Write the vectors that are left into new files, and make their index files."""
        super().compact()
        self.build()

    def verify(self) -> list[str]:
        """Read everything and report damage."""
        files = [file for number in range(len(self.about.subsets)) for file in self._cover(number)]
        return [*super().verify(), *(file.damage for file in files if not file.is_whole())]

    def close(self) -> None:
        """Close files, and let another process write."""
        self._opened.clear()
        super().close()

    def scan(
        self, number: int, queries: Float[Tensor, "queries dim"], k: int, allowed: Bool[Tensor, " slots"] | None
    ) -> Nearest:
        """The k nearest of the vectors of a subset that are allowed, nearly all of them."""
        faiss, vectors = _library(), self.storage.vectors(number)
        if self.settings["kind"] == "flat" and len(vectors) and (allowed is None or bool(allowed.all())):
            found = faiss.knn(
                queries.contiguous().numpy(), vectors.numpy(), min(k, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT
            )
            return torch.from_numpy(found[0]), torch.from_numpy(found[1])
        parts, end = [], 0
        for file in self._cover(number):
            end = file.end
            some = slice(file.start, end)
            mask = None if allowed is None else allowed[some]
            scores, rows = self._approximate(self._read(file), queries, vectors[some], k, mask)
            parts.append((scores, rows + file.start))
        if self._has_file(len(vectors) - end):
            message = "vectors have no index file of these options and are searched exactly; open the index for writing"
            warnings.warn(f"{self.folder}: {len(vectors) - end} {message} to make it", stacklevel=5)
        scores, rows = nearest(queries, vectors[end:], k, None if allowed is None else allowed[end:])
        return merge([*parts, (scores, rows + end)], k)

    def build(self) -> None:
        """Make the index files that are not there, and remove those that are not used.

        Raises:
            ValueError: if one cannot be written; no item is lost by that.
        """
        used = set()
        for number in range(len(self.about.subsets)):
            files, vectors = self._cover(number), self.storage.vectors(number)
            start = files[-1].end if files else 0
            if self._has_file(len(vectors) - start):
                # Files no larger than what comes after them become one with it, so that there are never many.
                while files and files[-1].end - files[-1].start <= len(vectors) - start:
                    start = files.pop().start
                file = self._file(number, start, len(vectors))
                try:
                    with written_whole(file.path) as temporary:
                        _library().write_index(self._trained(vectors[start:]), str(temporary))
                    write_json(file.about, _size_and_digest(file.path))
                except (OSError, RuntimeError) as error:  # FAISS says the second of a full disk
                    raise ValueError(
                        f"{file.path} cannot be written ({error}). All items are stored and found, but slowly; make "
                        "room, and open the index for writing"
                    ) from error
                files.append(file)
            used |= {path for file in files for path in (file.path, file.about)}
        self._covers.clear()
        self._opened = {path: index for path, index in self._opened.items() if path in used}
        for path in (self.folder).glob("*"):
            if path not in used:
                path.unlink()

    def _has_file(self, rows: int) -> bool:
        settings = self.settings
        if settings["kind"] == "flat" or rows < settings["least"]:
            return False
        return settings["kind"] == "hnsw" or rows >= max(_cells(settings, rows), 1 << settings["bits"])

    def _file(self, number: int, start: int, end: int) -> _File:
        """The file of a range of vectors, there or not."""
        digests = [digest for first, _, digest in self.storage.blocks(number) if start <= first < end]
        made_of = [
            digests,
            start,
            end,
            {name: self.settings[name] for name in self.settings if name not in _ONLY_SEARCH},
        ]
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
        name = f"{self.storage.state['generation']}-{number}-{start}-{end}-{key}.faiss"
        return _File(self.folder / name, start, end)

    def _cover(self, number: int) -> list[_File]:
        """The files that are there, one after the other from the first vector on; what follows has none."""
        rows = len(self.storage.vectors(number))
        if self._covers.get(number, (-1, []))[0] == rows:
            return list(self._covers[number][1])
        ranges = [tuple(map(int, path.name.split("-")[1:4])) for path in (self.folder).glob("*-*-*-*-*.json")]
        files, start = [], 0
        while True:
            ends = sorted({end for one, first, end in ranges if (one, first) == (number, start) and end <= rows})
            there = [
                file for end in ends if (file := self._file(number, start, end)).path.is_file() and file.about.is_file()
            ]
            if not there:
                break
            files.append(there[-1])
            start = there[-1].end
        if not self._has_file(rows - start):
            self._covers[number] = rows, files
        return list(files)

    def _approximate(self, index: Any, queries: Tensor, vectors: Tensor, k: int, allowed: Tensor | None) -> Nearest:
        """The k best of the vectors of one file: by its index where that pays, exactly where it finds too few."""
        faiss, settings, total = _library(), self.settings, len(vectors)
        fit = total if allowed is None else int(allowed.sum())
        dial = settings[_DIALS[settings["kind"]]]
        # Where a share s of m vectors fits, a graph is walked through ef / s of them, each with its neighbours, and s m
        # are compared without it. The two meet near s m = 4 sqrt(ef m).
        if fit <= min(total // 2, max(10 * k, int(4 * (dial * total) ** 0.5))):
            return nearest(queries, vectors, k, allowed)
        selector = {}
        if allowed is not None and fit < total:
            selector = {"sel": faiss.IDSelectorBitmap(np.packbits(allowed.numpy(), bitorder="little"))}
        if settings["kind"] == "hnsw":
            count, parameters = k, faiss.SearchParametersHNSW(efSearch=int(max(dial, k) * total / fit), **selector)
        else:
            count = k * max(1, settings["refine"])
            parameters = faiss.SearchParametersIVF(nprobe=int(dial * total / fit), **selector)
        found = index.search(queries.contiguous().numpy(), min(count, fit), params=parameters)
        scores, rows = map(torch.from_numpy, found)
        scores = scores.masked_fill(rows < 0, -torch.inf)
        if settings["kind"] == "ivfpq" and settings["refine"]:
            scores, rows = _refined(queries, vectors, scores, rows, k)
        lacking = (rows[:, :k] < 0).any(dim=1).nonzero()[:, 0]
        if len(lacking):
            scores[lacking], rows[lacking] = nearest(queries[lacking], vectors, k, allowed)
        return scores, rows

    def _trained(self, vectors: Float[Tensor, "rows dim"]) -> Any:
        """An index of vectors, which may be memory-mapped."""
        faiss, settings = _library(), self.settings
        rows, dim = vectors.shape
        parts = _parts(settings, dim)
        if settings["kind"] == "hnsw":
            index = faiss.IndexHNSWFlat(dim, parts, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = settings["ef_build"]
        else:
            cells, seed = _cells(settings, rows), settings["seed"]
            coarse = faiss.IndexFlatIP(dim)
            index = faiss.IndexIVFPQ(coarse, dim, cells, parts, settings["bits"], faiss.METRIC_INNER_PRODUCT)
            for learning in (index.cp, index.pq.cp):
                learning.min_points_per_centroid = 1  # few are the user's choice: no warning on the terminal
                learning.seed = seed + 1
            count = min(rows, max(_PER_CELL * cells, _PER_CELL << settings["bits"]))
            chosen = np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
            index.train(np.ascontiguousarray(vectors.numpy()[chosen]))
        for piece in vectors.split(_PIECE):
            index.add(np.ascontiguousarray(piece.numpy()))
        return index

    def _read(self, file: _File) -> Any:
        """The index of a file, memory-mapped where FAISS can."""
        if file.path not in self._opened:
            faiss = _library()
            try:
                if file.path.stat().st_size != json.loads(file.about.read_text(encoding="utf-8"))["bytes"]:
                    raise RuntimeError
                index = faiss.read_index(str(file.path), faiss.IO_FLAG_MMAP_IFC)
                if index.ntotal != file.end - file.start:
                    raise RuntimeError
            except (RuntimeError, ValueError, KeyError) as error:
                raise ValueError(file.damage) from error
            self._opened[file.path] = index
        return self._opened[file.path]


def _refined(queries: Tensor, vectors: Tensor, scores: Tensor, rows: Tensor, k: int) -> Nearest:
    """The k best of the candidates by their true vectors."""
    step = max(1, _CANDIDATES // (rows.shape[1] * vectors.shape[1]))
    parts = []
    for some, places in zip(queries.split(step), rows.split(step)):
        cosines = torch.einsum("nd,ncd->nc", some, vectors[places.clamp(min=0)]).masked_fill(places < 0, -torch.inf)
        values, order = cosines.topk(min(k, rows.shape[1]), dim=1)
        parts.append((values, places.gather(1, order)))
    return torch.cat([values for values, _ in parts]), torch.cat([places for _, places in parts])


def _size_and_digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
