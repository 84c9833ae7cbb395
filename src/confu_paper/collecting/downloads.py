"""Files that are fetched one after another, each noted in a step's log with its source, licence and author."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confu_paper.collecting.content import Kind
from confu_paper.collecting.http import Client
from confu_paper.collecting.received import Download, Refused, Unavailable, found
from confu_paper.collecting.steps import StepLog

_IN_A_ROW = 5  # failures, after which it is the host that is down and not this file


@dataclass(frozen=True)
class Wanted:
    """A file to fetch.

    Attributes:
        key: in the log.
        url: of the file.
        stem: where it shall lie under the collection's folder, without the suffix.
        record: what is noted of it, besides `file`, `bytes`, `sha256`, `source_url` and `outcome`.
    """

    key: str
    url: str
    stem: str
    record: Mapping[str, Any] = field(default_factory=dict)


class Downloads:
    """Fetches files into a collection and notes how each ended.

    A file that failed after every try is noted as lost once others come through again; as long as none does, the host
    is down: nothing is noted, and the next run asks for it again.

    Args:
        client: asks.
        log: notes.
        out: the collection's folder.
        kind: what the files must be.
        most: bytes of one; larger ones are left out.
        check: raises a `ValueError` on a file that is not readable after all.
    """

    def __init__(
        self,
        client: Client,
        log: StepLog,
        out: Path,
        kind: Kind,
        most: int,
        check: Callable[[Path], None] | None = None,
    ) -> None:
        self._client, self._log, self._out = client, log, out
        self._kind: Kind = kind
        self._most, self._check = most, check
        self._failed: list[tuple[Wanted, str]] = []
        self._any_kept = False

    def keep(self, wanted: Wanted) -> bool:
        """Whether this file is there now, from this run or an earlier one.

        Raises:
            Unavailable: this and four before it could not be had.
        """
        if self._log.done(wanted.key):
            return self._log.get(wanted.key)["outcome"] == "kept"
        stem = self._out / wanted.stem
        try:
            # A process that was killed between the file and the note on it left the file: it is not fetched again.
            download = found(stem) or self._client.download(wanted.url, stem, self._kind, self._most, self._check)
        except Refused as refused:
            self._note(wanted, refused.reason, {})
            return False
        except Unavailable as error:
            self._failed.append((wanted, error.reason))
            if len(self._failed) >= _IN_A_ROW:
                raise
            return False
        self._any_kept = True
        self._note_failed()
        self._note(wanted, "kept", _facts(download, self._out))
        return True

    def finish(self) -> None:
        """Note the files that failed although others came.

        Raises:
            Unavailable: none came in this run: the host is down.
        """
        if self._failed and not self._any_kept:
            wanted, reason = self._failed[0]
            names = ", ".join(one.key for one, _ in self._failed)
            raise Unavailable(f"{reason}; nothing could be had, not {names}", wanted.url)
        self._note_failed()

    def _note_failed(self) -> None:
        for wanted, reason in self._failed:
            self._note(wanted, f"lost: {reason}", {})
        self._failed.clear()

    def _note(self, wanted: Wanted, outcome: str, facts: Mapping[str, Any]) -> None:
        self._log.add(wanted.key, {"outcome": outcome, **wanted.record, "source_url": wanted.url, **facts})


def _facts(download: Download, out: Path) -> dict[str, Any]:
    file = download.file.relative_to(out).as_posix()
    return {"file": file, "bytes": download.bytes, "sha256": download.sha256}


def clear_partial(folder: Path) -> int:
    """Remove what a killed process had half written under a folder, and say how many files that were."""
    partial = list(folder.rglob(".*.partial")) if folder.is_dir() else []
    for file in partial:
        file.unlink()
    return len(partial)


def answered(log: StepLog, key: str, ask: Callable[[], Mapping[str, Any]], about: Mapping[str, Any]) -> dict[str, Any]:
    """What a source answered to one request, from the log if it was asked before.

    Args:
        log: of the answers.
        key: of the request.
        ask: asks, and gives what is to be kept of the answer, with an `outcome`.
        about: is noted beside it.

    Returns:
        the record; a final refusal is its `outcome`.

    Raises:
        Unavailable: no answer for now; nothing is noted.
        ValueError: an answer of another shape; nothing is noted.
    """
    if not log.done(key):
        try:
            with expected_shape(f"{log.file.name}, {key}"):
                record = ask()
        except Refused as refused:
            record = {"outcome": refused.reason}
        log.add(key, {**about, **record})
    return log.get(key)


@contextmanager
def expected_shape(where: str) -> Iterator[None]:
    """Say of an answer in JSON that lacks what its API promises where it came and what was missing."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{where}: the answer is not what the API's documentation promises ({type(error).__name__}: {error}); "
            "the API may have changed"
        ) from error
