"""A data set of pictures, sounds and texts from listed rows, in which a file that cannot be read is named."""

from collections.abc import Mapping
from pathlib import Path

import torch

from confu.data.columns import Column
from confu.data.dataset import ArrayDataset
from confu.data.readers import Reader
from confu_paper.datasets.birds import BirdRows
from confu_paper.datasets.decoding import caption_column, decode
from confu_paper.datasets.problems import show_problems


def media_dataset(
    rows: BirdRows,
    readers: Mapping[str, Reader],
    cache: Path | str,
    workers: int = 0,
    progress: bool = True,
) -> tuple[ArrayDataset, list[str]]:
    """Still images, sounds and texts of listed rows, decoded once into the cache.

    Args:
        rows: with a source for each of the readers.
        readers: by modality, in the order that the data set shall have, e.g. {"image": ..., "audio": ..., "text": ...}.
        cache: as for `decode`.
        workers: threads that read.
        progress: whether to draw a progress bar; the problems found are summed up beside it.

    Returns:
        The data set, and one line for each file that could not be read. Its row lacks that modality; a row of which
        nothing is left is not in the data set.

    Raises:
        ValueError: a modality without a source, or nothing that can be read.
    """
    lacking = [name for name in readers if name not in rows.sources]
    if lacking:
        raise ValueError(f"readers: the rows have no {', '.join(lacking)}; they have {', '.join(rows.sources)}")
    problems: list[str] = []
    there: dict[str, torch.Tensor] = {}
    made = {}
    for name, reader in readers.items():
        if reader.modality_kind == "text":
            texts = [
                _text(reader, source, f"row {row}, {name}", problems)
                for row, source in zip(rows.ids, rows.sources[name])
            ]
            there[name] = torch.tensor([text is not None for text in texts])
            made[name] = texts
        else:
            found = decode(rows.sources[name], reader, cache, None, workers, progress)
            problems += [f"row {rows.ids[row]} has no {name}: {error}" for row, error in found.errors.items()]
            there[name] = torch.tensor([keys is not None for keys in found.keys])
            made[name] = found
    kept = torch.stack(list(there.values())).any(0).nonzero()[:, 0].tolist()
    if not kept:
        first = f"; the first: {problems[0]}" if problems else ""
        raise ValueError(f"not one of {len(rows)} rows can be read{first}")
    columns: dict[str, Column] = {}
    for name, reader in readers.items():
        if reader.modality_kind == "text":
            columns[name] = caption_column([made[name][row] for row in kept], reader)
        else:
            made[name].keys[:] = [made[name].keys[row] for row in kept]
            columns[name] = made[name].column()
    if progress:
        show_problems("files", problems)
    left = rows.select(kept)
    return ArrayDataset(columns, left.labels, left.ids, left.class_names), problems


def _text(reader: Reader, source: str | None, where: str, problems: list[str]) -> str | None:
    if source is None:
        return None
    try:
        return str(reader.read(source))
    except ValueError as error:
        problems.append(f"{where}: {error}")
        return None
