"""An exact store with FAISS beside it: the segments hold the truth, an index file of each large one finds faster."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pyarrow as pa
from jaxtyping import Float
from torch import Tensor

from confu.index import exact
from confu.index.about import About
from confu.index.backend import Change, Found
from confu.index.conditions import Condition
from confu.index.faiss_files import FOLDER, File, check, file_of, library, read, write
from confu.index.faiss_search import scan_flat, search
from confu.index.faiss_settings import Settings
from confu.index.items import Items
from confu.index.scan import Scores, best, scan
from confu.index.snapshot import Part
from confu.plan import Subset


def create(folder: Path, about: About, options: Mapping[str, Any]) -> "FaissStore":
    """An empty store in a folder that is new or empty; the caller writes `index.json`.

    Raises:
        ImportError: if FAISS is not installed.
        ValueError: if an option is wrong.
    """
    library()
    settings = Settings.of(options, about.dim)
    return FaissStore(exact.create(folder, about, {}), dict(options), settings)


def open_(folder: Path, about: About, options: Mapping[str, Any], writable: bool) -> "FaissStore":
    """The store of a folder; a writer first makes the index files that are not there."""
    library()
    settings = Settings.of(options, about.dim)
    store = FaissStore(exact.open_(folder, about, {}, writable), dict(options), settings)
    if writable:
        store.build()
    return store


class FaissStore:
    """Searches large segments by FAISS and small ones exactly; what it finds is sorted by true cosines.

    What is written is there when the exact store has it. The index files follow: until they are written, and if that
    fails, what they are of is searched exactly, with a warning. Conditions and deleted items are left out while FAISS
    searches, so that k come of those that fit; where few fit, these are compared one by one.

    Attributes:
        exact: the store that holds everything.
        settings: of FAISS.
    """

    def __init__(self, store: exact.ExactStore, options: dict[str, Any], settings: Settings) -> None:
        self.exact, self.options, self.settings = store, options, settings
        self._opened: dict[Path, Any] = {}

    @property
    def schema(self) -> pa.Schema:
        """The columns of metadata."""
        return self.exact.schema

    def __len__(self) -> int:
        return len(self.exact)

    def ids(self) -> Iterator[str]:
        """Every id, in the order in which the items came."""
        return self.exact.ids()

    def fetch(self, ids: Sequence[str]) -> Items:
        """Stored items in this order."""
        return self.exact.fetch(ids)

    def search(
        self, queries: Float[Tensor, "queries dim"], target: Subset, k: int, where: Sequence[Condition] = ()
    ) -> list[Found]:
        """The k nearest of all that fit, nearly all of them."""
        snapshot = self.exact.snapshot
        found = [
            self._of(part, number, queries, target, k, where, snapshot.schema)
            for number, part in enumerate(snapshot.parts)
            if target in part.segment.subsets
        ]
        return [
            Found([snapshot.parts[part].id_of(target, row) for part, row in places], scores)
            for scores, places in best(found, k, len(queries))
        ]

    def _of(
        self, part: Part, number: int, queries: Tensor, target: Subset, k: int, where: Sequence[Condition],
        schema: pa.Schema,
    ) -> Scores:  # fmt: skip
        vectors, allowed = part.segment.vectors(target), part.allowed(target, where, schema)
        if self.settings.kind == "flat":
            return scan_flat(queries, vectors, k, allowed, number)
        file = file_of(self.exact.folder, part, target, self.settings)
        index = None if file is None else self._read(file)
        if index is None:
            return scan(queries, vectors, k, allowed, number)
        return search(index, queries, vectors, k, allowed, self.settings, number)

    def _read(self, file: File) -> Any:
        if file.path not in self._opened:
            if not file.is_there():
                warnings.warn(
                    f"{file.rows} vectors of {self.exact.folder} have no index file of these options and are searched "
                    "exactly; open the index for writing to make it",
                    stacklevel=5,
                )
                return None
            self._opened[file.path] = read(file)
        return self._opened[file.path]

    def add(self, items: Items, replace: bool = False) -> Change:
        """Store items in a new segment, and make its index files."""
        return self.add_all([items], replace)

    def add_all(self, parts: Iterable[Items], replace: bool = False, about: About | None = None) -> Change:
        """Store items part after part, all of them or none, and make their index files."""
        change = self.exact.add_all(parts, replace, about)
        self.build()
        return change

    def delete(self, ids: Sequence[str]) -> int:
        """Forget items."""
        gone = self.exact.delete(ids)
        self._sweep(self._files())
        return gone

    def compact(self) -> None:
        """Write all items that are there into one segment, and make its index files."""
        self.exact.compact()
        self.build()

    def refresh(self) -> bool:
        """See what another process has published since."""
        return self.exact.refresh()

    def build(self) -> None:
        """Make the index files that are not there, and remove those of segments that are gone.

        Raises:
            ValueError: if one cannot be written; nothing is lost by that.
        """
        files = self._files()
        self._sweep(files)
        for file, vectors in files:
            if file.is_there():
                continue
            try:
                write(file, vectors, self.settings)
            except (OSError, RuntimeError) as error:  # FAISS says the second of a disk that is full
                raise ValueError(
                    f"{file.path} cannot be written ({error}). All items are stored and found, but slowly; make room, "
                    "and open the index for writing"
                ) from error

    @property
    def dial(self) -> str:
        """The option that trades time for recall."""
        return {"hnsw": "ef", "ivfpq": "nprobe"}.get(self.settings.kind, "")

    @property
    def dial_value(self) -> int:
        """What it is set to."""
        return getattr(self.settings, self.dial)

    def dialled(self, value: int) -> "FaissStore":
        """The same with the dial at another value."""
        other = FaissStore(self.exact, self.options, changed(self.settings, **{self.dial: value}))
        other._opened = self._opened
        return other

    def exactly(self) -> exact.ExactStore:
        """The store that compares every vector."""
        return self.exact

    def verify(self) -> list[str]:
        """Read everything and say what is wrong."""
        return [*self.exact.verify(), *(one for file, _ in self._files() if file.is_there() for one in check(file))]

    def close(self) -> None:
        """Let go of the files, and let another one write."""
        self._opened.clear()
        self.exact.close()

    def _files(self) -> list[tuple[File, Tensor]]:
        """The index files that there are to be, and the vectors of each."""
        found = []
        for part in self.exact.snapshot.parts:
            for subset in part.segment.subsets:
                file = file_of(self.exact.folder, part, subset, self.settings)
                if file is not None:
                    found.append((file, part.segment.vectors(subset)))
        return found

    def _sweep(self, files: Iterable[tuple[File, Tensor]]) -> None:
        used = {path for file, _ in files for path in (file.path, file.about)}
        self._opened = {path: index for path, index in self._opened.items() if path in used}
        for path in (self.exact.folder / FOLDER).glob("*"):
            if path not in used:
                path.unlink()
