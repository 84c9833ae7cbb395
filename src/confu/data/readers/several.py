"""Several files in one cell, such as the pictures of a product: the first of them, or all for a mean of features."""

from typing import Any

import numpy as np
import torch

from confu.checks import check_known
from confu.data.media import FILE_KINDS
from confu.data.readers.source import Source, is_missing, padded

USES = ("first", "mean")


class ListReader:
    """Lists of files, each read by a reader of one file; what is no list is a list of one.

    Its settings are those of the reader of one file with `list`. With "mean" an item is all of its files,
    (files, ...), which `confu.nn.encoders.wrappers.ListEncoder` encodes one by one and averages.

    Args:
        reader: of one file.
        use: "first", the first file of each list, or "mean", all of them.

    Raises:
        ValueError: another word; a reader of no files; or "mean" with one whose items differ in shape.
    """

    def __init__(self, reader: Any, use: str) -> None:
        check_known("list", use, USES)
        kind = reader.settings["kind"]
        if reader.modality_kind not in FILE_KINDS:
            raise ValueError(f"list: goes with readers of {', '.join(FILE_KINDS)} files, not with {kind!r}; remove it")
        if use == "mean" and not reader.stackable:
            raise ValueError(f"list: mean needs items of one shape, which {kind!r} does not give; take first")
        self.reader, self.use = reader, use
        self.settings: dict[str, Any] = {**reader.settings, "list": use}
        self.stackable: bool = reader.stackable and use == "first"
        self.modality_kind: str = reader.modality_kind
        self.scaling: Any = getattr(reader, "scaling", None)

    def read(self, source: Source) -> torch.Tensor:
        """The first file as the reader of one gives it, or all, (files, ...).

        Raises:
            ValueError: an empty list, or a file that cannot be read, with its place in the list.
        """
        files = files_of(source)
        if not files:
            raise ValueError("an empty list; leave the cell empty if there is no file")
        items = []
        for place, file in enumerate(files[:1] if self.use == "first" else files, start=1):
            try:
                items.append(self.reader.read(file))
            except ValueError as error:
                raise ValueError(f"file {place} of {len(files)}: {error}" if len(files) > 1 else str(error)) from error
        return items[0] if self.use == "first" else torch.stack(items)

    def collate(self, items: Any) -> Any:
        """What the encoder gets: of first files as of the reader of one; else `values` (n, most, ...) and `mask`."""
        if self.use == "first":
            return self.reader.collate(items)
        values = self.reader.collate(torch.cat(list(items)) if len(items) else [])
        if isinstance(values, dict):
            raise ValueError(f"list: mean does not go with {self.settings['kind']!r}, whose inputs are several tensors")
        return padded(values.split([len(item) for item in items]), values.shape[1:])


def files_of(source: Source) -> list[Any]:
    """The files of a list, without those that are missing; one that is no list alone.

    >>> files_of(["a.png", None, "b.png"]), files_of("a.png")
    (['a.png', 'b.png'], ['a.png'])
    """
    if isinstance(source, np.ndarray) and source.dtype.kind in "OU":  # as pandas holds lists
        source = source.tolist()
    return [one for one in source if not is_missing(one)] if isinstance(source, list) else [source]
