"""Items on their way into an exact store: checked against what is there, and written into a new segment."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from confu.index.about import About
from confu.index.columns import cast_columns, merged_schema, plain_columns
from confu.index.items import Items
from confu.index.segment_writing import SegmentWriter
from confu.index.snapshot import Snapshot


class Incoming:
    """One write. Use it as a context manager: what is not finished is removed.

    Args:
        folder: of the new segment.
        about: the subsets and the dim of the index.
        before: what is there.
        replace: whether items may take the place of those with the same id.

    Attributes:
        schema: of the metadata, once the items are in.
        replaced: part -> its rows whose items are replaced.
        ids: of the new items.
    """

    def __init__(self, folder: Path, about: About, before: Snapshot, replace: bool) -> None:
        self._folder, self._about, self._before, self._replace = folder, about, before, replace
        self._writer: SegmentWriter | None = None
        self._own = pa.schema([])
        self.schema = before.schema
        self.replaced: dict[int, list[int]] = {}
        self.ids: set[str] = set()

    def __enter__(self) -> "Incoming":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def take(self, parts: Iterable[Items]) -> None:
        """Write items part after part.

        Raises:
            ValueError: for an id that is there, or that comes twice; for columns that do not fit.
        """
        for items in parts:
            metadata = plain_columns(items.metadata)
            if self._writer is None:
                self._own, self.schema = metadata.schema, merged_schema(self._before.schema, metadata.schema)
                self._writer = SegmentWriter(self._folder, self._about.subsets, self._about.dim, self._own)
            elif {*metadata.column_names} != {*self._own.names}:
                raise ValueError(
                    "the parts of one write must have the same columns of metadata; got "
                    f"{', '.join(self._own.names) or 'none'} and {', '.join(metadata.column_names) or 'none'}"
                )
            self._check(items.table.ids)
            self._writer.append(Items(items.table, cast_columns(metadata, self._own, len(items)), items.media))

    def finish(self) -> list[dict[str, Any]]:
        """The entry of the new segment, if there is one, for `index.json`."""
        return [self._writer.finish()] if self._writer is not None and self.ids else []

    def _check(self, ids: Iterable[str]) -> None:
        ids = list(ids)
        if twice := self.ids.intersection(ids):
            raise ValueError(f"id {min(twice)!r} stands twice among the new items; make each unique")
        if "" in ids:
            raise ValueError("an id must not be empty; give each item a name of its own")
        self.ids.update(ids)
        there = self._before.find(ids)
        if there and not self._replace:
            raise ValueError(
                f"id {min(there)!r} is in the index already, as are {len(there)} of these {len(ids)} items; replace "
                "them with replace=True (--replace), or give the new items other ids"
            )
        for part, row in there.values():
            self.replaced.setdefault(part, []).append(row)
