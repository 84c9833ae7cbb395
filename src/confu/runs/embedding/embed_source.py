"""What `confu embed` reads: the columns of a manifest that a model's modalities come from, shard by shard."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from confu.checks import check_known
from confu.data.manifest import Manifest, Problem
from confu.data.manifest.address import FileResolver
from confu.data.manifest.cells import Source, cells, source_of
from confu.data.manifest.kinds import ROLES
from confu.data.manifest.problem import described
from confu.inference.embedder import Embedder
from confu.plan import Subset

_AT_ONCE = 10_000  # cells in Python at a time


def choose_columns(embedder: Embedder, manifest: Manifest, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The column of each modality of the model that the manifest has.

    Args:
        embedder: what is known of its training says which column a modality came from; else it is its own name.
        manifest: its columns.
        given: modality -> column, in place of that.

    Raises:
        ValueError: if `given` names an unknown modality or column, or no modality has a column.
    """
    for name, column in (given or {}).items():
        check_known("modality", name, embedder.modalities)
        check_known(f"{manifest.address}: column", column, manifest.columns)
    own = {name: embedder.parts.facts.columns.get(name, name) for name in embedder.modalities} | dict(given or {})
    found = {name: column for name, column in own.items() if column in manifest.columns}
    if not found:
        raise ValueError(
            f"{manifest.address}: has none of the columns {', '.join(own.values())} that the model's modalities come "
            f"from, only {', '.join(manifest.columns) or 'none'}; say which is which, e.g. --column "
            f"{embedder.modalities[0]}={manifest.columns[0] if manifest.columns else 'COLUMN'}"
        )
    return found


def choose_shown_subsets(
    embedder: Embedder, columns: Mapping[str, str], given: Sequence[Subset | str] | None = None
) -> tuple[Subset, ...]:
    """The subsets to embed: those given, or all that the model embeds and the columns can fill.

    Raises:
        ValueError: if the model does not embed one of them, or the manifest has no column for it.
    """
    if given is None:
        chosen = tuple(subset for subset in embedder.subsets if subset <= set(columns))
        if not chosen:
            raise ValueError(
                f"the manifest has columns for {', '.join(columns)}, of which the model embeds no subset; it embeds "
                f"{', '.join(map(str, embedder.subsets))}"
            )
        return chosen
    for subset in map(Subset.parse, given):
        if not embedder.supports(subset):
            raise ValueError(f"the model does not embed {subset}; it embeds {', '.join(map(str, embedder.subsets))}")
        if missing := [name for name in subset if name not in columns]:
            raise ValueError(f"the manifest has no column for {', '.join(missing)}, which {subset} needs")
    wanted = set(map(Subset.parse, given))
    return tuple(subset for subset in embedder.subsets if subset in wanted)  # in the plan's order, each once


def manifest_digest(manifest: Manifest, columns: Mapping[str, str]) -> str:
    """SHA-256 of what the cells hold that decide what is embedded: columns, ids and labels. Files are not opened."""
    names = [name for name in ROLES if name in manifest.table.column_names] + list(columns.values())
    hasher = hashlib.sha256()
    for name in dict.fromkeys(names):
        column = manifest.column(name)
        hasher.update(f"column {name!r} {len(column)}".encode())
        for start in range(0, len(column), _AT_ONCE):
            for cell in cells(column.slice(start, _AT_ONCE)):
                _digest(cell, hasher)
    return hasher.hexdigest()


def _digest(cell: Any, hasher: Any) -> None:
    if isinstance(cell, np.ndarray):
        head, content = f"array {cell.dtype} {cell.shape}", np.ascontiguousarray(cell).tobytes()
    elif isinstance(cell, bytes):
        head, content = f"bytes {len(cell)}", cell
    else:
        head, content = repr(cell), b""
    hasher.update(f"{len(head)} {head}".encode())
    hasher.update(content)


class ManifestShards:
    """The sources of a manifest, some rows at a time.

    A path that leaves the folder of the manifest is a problem of its row, as a file that cannot be read is.

    Args:
        manifest: of all rows.
        columns: modality -> column.
        kinds: modality -> what the column holds.
    """

    def __init__(self, manifest: Manifest, columns: Mapping[str, str], kinds: Mapping[str, str]) -> None:
        self.manifest, self.columns, self.kinds = manifest, dict(columns), dict(kinds)
        self._resolve = FileResolver(manifest.base, manifest.allow_outside)

    def sources(self, rows: range) -> tuple[dict[str, list[Source | None]], list[Problem]]:
        """What the readers get of these rows, and the cells that cannot be sources."""
        found: dict[str, list[Source | None]] = {}
        problems = []
        for name, column in self.columns.items():
            found[name] = []
            for row, cell in zip(rows, cells(self.manifest.column(column).slice(rows.start, len(rows)))):
                try:
                    found[name].append(source_of(cell, self.kinds[name], self._resolve))
                except ValueError as error:
                    found[name].append(None)
                    problems.append(self.problem(row, name, cell, str(error)))
        return found, problems

    def problem(self, row: int, modality: str, source: object, what: str) -> Problem:
        """What is wrong with a cell, as data."""
        return Problem(
            row,
            self.manifest.ids[row],
            self.columns[modality],
            described(source, whole=self.kinds[modality] != "text"),
            what,
        )
