"""The log of a step, one line of JSON an item: a run that was killed goes on and requests nothing twice.

The first line holds the step's settings. Every further line is one finished item, on disk before `add` returns.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class StepLog:
    """The finished items of one step, by key, in the order in which they came.

    A half line at the end, which a killed process leaves, is dropped (its item counts as not done). One thread of one
    process at a time may write to a file.

    Args:
        file: one a step, e.g. `photos.jsonl`; made with its first item if there is none.
        settings: what the step's results depend on (JSON: numbers, texts, lists); stored with the first item.

    Raises:
        ValueError: settings that differ from those stored, saying which; a file that is not such a log.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "photos.jsonl"
        >>> log = StepLog(file, {"per_species": 2})
        >>> log.add("144814/77", {"outcome": "kept", "file": "photos/144814/77.jpg"})
        >>> again = StepLog(file, {"per_species": 2})
        >>> again.done("144814/77"), again.done("144814/78"), again.counts
        (True, False, {'kept': 1})
        >>> StepLog(file, {"per_species": 3})
        Traceback (most recent call last):
        ...
        ValueError: .../photos.jsonl: its items were made with other settings: per_species was 2, is 3. Give the ...
    """

    def __init__(self, file: Path, settings: Mapping[str, Any]):
        self.file = Path(file)
        self.settings: dict[str, Any] = json.loads(_line(settings, str(self.file)))
        stored, records, self._size = _read(self.file) if self.file.exists() else (None, [], 0)
        if stored is not None:
            _check_same(self.file, stored, self.settings)
        self._records = {record["key"]: record for record in records}

    def done(self, key: str) -> bool:
        """Whether this item is finished, kept or not."""
        return key in self._records

    def get(self, key: str) -> dict[str, Any]:
        """The record of a finished item, with its `key`.

        Raises:
            KeyError: an item that is not finished.
        """
        if key not in self._records:
            raise KeyError(f"{self.file.name} has no item {key!r}; ask done() first")
        return dict(self._records[key])

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Write a finished item to the disk. When this returns, it survives a kill and a power cut.

        Args:
            key: of the item, the same in every run.
            record: JSON; `outcome` is "kept" or says why it was not.

        Raises:
            ValueError: an item that is there already; something that is not JSON; a file that another process wrote to.
            OSError: the disk is full; nothing of this item stays, and those before it do.
        """
        if key in self._records:
            raise ValueError(f"{self.file}: the item {key!r} is there already; ask done() first")
        line = _line({"key": key, **record}, f"{self.file}, item {key!r}")
        size = self.file.stat().st_size if self.file.exists() else 0
        if size > self._size and not self._own_tail():
            raise ValueError(f"{self.file}: another process is writing to it; stop one of the two and run again")
        self._append(line if self._size else _line({"settings": self.settings}, str(self.file)) + line)
        self._records[key] = json.loads(line)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The records in the order in which they were finished."""
        return iter([dict(record) for record in self._records.values()])

    def __len__(self) -> int:
        return len(self._records)

    @property
    def counts(self) -> dict[str, int]:
        """How many items have which `outcome`; items without one are not counted."""
        return dict(Counter(record["outcome"] for record in self._records.values() if "outcome" in record))

    def _own_tail(self) -> bool:
        """Whether what follows the known size is only the half line that was there when the file was read."""
        with self.file.open("rb") as file:
            file.seek(self._size)
            return b"\n" not in file.read()

    def _append(self, lines: str) -> None:
        content = lines.encode()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as file:
            file.truncate(self._size)  # a half line that a killed process left
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self.file, self._size)
                raise
        self._size += len(content)


def read_records(file: Path) -> list[dict[str, Any]]:
    """The records of a step's file whatever its settings were, for the steps that follow it.

    Raises:
        ValueError: no such file, or one that is not a step's.
    """
    if not Path(file).exists():
        raise ValueError(
            f"{file}: expected the items of a finished step, but there is no such file; run that step first"
        )
    return _read(Path(file))[1]


def _read(file: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]], int]:
    """The settings, the records and how many bytes of the file are whole lines."""
    *lines, _ = file.read_bytes().split(b"\n")
    parsed: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: expected one JSON object; got {line[:60]!r} ({error})") from error
        if not isinstance(content, dict) or ("settings" if number == 1 else "key") not in content:
            what = '{"settings": ...}' if number == 1 else 'an object with a "key"'
            raise ValueError(f"{file}, line {number}: expected {what}; got {line[:60]!r}. It is not a step's file")
        parsed.append(content)
    size = sum(len(line) + 1 for line in lines)
    return (parsed[0]["settings"] if parsed else None), parsed[1:], size


def _check_same(file: Path, stored: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    absent = "not set"
    differing = [
        f"{name} was {stored.get(name, absent)!r}, is {given.get(name, absent)!r}"
        for name in sorted({*stored, *given})
        if stored.get(name, absent) != given.get(name, absent)
    ]
    if differing:
        raise ValueError(
            f"{file}: its items were made with other settings: {'; '.join(differing)}. "
            "Give the same settings, or another folder, or remove this file to begin the step anew"
        )


def _line(content: Mapping[str, Any], where: str) -> str:
    try:
        return json.dumps(dict(content), ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: expected texts, finite numbers, lists and mappings of them; {error}") from error


def progress_bar(what: str, show: bool) -> Progress:
    """A bar on the terminal's standard error, hidden where that is no terminal."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    hidden = not (show and console.is_terminal)
    return Progress(TextColumn(what), *columns, console=console, disable=hidden, transient=True)


def seed_of(*parts: str | int) -> int:
    """A seed from 0 to 2^63 - 1 made of names and numbers; the same on every machine, in whichever order steps run.

    >>> seed_of(0, "Turdus merula", 3) == seed_of(0, "Turdus merula", 3), seed_of("a", "b") == seed_of("ab")
    (True, False)
    """
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_of(*parts: str | int) -> np.random.Generator:
    """A random generator of its own for some names and numbers."""
    return np.random.default_rng(seed_of(*parts))
